package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/check/chaos"
)

func TestSomeExperiments(t *testing.T) {
	draw := func(seed uint64) (names []string) {
		list, err := chaosFlags{seed: seed, count: 10, split: true}.chosen([]string{someOfAll})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if !e.Runs(chaos.Split) {
				t.Errorf("%s does not run on split processes", e.Name)
			}
			names = append(names, e.Name)
		}
		return names
	}
	first := draw(1)
	if len(slices.Compact(slices.Sorted(slices.Values(first)))) != 10 {
		t.Errorf("not ten: %q", first)
	}
	if again := draw(1); !slices.Equal(first, again) {
		t.Errorf("%q, and again %q", first, again)
	}
	if other := draw(2); slices.Equal(first, other) {
		t.Errorf("another seed draws the same: %q", other)
	}
}

// TestParts: those on a small disk have a system of their own, and of many for safety alone so do each twenty-five.
func TestParts(t *testing.T) {
	list := make([]chaos.Experiment, 60)
	list[59].Needs = chaos.SmallDiskNeed
	for _, c := range []struct {
		flags chaosFlags
		want  []int
	}{
		{chaosFlags{}, []int{59, 1}},
		{chaosFlags{safety: true}, []int{25, 25, 9, 1}},
	} {
		var got []int
		for _, part := range c.flags.parts(list) {
			got = append(got, len(part))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
	if got := (chaosFlags{}).parts(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// TestPattern: a pattern is every experiment that it matches and that runs there, and a name that is one is itself.
func TestPattern(t *testing.T) {
	for _, c := range []struct {
		flags chaosFlags
		name  string
		want  []string
	}{
		{chaosFlags{split: true}, "kill-[op]*", []string{"kill-order", "kill-payment"}},
		{chaosFlags{}, "kill-*", []string{"kill-all"}},
		{chaosFlags{split: true}, "cell-payment>psp-*-lost", []string{"cell-payment>psp-request-lost", "cell-payment>psp-answer-lost"}},
		{chaosFlags{split: true}, "kill-nobody*", nil},
	} {
		list, err := c.flags.chosen([]string{c.name})
		var got []string
		for _, e := range list {
			got = append(got, e.Name)
		}
		if !slices.Equal(got, c.want) || (err == nil) == (c.want == nil) {
			t.Errorf("%s: %q %v, want %q", c.name, got, err, c.want)
		}
	}
	if got, want := (chaosFlags{seed: 7, rounds: 5}).repeat([]string{"cell-saga-kill"}), "holdfast chaos run cell-saga-kill --seed 7 --rounds 5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := (chaosFlags{seed: 7}).repeat([]string{"poison", "cell-payment>*"}), "holdfast chaos run poison 'cell-payment>*' --seed 7"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestMissing: what is not there is said, with what to do about it. There is no bin/holdfastd-faultclock beside a test.
func TestMissing(t *testing.T) {
	_, err := chaosFlags{split: true}.chosen([]string{"clock-back-order"})
	var e *exit
	if !errors.As(err, &e) || e.code != ExitUnfit || !strings.Contains(err.Error(), "make faultclock") {
		t.Errorf("%v", err)
	}
	list, err := chaosFlags{split: true}.chosen([]string{allExperiments})
	if err != nil || slices.ContainsFunc(list, func(e chaos.Experiment) bool { return e.Needs == chaos.ClocksNeed }) {
		t.Errorf("all has what cannot be run: %v", err)
	}
}
