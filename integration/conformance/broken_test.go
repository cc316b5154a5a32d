package conformance

const brokenType = "broken"

func broken() int { return 0 }
