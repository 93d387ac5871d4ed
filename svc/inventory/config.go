package inventory

import (
	"fmt"
	"time"
)

// Config sets the service's limits.
type Config struct {
	ReservationTTL time.Duration `koanf:"reservation_ttl"` // how long stock is held for an order that is not confirmed
	SweepEvery     time.Duration `koanf:"sweep_every"`     // how often expired reservations are looked for
}

// Defaults returns the limits used where nothing is configured.
func Defaults() Config {
	return Config{ReservationTTL: 15 * time.Minute, SweepEvery: time.Second}
}

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	if c.ReservationTTL <= 0 || c.SweepEvery <= 0 {
		return fmt.Errorf("inventory.reservation_ttl and inventory.sweep_every must be positive")
	}
	return nil
}
