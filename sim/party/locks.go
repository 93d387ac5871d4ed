package party

import (
	"context"
	"sync"
)

// Locks lets one caller at a time do something to a name. They are few: as many as calls are under way.
type Locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the name is let go
}

// NewLocks returns locks of which none is held.
func NewLocks() *Locks { return &Locks{held: make(map[string]chan struct{})} }

// Hold takes all names, or fails with ctx. The caller must release them, once.
func (l *Locks) Hold(ctx context.Context, names ...string) (release func(), err error) {
	for {
		busy, mine := l.take(names)
		if busy == nil {
			return func() { l.release(names, mine) }, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take takes all names, or returns what to wait for.
func (l *Locks) take(names []string) (busy, mine chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range names {
		if c := l.held[n]; c != nil {
			return c, nil
		}
	}
	mine = make(chan struct{})
	for _, n := range names {
		l.held[n] = mine
	}
	return nil, mine
}

func (l *Locks) release(names []string, mine chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range names {
		delete(l.held, n)
	}
	close(mine)
}
