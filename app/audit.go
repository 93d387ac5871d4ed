package app

import (
	"holdfast/check/audit"
)

// AuditConfig says where the stores and ledgers of a Holdfast with this configuration are. The ledgers are
// the simulators' files, where it has simulators.
func AuditConfig(cfg Config) audit.Config {
	c := audit.Config{Data: cfg.Data, Keep: cfg.Outbox.Keep}
	if cfg.Store.Driver == "postgres" {
		c.DSN = cfg.Store.DSN
	}
	psp, carrier := audit.SimulatorLedgers(cfg.Data)
	if cfg.Payment.ProviderURL == "" {
		c.PSP = psp
	}
	if cfg.Shipping.CarrierURL == "" {
		c.Carrier = carrier
	}
	return c
}
