package calls_test

import (
	"context"
	"testing"
	"time"

	"holdfast/platform/calls"
	"holdfast/resilience"
	"holdfast/test/fakes"
)

type (
	verdict = calls.Verdict[struct{}]
	ending  = calls.Ending[*book]
)

// scripted is an operation of which each request and each question has the outcome that was written down for it, and the
// last of them for all that follow.
type scripted struct {
	does, says []calls.Outcome
	undone     bool

	done, asked int
}

func (s *scripted) Do(context.Context) verdict {
	s.done++
	return verdict{Outcome: s.does[min(s.done, len(s.does))-1], Status: calls.StatusDone}
}

func (s *scripted) Ask(context.Context) verdict {
	s.asked++
	return verdict{Outcome: s.says[min(s.asked, len(s.says))-1], Status: calls.StatusDone}
}

func (s *scripted) Undone(context.Context) bool { return s.undone }
func (s *scripted) Limit() int                  { return 3 }
func (s *scripted) Ended(verdict) ending        { return named("ended") }
func (s *scripted) GivenUp(verdict) ending      { return named("given up") }
func (s *scripted) NeverSent() ending           { return named("never sent") }

func named(end string) ending { return ending{Settle: settle(end).Settle} }

// TestAttempt makes attempts until an operation has ended, or many times.
func TestAttempt(t *testing.T) {
	const (
		yes, no, fails, lost, rejected = calls.Succeeded, calls.Refused, calls.Failed, calls.Lost, calls.Rejected
		many                           = 30
	)
	type outcomes = []calls.Outcome
	cases := []struct {
		name        string
		op          scripted
		end         string
		done, asked int
		whileHeld   bool
		attempts    int // without the one that ends it
	}{
		{"done", scripted{does: outcomes{yes}}, "ended", 1, 0, false, 0},
		{"its answer is lost", scripted{does: outcomes{lost}, says: outcomes{yes}}, "ended", 1, 1, false, 1},
		{"refused", scripted{does: outcomes{no}, says: outcomes{no}}, "given up", 1, 1, true, 0},
		{"fails", scripted{does: outcomes{fails}, says: outcomes{no}}, "given up", 3, 1, true, 2},
		{"fails, and was done", scripted{does: outcomes{fails}, says: outcomes{yes}}, "ended", 3, 1, false, 2},
		{"undone before", scripted{undone: true}, "never sent", 0, 0, true, 0},
		{"never answered", scripted{does: outcomes{lost}, says: outcomes{no}}, "given up", 4, 5, true, 5},
		{"rejected by a policy", scripted{does: outcomes{rejected}}, "", many, 0, false, 0},
		// The question after the last failure tells nothing: it is asked again, and nothing is given up.
		{"fails, questions and all", scripted{does: outcomes{fails}, says: outcomes{fails}}, "", 3, many - 2, false, many},
		{"fails, and must not be asked", scripted{does: outcomes{fails}, says: outcomes{rejected}}, "", 3, many - 2, false, 3},
		{"refused, and must not be asked", scripted{does: outcomes{no}, says: outcomes{rejected, yes}}, "ended", 1, 2, false, 1},
		// A party that failed for long, questions and all, hangs: it has the same two questions more as any other.
		{"fails for long and hangs", scripted{does: outcomes{fails, fails, fails, lost}, says: outcomes{fails, fails, no, no, yes}}, "ended", 4, 5, false, 6},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			deps, at := fakes.Deps(t), calls.Call{Kind: "authorise"}
			var end string
			var whileHeld bool
			for range many {
				r := calls.Attempt(t.Context(), at, &c.op, resilience.Backoff{Base: time.Second, Max: time.Minute}, deps)
				if r.Settle != nil {
					b := &book{}
					if err := r.Settle(b); err != nil {
						t.Fatal(err)
					}
					end, whileHeld = b.settled[0], r.WhileHeld
					break
				}
				// As the runner stores it.
				at.Unknown = r.Unknown
				if !r.Rejected {
					at.Attempts++
				}
				if r.Failed {
					at.Failures++
				}
			}
			is(t, "end", end, c.end)
			is(t, "requests", c.op.done, c.done)
			is(t, "questions", c.op.asked, c.asked)
			is(t, "only while held", whileHeld, c.whileHeld)
			is(t, "attempts that count", at.Attempts, c.attempts)
		})
	}
}
