// Package sometimes keeps count of the situations that a campaign must have been in: a race that was never run
// proves nothing, however green. The names are those of the design's list ("Races that must have happened").
package sometimes

import (
	"fmt"
	"maps"
	"slices"
)

// Sites are situations by name, each with how it is told: by what clients, outside parties and stores have on
// record, never by what the product says of its inside.
type Sites map[string]string

// Counts is how often each situation has come about.
type Counts map[string]int

// Add adds the counts of one run to those of a campaign.
func (c Counts) Add(run Counts) {
	for name, n := range run {
		c[name] += n
	}
}

// Missing are the sites that were never reached.
func (s Sites) Missing(c Counts) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(name string) bool { return c[name] > 0 })
}

// Lines are the sites with their counts, one a line, for a report.
func (s Sites) Lines(c Counts) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		lines = append(lines, fmt.Sprintf("%6d  %s: %s", c[name], name, s[name]))
	}
	return lines
}
