package conformance

import (
	"fmt"
	"strings"
)

// Report is the verdicts on the rows as a table in Markdown.
func Report(rows []Row, verdicts []Verdict) string {
	var b strings.Builder
	count := map[Outcome]int{}
	for _, v := range verdicts {
		count[v.Outcome]++
	}
	fmt.Fprintf(&b, "%d rows: %d passed, %d failed, %d noted, %d do not apply\n\n| row | level | verdict | |\n|---|---|---|---|\n",
		len(rows), count[Passed], count[Failed], count[Noted], count[Skipped])
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "\t", " ")
	for i, r := range rows {
		if verdicts[i].Outcome == "" {
			continue // -run left it out
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Name, r.Level, verdicts[i].Outcome, cell.Replace(verdicts[i].Reason))
	}
	return b.String()
}
