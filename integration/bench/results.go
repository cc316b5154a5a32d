package main

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// results is everything one run measured. It is also the JSON of -json.
type results struct {
	Machine   machine         `json:"machine"`
	Runs      int             `json:"runs"`
	FirstAdd  samples         `json:"firstAdd"` // on a node that has never had a pod
	Processes []processResult `json:"processes"`
	Kernel    processResult   `json:"kernel"` // the kernel work alone, no process
	Status    samples         `json:"status"` // of a node that has had a pod
	Bursts    []burstResult   `json:"bursts"`
	Scale     []scaleResult   `json:"scale"`
	Veth      []scaleResult   `json:"veth"`   // by what is on the node: nothing, links; and nothing, pods, while there are pods
	Router    []scaleResult   `json:"router"` // likewise
	Verdicts  []verdict       `json:"verdicts"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load"` // averages, when the run began
}

// A processResult is one program.
type processResult struct {
	Name string  `json:"name"`
	Add  samples `json:"add"`
	Del  samples `json:"del"`
	RSS  int64   `json:"peakRSS"` // bytes
	Size int64   `json:"size"`    // bytes
}

// A burstResult is many at once.
type burstResult struct {
	Name   string  `json:"name"`
	Total  samples `json:"total"` // until the last is done
	Errors int     `json:"errors"`
}

// A scaleResult is one node with so many pods.
type scaleResult struct {
	Name       string  `json:"name"`
	Pods       int     `json:"pods"`
	Add        samples `json:"add"`
	Del        samples `json:"del"`
	Forwarding rates   `json:"forwarding"`
}

// A verdict is one bar.
type verdict struct {
	Figure   string  `json:"figure"`
	Measured string  `json:"measured"`
	Value    float64 `json:"value"`
	Bar      float64 `json:"bar"`
	Unit     string  `json:"unit"`
	OK       bool    `json:"ok"`
}

// samples are times, in the order in which they were measured.
type samples []time.Duration

// p is a percentile: of 40 sorted samples, p(50) is the 20th and p(95) the 38th.
func (s samples) p(percent float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(s))[rank(len(s), percent)]
}

func rank(n int, percent float64) int { return max(int(math.Ceil(percent/100*float64(n)))-1, 0) }

// MarshalJSON writes the percentiles in milliseconds, and null for nothing.
func (s samples) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(map[string]any{"n": len(s), "p50ms": ms(s.p(50)), "p95ms": ms(s.p(95))})
}

func ms(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }

// rates are packets a second of CPU time, in the order in which they were measured.
type rates []float64

func (r rates) median() float64 {
	if len(r) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(r))[rank(len(r), 50)]
}

// ratio is the median of the ratios to what was measured next to each sample, so that slow drifts of the machine drop out.
func (r rates) ratio(beside rates) float64 {
	pairs := make(rates, len(r))
	for i := range r {
		pairs[i] = r[i] / beside[i]
	}
	return pairs.median()
}

// MarshalJSON writes the median, and null for nothing.
func (r rates) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(map[string]any{"n": len(r), "p50": math.Round(r.median())})
}

// judge compares the results with the bars.
func (r *results) judge() {
	bare, ours := r.Processes[0], r.Processes[1]
	bursts, kernel := r.Bursts[0], r.Bursts[1]
	alone, beside, most := r.Scale[0], r.Scale[1], r.Scale[len(r.Scale)-2]
	with := "with " + count(most.Pods) + " pods"

	r.ratio("ADD p50", "a bare Go process", ours.Add.p(50), bare.Add.p(50), 4)
	r.ratio("ADD p50 "+with, "with none", most.Add.p(50), alone.Add.p(50), 1.5)
	r.ratio("DEL p50", "deleting a bare veth", ours.Del.p(50), r.Kernel.Del.p(50), 1.2)
	r.atMost("STATUS p50", ms(r.Status.p(50)), 5, "ms")
	r.ratio(count(burst)+" ADDs at once, total", "the bare kernel work", bursts.Total.p(50), kernel.Total.p(50), 2)
	r.atMost(count(burst)+" ADDs at once, errors", float64(bursts.Errors), 0, "")
	r.atMost("peak RSS", float64(ours.RSS)/1e6, 6, "MB")
	r.atMost("binary", float64(ours.Size)/1e6, 4, "MB")
	r.atMost("forwarding lost "+with, 100*(1-most.Forwarding.ratio(beside.Forwarding)), 3, "%")

	for i, crowd := range [][]scaleResult{r.Veth, r.Router} {
		plugin, none, links, pods := r.Processes[2+i], crowd[0], crowd[1], crowd[3]
		r.ratio(plugin.Name+": ADD p50", "a bare Go process", plugin.Add.p(50), bare.Add.p(50), 5)
		r.ratio(plugin.Name+": ADD p50 with "+pods.Name, "with none", pods.Add.p(50), none.Add.p(50), 1.5)
		r.ratio(plugin.Name+": ADD p50 with "+links.Name, "with none", links.Add.p(50), none.Add.p(50), 1.5)
	}
}
