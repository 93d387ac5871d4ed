package cli

import (
	"slices"
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
