package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/check/chaos"
	"holdfast/check/cluster"
)

// mostOnOne is how many experiments for safety alone are run on one system: what is checked after each grows with
// what all of them have stored.
const mostOnOne = 25

// parts divides experiments into those that are run on one system.
func (f chaosFlags) parts(list []chaos.Experiment) (parts [][]chaos.Experiment) {
	most := max(1, len(list))
	if f.safety {
		most = mostOnOne
	}
	first := slices.IndexFunc(list, small)
	if first < 0 {
		first = len(list)
	}
	for _, of := range [][]chaos.Experiment{list[:first], list[first:]} {
		parts = append(parts, slices.Collect(slices.Chunk(of, most))...)
	}
	return parts
}

// repeat is the command that draws the same again.
func (f chaosFlags) repeat(args []string) string {
	again := "holdfast chaos run"
	for _, name := range args {
		if strings.ContainsAny(name, ">*?[") {
			name = "'" + name + "'"
		}
		again += " " + name
	}
	again += fmt.Sprintf(" --seed %d", f.seed)
	if f.length > 0 {
		again += fmt.Sprintf(" --length %s", f.length)
	}
	if f.split {
		again += " --split"
	}
	if f.split && f.temporal != cluster.OnSQLite {
		again += fmt.Sprintf(" --temporal-store %s", f.temporal)
	}
	if f.safety {
		again += " --safety"
	}
	if slices.Contains(args, pairsOfFaults) || slices.Contains(args, someOfAll) {
		again += fmt.Sprintf(" --count %d", f.count)
	}
	if f.rounds > 1 {
		again += fmt.Sprintf(" --rounds %d", f.rounds)
	}
	return again
}

// cells are the single faults that can be made here.
func (f chaosFlags) cells() []chaos.Experiment { return f.possible(chaos.Cells(f.length, f.rounds)) }

func small(e chaos.Experiment) bool { return e.Needs == chaos.SmallDiskNeed }

func needed(list []chaos.Experiment, need chaos.Need) bool {
	return slices.ContainsFunc(list, func(e chaos.Experiment) bool { return e.Needs == need })
}

// machine knows what is not here, once it was asked.
type machine map[chaos.Need]error

// lacks tells why an experiment that needs something cannot be run here.
func (m machine) lacks(need chaos.Need) error {
	if err, known := m[need]; known {
		return err
	}
	m[need] = look(need)
	return m[need]
}

// lacking are the needs that are not met.
func (m machine) lacking() (all []chaos.Need) {
	for _, need := range []chaos.Need{chaos.SmallDiskNeed, chaos.NamesNeed, chaos.ClocksNeed} {
		if m.lacks(need) != nil {
			all = append(all, need)
		}
	}
	return all
}

func look(need chaos.Need) error {
	switch need {
	case chaos.SmallDiskNeed:
		if os.Getuid() != 0 {
			return errors.New("it mounts a small disk, which only root may")
		}
	case chaos.NamesNeed:
		return cluster.Nameable()
	case chaos.ClocksNeed:
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(self), cluster.FaultClock)); err != nil {
			return fmt.Errorf("bin/%s is not there: run make faultclock", cluster.FaultClock)
		}
	}
	return nil
}
