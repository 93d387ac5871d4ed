package order

import (
	"fmt"
	"time"
)

// Config sets the limits of the order service, and the watchdog's patience.
type Config struct {
	// BacklogFrom and BacklogMax are how long the events of the service may wait to be sent before some new
	// orders and all of them are refused as overloaded: more would only wait, and make those before them wait.
	BacklogFrom time.Duration `koanf:"backlog_from"`
	BacklogMax  time.Duration `koanf:"backlog_max"`
	// StrainMax is how long goroutines of this process may wait for a processor (nine of ten of them) for half
	// a second before some new orders are refused as overloaded; 0: however long.
	StrainMax time.Duration `koanf:"strain_max"`
	// Saga says how the steps of new orders are driven.
	Saga Saga `koanf:"saga"`
	// CopiesMax is of how many orders the latest state is kept in memory, to be read while the store is down.
	CopiesMax int `koanf:"copies_max"`

	WatchEvery   time.Duration `koanf:"watch_every"`   // how often the watchdog looks
	WatchBatch   int           `koanf:"watch_batch"`   // orders that it takes up each time, at most
	RedriveAfter time.Duration `koanf:"redrive_after"` // without progress, before an order is driven again; the bus takes events all that time
	RedriveMax   time.Duration `koanf:"redrive_max"`   // the wait doubles each time, up to this
	StuckAfter   time.Duration `koanf:"stuck_after"`   // without progress, before an operator is told
	HoldMargin   time.Duration `koanf:"hold_margin"`   // before the money's hold ends, when an order that was never dispatched is undone
	ConfirmedMax time.Duration `koanf:"confirmed_max"` // the same for an order without a hold
	WaitPoll     time.Duration `koanf:"wait_poll"`     // how often a waiting request looks for another process's changes, after the first second
	WaitersMax   int           `koanf:"waiters_max"`   // requests that may wait at once
}

// Saga says how the steps of orders are driven that name no style.
type Saga struct {
	// OrchestratedPercent of them, 0 to 100, are orchestrated; which ones follows from their ids. It needs a Temporal.
	OrchestratedPercent int `koanf:"orchestrated_percent"`
}

// Defaults returns the limits used where nothing is configured.
func Defaults() Config {
	return Config{
		BacklogFrom: 500 * time.Millisecond, BacklogMax: 3 * time.Second, StrainMax: 5 * time.Millisecond, CopiesMax: 10_000, WatchEvery: time.Second, WatchBatch: 50, RedriveAfter: time.Minute, RedriveMax: 10 * time.Minute, StuckAfter: 30 * time.Minute,
		HoldMargin: time.Hour, ConfirmedMax: 6 * 24 * time.Hour, WaitPoll: time.Second, WaitersMax: 20000,
	}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.BacklogFrom < 0 || c.BacklogMax <= c.BacklogFrom:
		return fmt.Errorf("order.backlog_from must not be negative and order.backlog_max above it")
	case c.StrainMax < 0:
		return fmt.Errorf("order.strain_max must not be negative")
	case c.Saga.OrchestratedPercent < 0 || c.Saga.OrchestratedPercent > 100:
		return fmt.Errorf("order.saga.orchestrated_percent must be from 0 to 100")
	case c.CopiesMax < 0:
		return fmt.Errorf("order.copies_max must not be negative")
	case c.WatchBatch < 1:
		return fmt.Errorf("order.watch_batch must be at least 1")
	case c.WatchEvery <= 0 || c.RedriveAfter <= 0 || c.RedriveMax < c.RedriveAfter:
		return fmt.Errorf("order.watch_every and order.redrive_after must be positive and order.redrive_max not below the latter")
	case c.StuckAfter < c.RedriveAfter:
		return fmt.Errorf("order.stuck_after must not be below order.redrive_after")
	case c.HoldMargin <= 0 || c.ConfirmedMax <= 0:
		return fmt.Errorf("order.hold_margin and order.confirmed_max must be positive")
	case c.WaitPoll <= 0 || c.WaitersMax < 1:
		return fmt.Errorf("order.wait_poll must be positive and order.waiters_max at least 1")
	}
	return nil
}
