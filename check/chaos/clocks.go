package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How far clocks jump.
const (
	ahead = time.Hour
	back  = -5 * time.Minute
)

// jump is a clock of one replica that is set wrong.
type jump struct {
	kind string
	by   time.Duration

	hit    Clocked
	before int64
	bites  int64
}

func (j *jump) Touches() string { return j.kind }

func (j *jump) Describe() string {
	whose := "a replica of " + j.kind
	if j.hit != nil {
		whose = j.hit.Name()
	}
	if j.by < 0 {
		return fmt.Sprintf("the clock of %s is %s behind", whose, -j.by)
	}
	return fmt.Sprintf("the clock of %s is %s ahead", whose, j.by)
}

func (j *jump) Inject(_ context.Context, f *Field) (err error) {
	var parts []Clocked
	for _, p := range f.System.Parts() {
		if c, ok := p.(Clocked); ok && c.Kind() == j.kind {
			parts = append(parts, c)
		}
	}
	if len(parts) == 0 {
		return fmt.Errorf("there is no %s here whose clock can be set", j.kind)
	}
	slices.SortFunc(parts, func(a, b Clocked) int { return strings.Compare(a.Name(), b.Name()) })
	j.hit = parts[f.Rand.IntN(len(parts))]
	if j.before, err = j.hit.Shown(); err != nil {
		return err
	}
	return j.hit.SetClock(j.by)
}

// Heal puts the clock right, in one jump.
func (j *jump) Heal(context.Context) (err error) {
	if j.hit == nil {
		return nil
	}
	if err := j.hit.SetClock(0); err != nil {
		return err
	}
	shown, err := j.hit.Shown()
	j.bites = shown - j.before
	return err
}

// Bites is how many wrong times were shown.
func (j *jump) Bites() (int64, error) { return max(0, j.bites), nil }

// clocks sets the clock of one replica wrong, and that of nobody else.
func clocks(length time.Duration) (list []Experiment) {
	for _, x := range []struct {
		kind string
		by   time.Duration
	}{
		{"order", ahead}, {"inventory", ahead}, {"payment", ahead}, {"gateway", ahead}, {"order", back}, {"payment", back}, {"gateway", back},
	} {
		name, words := "ahead", fmt.Sprintf("%s ahead", x.by)
		if x.by < 0 {
			name, words = "back", fmt.Sprintf("%s behind", -x.by)
		}
		list = append(list, single(Experiment{
			Name: fmt.Sprintf("clock-%s-%s", name, x.kind), Where: Split, Needs: ClocksNeed, Blast: "one replica of " + x.kind,
			Hypothesis: fmt.Sprintf("A replica of %s whose clock is %s is not noticed: nothing ends before its time or stays beyond it, orders are accepted and confirmed, and %s after it is right again all is as before.", x.kind, words, linkHealed),
			Target:     Target{Within: linkHealed}, Least: Availability{all, all, all},
		}, length, &jump{kind: x.kind, by: x.by}))
	}
	return list
}
