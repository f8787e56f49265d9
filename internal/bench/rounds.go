package bench

import "slices"

// Round is two rates measured one right after the other, so that both saw the same machine.
type Round struct {
	PerSecond float64 `json:"per_second"`
	Raw       float64 `json:"raw_per_second"`
}

// Shares is what rounds show together.
type Shares struct {
	// Median of the rates as parts of the raw ones of their rounds, which a round that was disturbed does not
	// move; 0 where there is none.
	Median float64
	// Least and Most are the least and the greatest of them.
	Least, Most float64
	// Raw is the median of the raw rates.
	Raw float64
}

// SharesOf sums rounds up.
func SharesOf(rounds []Round) Shares {
	if len(rounds) == 0 {
		return Shares{}
	}
	var shares, raws []float64
	for _, r := range rounds {
		shares, raws = append(shares, r.PerSecond/r.Raw), append(raws, r.Raw)
	}
	return Shares{Median: median(shares), Least: slices.Min(shares), Most: slices.Max(shares), Raw: median(raws)}
}

// median is the middle of some numbers, of an even number of them the mean of the two; it puts them in order.
func median(numbers []float64) float64 {
	slices.Sort(numbers)
	n := len(numbers)
	return (numbers[(n-1)/2] + numbers[n/2]) / 2
}
