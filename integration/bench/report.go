package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// ratio judges one time as a multiple of another.
func (r *results) ratio(figure, of string, a, b time.Duration, bar float64) {
	v := float64(a) / float64(b)
	r.Verdicts = append(r.Verdicts, verdict{
		Figure: figure, Value: v, Bar: bar, Unit: "× " + of, OK: v <= bar,
		Measured: fmt.Sprintf("%s against %s", show(a), show(b)),
	})
}

// atMost judges a figure as it is.
func (r *results) atMost(figure string, v, bar float64, unit string) {
	r.Verdicts = append(r.Verdicts, verdict{Figure: figure, Value: v, Bar: bar, Unit: unit, OK: v <= bar})
}

// markdown writes the results as tables.
func (r *results) markdown(w io.Writer) error {
	var out strings.Builder
	m := r.Machine
	fmt.Fprintf(&out, "%d × %s, Linux %s, %s; load averages at the start %s. Times are medians of %d runs (95th percentile in brackets), fork to wait; everything in a table took turns in one run.\n\n",
		m.Cores, m.CPU, m.Kernel, m.Go, m.Load, r.Runs)

	row(&out, "figure", "measured", "ratio or value", "bar", "verdict")
	row(&out, "---", "---", "---", "---", "---")
	for _, v := range r.Verdicts {
		word := "ok"
		if !v.OK {
			word = "**missed**"
		}
		row(&out, v.Figure, v.Measured, strings.TrimSpace(number(v.Value)+" "+v.Unit), "≤ "+number(v.Bar), word)
	}
	out.WriteString("\n")

	row(&out, "one process", "ADD", "DEL", "peak RSS", "binary")
	row(&out, "---", "---", "---", "---", "---")
	for _, p := range r.Processes {
		row(&out, p.Name, p.Add.String(), p.Del.String(), mb(p.RSS), mb(p.Size))
	}
	row(&out, r.Kernel.Name, r.Kernel.Add.String(), r.Kernel.Del.String(), "", "")
	row(&out, "veth-host, first pod of a node", r.FirstAdd.String(), "", "", "")
	out.WriteString("\n")

	row(&out, count(burst)+" at once", "until the last is done", "errors")
	row(&out, "---", "---", "---")
	for _, b := range r.Bursts {
		row(&out, b.Name, b.Total.String(), count(b.Errors))
	}
	out.WriteString("\n")

	row(&out, "pods on the node", "ADD", "DEL", "forwarding, packets per CPU second", "of 0")
	row(&out, "---", "---", "---", "---", "---")
	for _, s := range r.Scale {
		row(&out, s.Name, s.Add.String(), s.Del.String(), s.Forwarding.String(), s.Forwarding.percent(r.Scale[1].Forwarding))
	}
	out.WriteString("\n")

	row(&out, "on the node", "veth: ADD", "DEL", "router: ADD", "DEL")
	row(&out, "---", "---", "---", "---", "---")
	for i, s := range r.Veth {
		other := r.Router[i]
		row(&out, s.Name, s.Add.String(), s.Del.String(), other.Add.String(), other.Del.String())
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// String is "1.62 ms (2.10)"; nothing for no samples.
func (s samples) String() string {
	if len(s) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s)", show(s.p(50)), strings.TrimSuffix(show(s.p(95)), " ms"))
}

// String is "231k"; nothing for no rates.
func (r rates) String() string {
	if len(r) == 0 {
		return ""
	}
	return fmt.Sprintf("%.0fk", r.median()/1000)
}

func (r rates) percent(of rates) string {
	if len(r) == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*r.ratio(of))
}

func show(d time.Duration) string {
	v := ms(d)
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

func mb(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }

// number shows at most two decimals.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

func count(n int) string { return strconv.Itoa(n) }
