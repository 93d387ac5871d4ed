package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/check"
)

// watch notes the changes of every part's breakers.
type watch struct {
	began time.Time
	parts map[string]string // admin addresses by part
	every time.Duration

	mu      sync.Mutex
	state   map[string]string // by part and breaker
	changes []Change
}

const (
	// sampleEvery is how often the breakers of one process are looked at, and manyEvery those of many.
	sampleEvery = 20 * time.Millisecond
	manyEvery   = 250 * time.Millisecond
)

func newWatch(system System, began time.Time) *watch {
	w := &watch{began: began, parts: map[string]string{}, every: manyEvery, state: map[string]string{}}
	for _, p := range system.Parts() {
		if looked, ok := p.(interface{ Admin() string }); ok && looked.Admin() != "" {
			w.parts[p.Name()] = looked.Admin()
		}
	}
	if len(w.parts) == 0 {
		w.parts[""], w.every = system.Target().Addresses.Admin, sampleEvery
	}
	return w
}

func (w *watch) start(ctx context.Context, all *sync.WaitGroup) {
	for part, admin := range w.parts {
		all.Go(func() {
			for {
				w.look(ctx, part, admin)
				if !pauseFor(ctx, w.every) {
					return
				}
			}
		})
	}
}

// look notes what has changed of one part. A part that does not answer has no breakers to tell of.
func (w *watch) look(ctx context.Context, part, admin string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var list struct {
		Items []struct{ Name, Policy, State string }
	}
	if check.GetJSON(ctx, admin+"/admin/v1/policies", &list) != nil {
		return
	}
	at := time.Since(w.began)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range list.Items {
		key := part + " " + p.Name
		if p.Policy != "breaker" || p.State == w.state[key] {
			continue
		}
		if w.state[key] != "" {
			w.changes = append(w.changes, Change{at, part, p.Name, p.State})
		}
		w.state[key] = p.State
	}
}

func (w *watch) all() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := append([]Change{}, w.changes...)
	slices.SortStableFunc(changes, func(a, b Change) int { return int(a.At - b.At) })
	return changes
}

// open names the breakers that are not closed, with how many parts have each so.
func (w *watch) open() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for key, state := range w.state {
		if state == "open" || state == "half_open" || state == "forced_open" {
			_, name, _ := strings.Cut(key, " ")
			count[name]++
		}
	}
	var names []string
	for name, n := range count {
		if n > 1 {
			name = fmt.Sprintf("%s (%d)", name, n)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// tick says each second how it stands.
func (r *run) tick(ctx context.Context) {
	for pauseFor(ctx, tickEvery) {
		r.mu.Lock()
		phase := r.phase
		r.mu.Unlock()
		now := time.Since(r.record.began)
		orders := r.record.snapshot()
		p := phaseReport(phase, orders, nil, now-2*tickEvery, now-tickEvery) // of the second before: answers to it have come
		line := fmt.Sprintf("  %5.0fs  %-14s sent %d/s, accepted %d/s, confirmed %d/s, p99 %s, waiting %d", now.Seconds(), phase, p.Sent, p.Accepted, p.Confirmed, p.Accept.P99.Round(time.Millisecond), backlogAt(orders, now))
		if open := r.watch.open(); open != "" {
			line += ", open: " + open
		}
		r.campaign.Tick(line)
	}
}
