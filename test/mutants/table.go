package main

import "slices"

// table is every mutant. The invariants are those of ARCHITECTURE.md, and of the design where it has none.
func table() []Mutant {
	rows := slices.Concat(events(), readers(), commands(), money(), moved(), stock(), histories(), orders(), parcels(), outside(), edge(), inside(), library(), elsewhere())
	return append(rows, points(rows)...)
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

// at kills the program at those effects of its scenarios whose names match, and looks at what is left.
func at(boundaries, says string) Check {
	return Check{Package: "./test/crash/points", Run: "^TestCrashPoints$", Says: says, Env: []string{"HOLDFAST_TEST_BOUNDARIES=" + boundaries, "HOLDFAST_TEST_LIMIT=15s"}}
}

// points are mutants that are there for a kill at any time, and that the kill at each effect must find as well.
func points(rows []Mutant) (again []Mutant) {
	for _, p := range []struct {
		name  string
		check Check
	}{
		{"outbox-other-transaction", at("^decline.commit:(order|inventory|payment).[12].after$", "violated: I10")},
		{"inbox-other-transaction", at("^decline.commit:(order|inventory|payment).[12].after$", "violated: I10")},
		{"acknowledged-before-commit", at("^no-stock.commit:order.[12].(before|half)$", "violated: I1 ")},
	} {
		for _, m := range rows {
			if m.Name == p.name {
				m.Name, m.Check = m.Name+"-at-its-effect", p.check
				again = append(again, m)
			}
		}
	}
	return again
}

// scenario is one row of the table of scenarios.
func scenario(name, says string) Check { return scenarioOn("sqlite", name, says) }

// scenarioOn is a row on a kind of store, in one process.
func scenarioOn(driver, name, says string) Check {
	return e2e("^TestScenarios$/^choreographed$/^"+driver+"$/^"+name+"$", says)
}
