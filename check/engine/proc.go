package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process and its children have used so far.
type Usage struct {
	CPU  time.Duration // user and system, with those children that have ended
	Peak int64         // the largest resident memory in bytes; of several the sum
}

// Add adds what others have used.
func (u Usage) Add(v Usage) Usage { return Usage{u.CPU + v.CPU, u.Peak + v.Peak} }

// Usage reads the figures of the process, and of its children, from /proc.
func (p *Process) Usage() (u Usage, err error) {
	if !p.Running() {
		return u, fmt.Errorf("%s does not run", p.Name)
	}
	if u, err = usage(p.Pid()); err != nil {
		return u, err
	}
	for _, pid := range descendants(p.Pid()) {
		if v, err := usage(pid); err == nil { // one that ended meanwhile is in its parent's figures
			u = u.Add(v)
		}
	}
	return u, nil
}

func usage(pid int) (u Usage, err error) {
	fields, err := stat(pid)
	if err != nil {
		return u, err
	}
	// proc(5): fields 14 to 17 are ticks of 10 ms: its own and those of its children that have ended, user and system.
	for _, f := range fields[11:15] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return u, err
			}
			u.Peak = kib << 10
		}
	}
	return u, nil
}

// stat returns the fields of /proc/pid/stat from the third, which comes after the name in parentheses.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 15 {
		return nil, errors.New("/proc/pid/stat is not as proc(5) says")
	}
	return fields, nil
}

// state is a process's letter in ps: T where it is stopped; 0 where there is no process.
func state(pid int) byte {
	fields, err := stat(pid)
	if err != nil {
		return 0
	}
	return fields[0][0]
}

// descendants are the children of a process and theirs.
func descendants(pid int) (all []int) {
	threads, err := os.ReadDir(procFile(pid, "task"))
	if err != nil {
		return nil // it has ended
	}
	for _, thread := range threads {
		list, err := os.ReadFile(procFile(pid, "task/"+thread.Name()+"/children"))
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(list)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
