package chaos

import (
	"context"
	"fmt"
	"time"

	"holdfast/check"
)

// Campaign runs experiments on one system, one after the other, each from rest to rest.
type Campaign struct {
	System System
	On     string // what the system is, for people
	Seed   uint64
	Repeat string // the command that draws the same again
	Rest   time.Duration
	// Safety has it ask for nothing but safety: the times before and after a fault are as short as that allows, and how
	// soon all was as before is not measured.
	Safety bool
	// Say is told each phase as it begins, and Tick each second how it stands.
	Say, Tick func(string)

	expected map[string]bool // keys of dead letters that experiments have made
}

// Run runs the experiments and judges each. Where ctx ends, everything is healed before it returns, and the
// report says what was not run. An error is of the machinery, and ends the campaign, too.
func (c *Campaign) Run(ctx context.Context, experiments []Experiment) (*Report, error) {
	began := time.Now()
	report := &Report{Version: 1, At: began.UTC(), Machine: check.Machine(), System: c.On, Seed: c.Seed, Repeat: c.Repeat, Experiments: []*Result{}, NotRun: []string{}}
	c.expected = map[string]bool{}
	var failed error
	for i := range experiments {
		e := experiments[i]
		if c.Safety {
			e.Target, e.Least, e.Judge = Target{}, Availability{}, nil
		}
		if ctx.Err() != nil || failed != nil {
			report.NotRun = append(report.NotRun, e.Name)
			continue
		}
		c.Say(fmt.Sprintf("%d of %d: %s", i+1, len(experiments), e.Name))
		result, err := c.experiment(ctx, &e)
		if err != nil {
			failed = fmt.Errorf("%s: %w", e.Name, err)
		}
		if result == nil {
			report.NotRun = append(report.NotRun, e.Name)
			continue
		}
		report.Experiments = append(report.Experiments, result)
		c.Say(fmt.Sprintf("%s: %s", e.Name, result.Verdict))
	}
	report.Took = time.Since(began)
	return report, failed
}
