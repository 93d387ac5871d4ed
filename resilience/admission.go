package resilience

import (
	"fmt"
	"sync/atomic"
	"time"
)

// AdmissionConfig sets an Admission.
type AdmissionConfig struct {
	// Off admits everything; calls under way are still counted.
	Off bool `koanf:"off"`
	// Limit is how many calls may be under way. It is not looked at where Adaptive is on.
	Limit    int            `koanf:"limit"`
	Adaptive AdaptiveConfig `koanf:"adaptive"`
	// SheddableShare and NormalShare, in (0,1], are the shares of the limit up to which calls of these
	// criticalities are admitted. Critical calls may use all of it.
	SheddableShare float64 `koanf:"sheddable_share"`
	NormalShare    float64 `koanf:"normal_share"`
	// UndoLane is how many Undo calls may be under way beyond the limit. Where it is full they are
	// admitted as critical ones.
	UndoLane int `koanf:"undo_lane"`
	// RetryAfter is what a rejection asks its caller to wait.
	RetryAfter time.Duration `koanf:"retry_after"`
}

// AdmissionDefaults returns a limit that adapts, of which sheddable calls may use 60 % and normal ones
// 90 %, and a lane of 32 to undo things.
func AdmissionDefaults() AdmissionConfig {
	return AdmissionConfig{Adaptive: AdaptiveDefaults(), SheddableShare: 0.6, NormalShare: 0.9, UndoLane: 32, RetryAfter: time.Second}
}

// Validate names the first field that makes no sense. An admission that is off may have any values.
func (c AdmissionConfig) Validate() error {
	switch {
	case c.Off:
		return nil
	case c.Adaptive.Off() && (c.Limit < 1 || c.Limit > maxLimit):
		return fmt.Errorf("limit must be in [1,%d]", maxLimit)
	case !(c.SheddableShare > 0 && c.SheddableShare <= 1):
		return fmt.Errorf("sheddable_share must be in (0,1]")
	case !(c.NormalShare >= c.SheddableShare && c.NormalShare <= 1):
		return fmt.Errorf("normal_share must be in [sheddable_share,1]")
	case c.UndoLane < 0 || c.UndoLane > maxLimit:
		return fmt.Errorf("undo_lane must be in [0,%d]", maxLimit)
	case c.RetryAfter < 0:
		return fmt.Errorf("retry_after must not be negative")
	}
	return under("adaptive", c.Adaptive.Validate())
}

// Admission refuses calls when there are too many, the least critical first. It never lets a call wait,
// so a refusal costs nothing. It counts calls when they begin: a server that hangs is full before the
// first of its answers is late.
type Admission struct {
	options Options
	set     atomic.Pointer[admissionSet]
	inUse   atomic.Int64 // beside the lane
	lane    atomic.Int64
	shed    [Undo + 1]atomic.Uint64
}

type admissionSet struct {
	config   AdmissionConfig
	limit    int
	adaptive *AdaptiveLimit
	shed     *Rejection
}

func (s *admissionSet) most() int {
	if s.adaptive != nil {
		return s.adaptive.Limit()
	}
	return s.limit
}

// share returns how many calls there may be with one of criticality c, which is at least one.
func (s *admissionSet) share(c Criticality) int64 {
	n := float64(s.most())
	switch c {
	case Sheddable:
		n *= s.config.SheddableShare
	case Normal:
		n *= s.config.NormalShare
	}
	return max(1, int64(n))
}

// Ticket is the admission of one call. Done must be called once, on one copy of it; the zero value is the
// ticket of no admission, and may be done as well.
type Ticket struct {
	admission *Admission
	start     instant // 0 where nothing adapts
	lane      bool
}

// NewAdmission makes an empty admission.
func NewAdmission(c AdmissionConfig, o Options) (*Admission, error) {
	a := &Admission{options: o}
	return a, a.Reconfigure(c)
}

// Admit admits a call of criticality c, or refuses it with a *Rejection that is ErrShed.
func (a *Admission) Admit(c Criticality) (Ticket, error) { return a.admit(c, 0) }

func (a *Admission) admit(c Criticality, t instant) (Ticket, error) {
	s := a.set.Load()
	c = min(c.or(Normal), Undo)
	if s.config.Off {
		a.inUse.Add(1)
		return Ticket{admission: a}, nil
	}
	if c == Undo && below(&a.lane, int64(s.config.UndoLane)) {
		return Ticket{admission: a, lane: true}, nil
	}
	if !below(&a.inUse, s.share(c)) {
		a.shed[c].Add(1)
		if a.options.Observer != nil {
			a.options.Observer.Rejected(RejectEvent{Label: a.options.Label, Reason: ReasonShed, Criticality: c})
		}
		return Ticket{}, s.shed
	}
	if s.adaptive != nil && t == 0 {
		t = now()
	}
	return Ticket{admission: a, start: t}, nil
}

// below adds one to n if it is below most.
func below(n *atomic.Int64, most int64) bool {
	for {
		have := n.Load()
		if have >= most {
			return false
		}
		if n.CompareAndSwap(have, have+1) {
			return true
		}
	}
}

// leave takes one off n, and never goes below nothing, whoever is done twice.
func leave(n *atomic.Int64) {
	for {
		have := n.Load()
		if have <= 0 || n.CompareAndSwap(have, have-1) {
			return
		}
	}
}

// Done ends the call, and lets an adaptive limit learn from it. Only the first call counts.
func (t *Ticket) Done(o Outcome) { t.done(o, 0) }

func (t *Ticket) done(o Outcome, at instant) {
	a := t.admission
	if a == nil {
		return
	}
	t.admission = nil
	if t.lane {
		leave(&a.lane)
		return
	}
	if s := a.set.Load(); s.adaptive != nil && t.start != 0 && o != Neutral {
		if at == 0 {
			at = now()
		}
		s.adaptive.observe(o, at.sub(t.start), int(a.inUse.Load()), at)
	}
	leave(&a.inUse)
}

// Reconfigure changes the configuration; calls under way stay.
func (a *Admission) Reconfigure(c AdmissionConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	s := &admissionSet{config: c, limit: c.Limit, shed: &Rejection{Label: a.options.Label, Reason: ReasonShed, wait: c.RetryAfter}}
	if !c.Off && !c.Adaptive.Off() {
		if old := a.set.Load(); old != nil && old.adaptive != nil {
			s.adaptive = old.adaptive
			if err := s.adaptive.Reconfigure(c.Adaptive); err != nil {
				return err
			}
		} else {
			var err error
			if s.adaptive, err = NewAdaptiveLimit(c.Adaptive, a.options); err != nil {
				return err
			}
		}
	}
	a.set.Store(s)
	return nil
}

// AdmissionStats is an admission at one instant.
type AdmissionStats struct {
	Label     Label
	InUse     int // beside the lane
	Undoing   int // in the lane
	Limit     int // in force: it moves where the admission adapts
	Sheddable int // up to how many calls under way sheddable ones are admitted
	Normal    int // and normal ones
	Shed      map[Criticality]uint64
	Adaptive  AdaptiveStats // zero where it does not adapt
	Config    AdmissionConfig
}

// Stats returns the occupancy and the configuration in force.
func (a *Admission) Stats() AdmissionStats {
	s := a.set.Load()
	out := AdmissionStats{Label: a.options.Label, InUse: int(a.inUse.Load()), Undoing: int(a.lane.Load()), Limit: s.most(),
		Sheddable: int(s.share(Sheddable)), Normal: int(s.share(Normal)), Shed: map[Criticality]uint64{}, Config: s.config}
	for _, c := range Criticalities() {
		out.Shed[c] = a.shed[c].Load()
	}
	if s.adaptive != nil {
		out.Adaptive = s.adaptive.Stats()
	}
	return out
}
