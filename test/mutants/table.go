package main

import "slices"

// table is every mutant. The invariants are those of ARCHITECTURE.md, and of the design where it has none.
func table() []Mutant {
	return slices.Concat(events(), readers(), commands(), money(), stock(), histories(), orders(), parcels(), outside(), edge(), inside(), library(), elsewhere())
}

// e2e is a test of the whole in one process, through the public API.
func e2e(run, says string) Check { return Check{Package: "./test/e2e", Run: run, Says: says} }

// unit is a test of one part, where the part is what the mutant breaks.
func unit(pkg, run, says string) Check { return Check{Package: "./" + pkg, Run: run, Says: says} }

// kill kills the program under load and looks at what is left. The watchdog sleeps: it would mend within
// a minute what a crash must not break in the first place.
func kill(says string) Check {
	return Check{Package: "./test/crash", Run: "^TestKillAtAnyTime$", Says: says, Env: []string{"HOLDFAST_TEST_CYCLES=4",
		"HOLDFAST_ORDER__REDRIVE_AFTER=1h", "HOLDFAST_ORDER__REDRIVE_MAX=2h", "HOLDFAST_ORDER__STUCK_AFTER=2h"}}
}

// scenario is one row of the table of scenarios.
func scenario(name, says string) Check { return scenarioOn("sqlite", name, says) }

// scenarioOn is a row on a kind of store, in one process.
func scenarioOn(driver, name, says string) Check {
	return e2e("^TestScenarios$/^choreographed$/^"+driver+"$/^"+name+"$", says)
}
