package psp

import (
	"errors"
	"time"
)

// Which operations are told of by webhook.
const (
	WebhooksAsked = "asked" // those whose payment method asks for it
	WebhooksAll   = "all"
)

// Config describes the provider.
type Config struct {
	Dir           string        `koanf:"dir"`
	WebhookURL    string        `koanf:"webhook_url"` // "": nobody is told
	WebhookSecret string        `koanf:"webhook_secret"`
	Webhooks      string        `koanf:"webhooks"`
	Slow          time.Duration `koanf:"slow"` // what tok_slow waits
	Hold          time.Duration `koanf:"hold"` // how long an authorisation lasts
}

// Defaults returns what is used where nothing is configured.
func Defaults() Config {
	return Config{Webhooks: WebhooksAsked, Slow: 2 * time.Second, Hold: 7 * 24 * time.Hour}
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return errors.New("psp_sim.dir must name a directory")
	case c.Webhooks != WebhooksAsked && c.Webhooks != WebhooksAll:
		return errors.New("psp_sim.webhooks must be asked or all")
	case c.Slow < 0 || c.Hold <= 0:
		return errors.New("psp_sim.slow must not be negative and psp_sim.hold positive")
	}
	return nil
}
