package psp

import (
	"errors"
	"fmt"
	"time"
)

// Which operations are told of by webhook, beside those that a payment method asks it for.
const (
	WebhooksLate = "late" // those whose answer was lost or delayed
	WebhooksAll  = "all"
)

// Config describes the provider.
type Config struct {
	Dir           string        `koanf:"dir"`
	WebhookURL    string        `koanf:"webhook_url"` // "": nobody is told anything
	WebhookSecret string        `koanf:"webhook_secret"`
	Webhooks      string        `koanf:"webhooks"`
	Slow          time.Duration `koanf:"slow"`       // what tok_slow waits
	Hold          time.Duration `koanf:"hold"`       // how long an authorisation lasts
	SyncEvery     time.Duration `koanf:"sync_every"` // the least time between two syncs of the ledger
}

// Defaults returns what is used where nothing is configured; Dir has none.
func Defaults() Config {
	return Config{Webhooks: WebhooksLate, Slow: 2 * time.Second, Hold: 7 * 24 * time.Hour, SyncEvery: 2 * time.Millisecond}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("psp_sim.dir must name a directory")
	case c.Webhooks != WebhooksLate && c.Webhooks != WebhooksAll:
		return fmt.Errorf("psp_sim.webhooks is %q; it must be %s or %s", c.Webhooks, WebhooksLate, WebhooksAll)
	case c.Slow < 0 || c.Hold <= 0:
		return errors.New("psp_sim.slow must not be negative and psp_sim.hold positive")
	case c.SyncEvery < 0 || c.SyncEvery > time.Second:
		return errors.New("psp_sim.sync_every must be from 0 to 1s")
	}
	return nil
}
