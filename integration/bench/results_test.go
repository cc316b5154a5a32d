package main

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	forty := make(samples, 40)
	for i := range forty {
		forty[i] = time.Duration(40 - i) // 40 … 1
	}
	for _, test := range []struct {
		name    string
		s       samples
		percent float64
		want    time.Duration
	}{
		{"nothing", nil, 50, 0},
		{"one", samples{7}, 95, 7},
		{"median of forty", forty, 50, 20},
		{"95th of forty", forty, 95, 38},
		{"all of forty", forty, 100, 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.s.p(test.percent); got != test.want {
				t.Errorf("p(%v) = %v, want %v", test.percent, got, test.want)
			}
		})
	}
}

func TestRatioIgnoresDrift(t *testing.T) {
	beside := rates{100, 50, 10} // the machine slows down
	if got := (rates{90, 45, 9}).ratio(beside); got != 0.9 {
		t.Errorf("ratio = %v, want 0.9", got)
	}
}
