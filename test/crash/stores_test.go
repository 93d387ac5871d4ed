package crash_test

import (
	"time"

	"holdfast/check/audit"
	_ "holdfast/embedded/sqlite" // the audit opens its files by the driver
)

// stores has the databases of the stopped process checked for what cannot be seen from outside.
func (c *crasher) stores() {
	t := c.t
	t.Helper()
	cfg := audit.Config{Data: c.data, AtRest: true, Grace: 100 * time.Millisecond}
	cfg.PSP, cfg.Carrier = audit.SimulatorLedgers(c.data)
	r, err := audit.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Failed() {
		t.Errorf("%s: %d wrong: %v", x.ID, x.Wrong, x.Items)
	}
	t.Logf("audit: %s, %d orders, %d events in %s", r.Verdict, r.Counts.Orders, r.Counts.Events, r.Took.Round(time.Millisecond))
}
