package resilience

import "context"

// Run calls f with a slot held, and returns its error or that of Acquire.
func (b *Bulkhead) Run(ctx context.Context, f func(context.Context) error) error {
	s, err := b.Acquire(ctx)
	if err != nil {
		return err
	}
	defer s.Release() // of a panic or runtime.Goexit
	err = f(ctx)
	if left(ctx, err) {
		s.Done(Neutral)
	} else {
		s.Done(Classify(err).Outcome)
	}
	return err
}

// Ready tells whether TryAcquire would give a slot now. It changes nothing, so it promises nothing to
// two callers at once.
func (b *Bulkhead) Ready() bool {
	inUse, queued := parts(b.word.Load())
	return queued == 0 && inUse < b.set.Load().most()
}

// Reconfigure changes the configuration. Calls under way and those that wait stay; where the limit is now
// lower, slots that are given back are not given out again until it is kept.
func (b *Bulkhead) Reconfigure(c BulkheadConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &bulkheadSet{config: c, limit: c.Limit}
	switch old := b.set.Load(); {
	case c.Off:
		s.limit = maxLimit
	case c.Adaptive.Off():
	case old != nil && old.adaptive != nil:
		s.adaptive = old.adaptive
		if err := s.adaptive.Reconfigure(c.Adaptive); err != nil {
			return err
		}
	default:
		a, err := NewAdaptiveLimit(c.Adaptive, b.options)
		if err != nil {
			return err
		}
		s.adaptive = a
	}
	b.set.Store(s)
	b.grantLocked()
	return nil
}

// BulkheadStats is a bulkhead at one instant.
type BulkheadStats struct {
	Label    Label
	InUse    int
	Queued   int
	Limit    int // in force: it moves where the bulkhead adapts
	Rejected uint64
	Adaptive AdaptiveStats // zero where it does not adapt
	Config   BulkheadConfig
}

// Stats returns the occupancy and the configuration in force.
func (b *Bulkhead) Stats() BulkheadStats {
	s := b.set.Load()
	inUse, queued := parts(b.word.Load())
	out := BulkheadStats{Label: b.options.Label, InUse: inUse, Queued: queued, Limit: s.most(), Rejected: b.refused.Load(), Config: s.config}
	if s.adaptive != nil {
		out.Adaptive = s.adaptive.Stats()
	}
	return out
}
