package plugin

import "testing"

// TestTraceID: what is not a valid traceparent counts for nothing, as the W3C's Trace Context wants it.
func TestTraceID(t *testing.T) {
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for parent, want := range map[string]string{
		"":                                                        id[:0],
		"00-" + id + "-" + span + "-01":                           id,
		"00-" + id + "-" + span + "-00":                           id,
		"cc-" + id + "-" + span + "-01-x":                         id, // of a later version
		"00-" + id + "-" + span + "-01-x":                         "",
		"ff-" + id + "-" + span + "-01":                           "",
		"00-" + id + "-" + span:                                   "",
		"00-" + id[1:] + "-" + span + "-01":                       "",
		"00-" + id + "-" + span[1:] + "-01":                       "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-" + span + "-01":     "",
		"00-00000000000000000000000000000000-" + span + "-01":     "",
		"00-" + id + "-0000000000000000-01":                       "",
		"00-4bf92f3577b34da6a3ce929d0e0e473\n-" + span + "-01":    "",
		"00-4bf92f3577b34da6a3ce929d0e0e473 -" + span + "-01":     "",
		"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00": "",
	} {
		if got := traceID(parent); got != want {
			t.Errorf("%q: got %q, want %q", parent, got, want)
		}
	}
}
