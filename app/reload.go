package app

import (
	"errors"

	"holdfast/shop"
)

// reloadPolicies reads the configuration again and changes the policies to it: breakers, bulkheads,
// budgets, admissions and rate limits, all without losing what they know. Where the configuration is not
// valid nothing changes. Other settings are taken up with the next start.
func (a *App) reloadPolicies() error {
	if a.cfg.Again == nil {
		return shop.E(shop.Conflict, "app.reload", "This process was started without a way to read its configuration again.")
	}
	cfg, err := a.cfg.Again()
	if err != nil {
		return shop.Wrap(shop.Invalid, "app.reload", "The configuration is not valid, and nothing was changed: "+err.Error(), err)
	}
	var errs []error
	for _, change := range a.reload {
		errs = append(errs, change(cfg))
	}
	if err := errors.Join(errs...); err != nil {
		return shop.Wrap(shop.Invalid, "app.reload", "Some of the policies could not be changed: "+err.Error(), err)
	}
	a.deps.Log.Info("the policies were configured again")
	return nil
}
