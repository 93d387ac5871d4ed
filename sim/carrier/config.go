package carrier

import (
	"errors"
	"time"
)

// Config describes the carrier.
type Config struct {
	Dir           string        `koanf:"dir"`
	WebhookURL    string        `koanf:"webhook_url"` // "": nobody is asked, and nothing leaves
	WebhookSecret string        `koanf:"webhook_secret"`
	DispatchAfter time.Duration `koanf:"dispatch_after"`
	SyncEvery     time.Duration `koanf:"sync_every"` // the least time between two syncs of the ledger
	// Rates are the fees for a parcel in minor units by country, with "*" for all the others.
	Rates map[string]int64 `koanf:"rates"`
}

// Defaults returns what is used where nothing is configured; Dir has none.
func Defaults() Config {
	return Config{DispatchAfter: 3 * time.Second, SyncEvery: 2 * time.Millisecond, Rates: map[string]int64{restOfWorld: 500}}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("carrier_sim.dir must name a directory")
	case c.DispatchAfter < 0:
		return errors.New("carrier_sim.dispatch_after must not be negative")
	case c.SyncEvery < 0 || c.SyncEvery > time.Second:
		return errors.New("carrier_sim.sync_every must be from 0 to 1s")
	}
	return validateRates(c.Rates)
}
