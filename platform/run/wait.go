package run

import (
	"math"
	"runtime/metrics"
	"time"
)

// ProcessorWait returns a function that tells how long goroutines that could run have waited for a processor
// since it was called last: the wait that nine of ten did not exceed. It is where too much work is seen
// first, whatever the work is, and also where another process takes the processors away. The function
// is for one goroutine.
func ProcessorWait() func() time.Duration {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var before []uint64
	return func() time.Duration {
		metrics.Read(sample)
		h := sample[0].Value.Float64Histogram()
		wait := quantile(h, before, 0.9)
		before = append(before[:0], h.Counts...)
		return wait
	}
}

// quantile returns the upper bound of the bucket that holds the quantile q of what came to h since before.
func quantile(h *metrics.Float64Histogram, before []uint64, q float64) time.Duration {
	since := func(i int) uint64 {
		if i < len(before) {
			return h.Counts[i] - before[i]
		}
		return h.Counts[i]
	}
	var total, sum uint64
	for i := range h.Counts {
		total += since(i)
	}
	for i := range h.Counts {
		if sum += since(i); sum > 0 && float64(sum) >= q*float64(total) {
			return time.Duration(min(h.Buckets[i+1]*float64(time.Second), math.MaxInt64/2))
		}
	}
	return 0
}
