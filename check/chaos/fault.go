package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/check"
)

// Fault is something that goes wrong for a while. A value is for one run.
type Fault interface {
	// Describe says what goes wrong; once it was injected, also what was drawn for it.
	Describe() string
	// Touches names what it is done to, so that two faults are not done to the same.
	Touches() string
	Inject(ctx context.Context, f *Field) error
	// Heal ends it. It returns when what it was done to is there again.
	Heal(ctx context.Context) error
	// Bites is how often it has really done something. One that has not proves nothing.
	Bites() (int64, error)
}

// Field is what faults are done to.
type Field struct {
	System System
	Rand   *rand.Rand
	// Burst begins a load beside that of the experiment. sent is what it has sent so far; stop ends it.
	Burst func(ctx context.Context, plan check.Plan) (sent func() int64, stop func())
	// Expected are keys of events that cannot be handled, and so may be dead letters.
	Expected map[string]bool
}

// act is what is done to a process.
type act string

const (
	kill     act = "SIGKILL"
	pause    act = "SIGSTOP"
	throttle act = "throttle"
)

// process is a fault of one replica, which is drawn, or of all of a kind.
type process struct {
	kind  string
	all   bool
	act   act
	share float64 // of one processor

	mu    sync.Mutex
	names []string // of those that were hit
	hit   []Part   // those that are to be healed
	bites int64
	stop  func()
}

func (p *process) Touches() string { return p.kind }

func (p *process) Describe() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	whom := "a replica of " + p.kind
	if p.all {
		whom = "every replica of " + p.kind
	}
	if len(p.names) > 0 {
		whom = strings.Join(p.names, ", ")
	}
	if p.act == throttle {
		return fmt.Sprintf("%s gets %g %% of a processor", whom, 100*p.share)
	}
	return fmt.Sprintf("%s to %s", p.act, whom)
}

func (p *process) Inject(ctx context.Context, f *Field) error {
	var parts []Part
	for _, part := range f.System.Parts() {
		if part.Kind() == p.kind {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return fmt.Errorf("there is no %s here", p.kind)
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name(), b.Name()) })
	if !p.all {
		i := f.Rand.IntN(len(parts))
		parts = parts[i : i+1]
	}
	watched, stop := context.WithCancel(context.WithoutCancel(ctx))
	var watcher sync.WaitGroup
	p.mu.Lock()
	for _, part := range parts {
		p.names = append(p.names, part.Name())
	}
	p.hit, p.stop = parts, func() { stop(); watcher.Wait() }
	p.mu.Unlock()
	for _, part := range parts {
		if err := p.do(part); err != nil {
			return fmt.Errorf("%s to %s: %w", p.act, part.Name(), err)
		}
	}
	watcher.Go(func() { p.watch(watched, parts) })
	return nil
}

func (p *process) do(part Part) error {
	switch p.act {
	case kill:
		return part.Kill()
	case pause:
		return part.Pause()
	default:
		return part.Throttle(p.share)
	}
}

// lookEvery is how often a process is looked at whether it is as the fault wants it.
const lookEvery = 50 * time.Millisecond

// watch counts how often a process was found as the fault wants it.
func (p *process) watch(ctx context.Context, parts []Part) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, part := range parts {
			if p.bitten(part) {
				p.mu.Lock()
				p.bites++
				p.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// bitten tells whether a process is dead, or does not run.
func (p *process) bitten(part Part) bool {
	if p.act == kill {
		return !part.Running()
	}
	looked, ok := part.(interface{ Pid() int })
	return ok && stopped(looked.Pid())
}

// stopped tells whether a process, as proc(5) has it, is stopped by a signal.
func stopped(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	after := strings.TrimLeft(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	return strings.HasPrefix(after, "T")
}

// startLimit bounds the start of what was killed.
const startLimit = time.Minute

// Heal brings them back, all at once. It can be called again for those that it could not bring back.
func (p *process) Heal(ctx context.Context) error {
	p.mu.Lock()
	hit, stop := p.hit, p.stop
	p.hit = nil
	p.mu.Unlock()
	if len(hit) == 0 {
		return nil
	}
	stop()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	errs := make([]error, len(hit))
	var all sync.WaitGroup
	for i, part := range hit {
		all.Go(func() {
			switch p.act {
			case kill:
				errs[i] = part.Start(ctx)
			case pause:
				errs[i] = part.Resume()
			default:
				errs[i] = part.Throttle(0)
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("heal %s: %w", part.Name(), errs[i])
			}
		})
	}
	all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, part := range hit {
		if errs[i] != nil {
			p.hit = append(p.hit, part)
		}
	}
	return errors.Join(errs...)
}

func (p *process) Bites() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bites, nil
}
