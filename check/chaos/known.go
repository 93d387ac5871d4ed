package chaos

import (
	"fmt"
	"strings"
	"time"

	"holdfast/shop"
)

const (
	// opensWithin and closesWithin are the limits of the hypotheses; an attempt may take callTimeout.
	opensWithin  = 2 * time.Second
	closesWithin = 5 * time.Second
	callTimeout  = 3 * time.Second
	acceptLimit  = 50 * time.Millisecond
)

// known are the experiments of microservices and their overload that others have written of, each on its own load.
func known(length time.Duration) []Experiment {
	calm := min(length, 30*time.Second) // enough for the backlog of a fault of a minute to be carried out
	return []Experiment{pspDegraded(length, calm), carrierDown(length, calm), overload(length, calm)}
}

// pspDegraded is the experiment of microservices-demo issue 3474: there, a slow or dead payment service made
// the checkout exactly as slow, or hang.
func pspDegraded(length, calm time.Duration) Experiment {
	return Experiment{
		Name: "psp-degraded", Where: Up, Load: Load{Rate: 100}, Blast: "the payment step; orders wait in it", Watch: []string{"psp.authorise"},
		Hypothesis: "A payment provider that is slow, fails, or never answers is not felt by those who place orders: p99 stays below 50 ms. The breaker opens within 2 s of the first failures and closes within 5 s of the recovery, the provider gets at most 1.1 authorisations per order, and no order is lost.",
		Phases: []Phase{
			{Name: "all well", For: calm},
			{Name: "+2 s latency", For: length, Faults: psp(Wrong{Latency: "2s"})},
			{Name: "well again 1", For: calm},
			{Name: "100 % errors", For: length, Faults: psp(Wrong{Status: 500})},
			{Name: "well again 2", For: calm},
			{Name: "answers lost", For: length, Faults: psp(Wrong{Lose: "answer"})},
			{Name: "well again 3", For: calm},
		},
		Judge: func(r *Result) (failed []string) {
			failed = append(failed, r.acceptedFast(acceptLimit)...)
			failed = append(failed, r.opened("psp.authorise", "100 % errors", opensWithin)...)
			failed = append(failed, r.opened("psp.authorise", "answers lost", callTimeout+opensWithin)...)
			failed = append(failed, r.closed("psp.authorise", "well again 2", closesWithin)...)
			failed = append(failed, r.closed("psp.authorise", "well again 3", closesWithin)...)
			failed = append(failed, r.attempts(1.1)...)
			return append(failed, r.settled()...)
		},
	}
}

func psp(wrong Wrong) []Fault { return []Fault{&party{name: "psp", wrong: wrong}} }

func carrierDown(length, calm time.Duration) Experiment {
	return Experiment{
		Name: "carrier-down", Where: Up, Load: Load{Rate: 100}, Blast: "the shipping step; orders wait in it", Watch: []string{"carrier.schedule"},
		Hypothesis: "A carrier that never answers is felt neither by those who place orders nor by the payment step: orders are accepted with p99 below 50 ms, money is authorised at the same rate, and everything is confirmed after the recovery.",
		Phases: []Phase{
			{Name: "all well", For: calm},
			{Name: "carrier down", For: length, Faults: []Fault{&party{name: "carrier", wrong: Wrong{Lose: "request"}}}},
			{Name: "well again", For: calm},
		},
		Judge: func(r *Result) (failed []string) {
			failed = append(failed, r.acceptedFast(acceptLimit)...)
			failed = append(failed, r.opened("carrier.schedule", "carrier down", callTimeout+opensWithin)...)
			failed = append(failed, r.closed("carrier.schedule", "well again", closesWithin)...)
			if p := r.phase("carrier down"); float64(p.PSP) < 0.9*float64(p.Accepted) {
				failed = append(failed, fmt.Sprintf("the payment step was affected: %d requests at the provider for %d orders", p.PSP, p.Accepted))
			}
			return append(failed, r.settled()...)
		},
	}
}

func overload(length, calm time.Duration) Experiment {
	const sustainable = 300 // for 2 cores with the load generator on them
	return Experiment{
		Name: "overload", Where: Up, Load: Load{Rate: sustainable, Cancels: 10}, Blast: "new orders, of which most are refused",
		Hypothesis: "Ten times the load that can be sustained is refused quickly instead of waiting: at least 90 % of the confirmations of the time before go on, at least 99.9 % of the cancels are answered, memory stays bounded, and 10 s later all is as before.",
		Phases: []Phase{
			{Name: "sustainable", For: calm},
			{Name: "ten times", For: length, Faults: []Fault{&burst{rate: 9 * sustainable}}},
			{Name: "settling", For: 10 * time.Second},
			{Name: "as before", For: calm},
		},
		Judge: func(r *Result) (failed []string) {
			before, during, after := r.phase("sustainable"), r.phase("ten times"), r.phase("as before")
			if during.goodput() < 0.9*before.goodput() {
				failed = append(failed, fmt.Sprintf("confirmations fell from %.0f to %.0f a second", before.goodput(), during.goodput()))
			}
			cancels, answered := 0, 0
			for _, p := range r.Phases {
				cancels, answered = cancels+p.Cancels, answered+p.Answered
			}
			if float64(answered) < 0.999*float64(cancels) {
				failed = append(failed, fmt.Sprintf("%d of %d cancels were answered", answered, cancels))
			}
			if after.goodput() < 0.9*before.goodput() || after.Accept.P99 > 2*before.Accept.P99+acceptLimit {
				failed = append(failed, fmt.Sprintf("10 s later it is not as before: %.0f confirmations a second and an acceptance p99 of %s, before %.0f and %s", after.goodput(), after.Accept.P99, before.goodput(), before.Accept.P99))
			}
			return append(failed, r.settled()...)
		},
	}
}

// goodput is the orders that were confirmed, per second.
func (p PhaseReport) goodput() float64 { return float64(p.Confirmed) / p.Lasted.Seconds() }

func (r *Result) phase(name string) PhaseReport {
	for _, p := range r.Phases {
		if p.Name == name {
			return p
		}
	}
	return PhaseReport{}
}

func (r *Result) acceptedFast(limit time.Duration) (failed []string) {
	for _, p := range r.Phases {
		if p.Accept.P99 > limit {
			failed = append(failed, fmt.Sprintf("%s: acceptance p99 %s, want at most %s", p.Name, p.Accept.P99, limit))
		}
		if p.Accepted < p.Sent {
			failed = append(failed, fmt.Sprintf("%s: %d of %d orders were accepted", p.Name, p.Accepted, p.Sent))
		}
	}
	return failed
}

// came is when a breaker came to a state in a phase, for the first time and for the last.
func (r *Result) came(breaker, phase, state string) (first, last time.Duration, ok bool) {
	p := r.phase(phase)
	for _, c := range r.Changes {
		if c.Breaker == breaker && c.State == state && c.At >= p.Began && c.At < p.Began+p.Lasted {
			if !ok {
				first = c.At - p.Began
			}
			last, ok = c.At-p.Began, true
		}
	}
	return first, last, ok
}

func (r *Result) opened(breaker, phase string, within time.Duration) []string {
	if first, _, ok := r.came(breaker, phase, "open"); !ok || first > within {
		return []string{fmt.Sprintf("%s: %s opened after %s (%t), want within %s", phase, breaker, first, ok, within)}
	}
	return nil
}

func (r *Result) closed(breaker, phase string, within time.Duration) []string {
	if _, last, ok := r.came(breaker, phase, "closed"); !ok || last > within {
		return []string{fmt.Sprintf("%s: %s closed for good after %s (%t), want within %s", phase, breaker, last, ok, within)}
	}
	return nil
}

func (r *Result) attempts(most float64) []string {
	if r.Attempts > most {
		return []string{fmt.Sprintf("%.3f authorisations per order reached the provider, want at most %.1f", r.Attempts, most)}
	}
	return nil
}

// settled checks that every order has an outcome, and that none of it is a failure of ours.
func (r *Result) settled() (failed []string) {
	for status, n := range r.Outcomes {
		switch shop.OrderStatus(status) {
		case shop.Confirmed, shop.Fulfilled, shop.Cancelled:
		case shop.Rejected:
			if n > 0 {
				failed = append(failed, fmt.Sprintf("%d orders were rejected, though each could have been carried out", n))
			}
		default:
			failed = append(failed, fmt.Sprintf("%d orders are %s", n, strings.ReplaceAll(status, "_", " ")))
		}
	}
	return failed
}
