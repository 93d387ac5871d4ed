package resilience

import (
	"fmt"
	"math"
	"sync/atomic"
)

// BudgetConfig sets a Budget.
type BudgetConfig struct {
	// Off lets every retry through.
	Off bool `koanf:"off"`
	// Ratio is the share of calls that may be retried, in [0,1].
	Ratio float64 `koanf:"ratio"`
	// Burst is how many retries may be saved up.
	Burst int `koanf:"burst"`
	// PerSecond adds so many retries each second, for dependencies with few calls; 0 adds none.
	PerSecond float64 `koanf:"per_second"`
}

// BudgetDefaults returns a tenth of the calls, and at most 10 saved up. The ratio is that of gRPC's retry
// throttling (proposal A6) and of "Addressing Cascading Failures" in Google's SRE book (2016), chapter 22.
func BudgetDefaults() BudgetConfig { return BudgetConfig{Ratio: 0.1, Burst: 10} }

const maxBurst = 1 << 30

// Validate names the first field that makes no sense. A budget that is off may have any values.
func (c BudgetConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case !(c.Ratio >= 0 && c.Ratio <= 1):
		return fmt.Errorf("ratio must be in [0,1]")
	case c.Burst < 1 || c.Burst > maxBurst:
		return fmt.Errorf("burst must be in [1,%d]", maxBurst)
	case !(c.PerSecond >= 0 && c.PerSecond <= maxBurst):
		return fmt.Errorf("per_second must be in [0,%d]", maxBurst)
	}
	return nil
}

// Budget bounds the retries and hedges of all operations of one dependency together, so that an outage
// is not met with a multiple of the load. It is a bucket of tokens: a call puts Ratio tokens in when it
// begins, a retry takes one out. So after n calls in t seconds there have been at most
//
//	Burst + Ratio*n + PerSecond*t
//
// retries. The bucket starts full.
type Budget struct {
	options  Options
	set      atomic.Pointer[budgetSet]
	balance  atomic.Int64 // in millionths of a token
	filled   atomic.Int64 // the instant up to which PerSecond was added
	taken    atomic.Uint64
	refused  atomic.Uint64
	returned atomic.Uint64
}

// token is the unit of a balance: a millionth of a retry.
const token = 1_000_000

type budgetSet struct {
	config    BudgetConfig
	perCall   int64
	most      int64
	perSecond float64
}

func newBudgetSet(c BudgetConfig) *budgetSet {
	return &budgetSet{config: c, perCall: int64(math.Floor(c.Ratio * token)), most: int64(c.Burst) * token, perSecond: c.PerSecond * token}
}

// NewBudget makes a full budget.
func NewBudget(c BudgetConfig, o Options) (*Budget, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b := &Budget{options: o}
	s := newBudgetSet(c)
	b.set.Store(s)
	b.balance.Store(s.most)
	b.filled.Store(int64(now()))
	return b, nil
}

// Call counts a call that begins; not an attempt, or retries would pay for retries. A Policy does it by
// itself.
func (b *Budget) Call() {
	s := b.set.Load()
	if b.balance.Load() < s.most && !s.config.Off { // a full bucket costs a load
		b.put(s, s.perCall)
	}
}

// put adds to the balance, up to the most.
func (b *Budget) put(s *budgetSet, amount int64) {
	for {
		have := b.balance.Load()
		if have >= s.most || b.balance.CompareAndSwap(have, min(s.most, have+amount)) {
			return
		}
	}
}

// TryRetry takes a token for a retry or a hedge, and is false if there is none.
func (b *Budget) TryRetry() bool {
	s := b.set.Load()
	if s.config.Off {
		return true
	}
	if s.perSecond > 0 {
		b.fill(s)
	}
	for {
		have := b.balance.Load()
		if have < token {
			break
		}
		if b.balance.CompareAndSwap(have, have-token) {
			b.taken.Add(1)
			return true
		}
	}
	b.refused.Add(1)
	if b.options.Observer != nil {
		b.options.Observer.BudgetExhausted(BudgetEvent{Label: b.options.Label})
	}
	return false
}

// Return gives back the token of a retry that was not made after all.
func (b *Budget) Return() {
	s := b.set.Load()
	if s.config.Off {
		return
	}
	b.returned.Add(1)
	b.put(s, token)
}

// fill adds what PerSecond gives for the time that has gone by.
func (b *Budget) fill(s *budgetSet) {
	for {
		last := b.filled.Load()
		t := int64(now())
		amount := int64(min(float64(s.most), float64(t-last)/1e9*s.perSecond))
		if amount <= 0 {
			return
		}
		if b.filled.CompareAndSwap(last, t) {
			b.put(s, amount)
			return
		}
	}
}

// Reconfigure changes the configuration. The bucket is as full as before, in proportion.
func (b *Budget) Reconfigure(c BudgetConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	s := newBudgetSet(c)
	old := b.set.Swap(s)
	if old.config.Off || c.Off || old.most == s.most {
		if old.config.Off {
			b.balance.Store(s.most)
			b.filled.Store(int64(now()))
		}
		return nil
	}
	for {
		have := b.balance.Load()
		scaled := int64(float64(have) / float64(old.most) * float64(s.most))
		if b.balance.CompareAndSwap(have, min(s.most, scaled)) {
			return nil
		}
	}
}

// BudgetStats is a budget at one instant.
type BudgetStats struct {
	Label   Label
	Tokens  float64 // retries that could be made now
	Taken   uint64  // retries since the start, without those that were returned
	Refused uint64  // since the start
	Config  BudgetConfig
}

// Stats returns the tokens, the counts since the start, and the configuration in force.
func (b *Budget) Stats() BudgetStats {
	s := b.set.Load()
	if s.perSecond > 0 && !s.config.Off {
		b.fill(s)
	}
	returned := b.returned.Load() // before taken, which is never less
	return BudgetStats{Label: b.options.Label, Tokens: float64(b.balance.Load()) / token, Taken: b.taken.Load() - returned,
		Refused: b.refused.Load(), Config: s.config}
}
