package main

import (
	"fmt"
	"strings"
)

// document is docs/mutants.md.
func document(all []Mutant) string {
	var b strings.Builder
	b.WriteString(`# Mutants: the checks, seen to fail

<!-- Written by the tool: go run ./test/mutants -doc docs/mutants.md -->

A check that has never failed proves nothing. Each row below is a way of breaking Holdfast; ` + "`make mutants`" + ` breaks it so, in a copy
that only the compiler sees, runs the check of the row, and fails unless that check fails, by the test's name and with the invariant or the
policy that the row proves. The same checks must pass on the product as it is. [ARCHITECTURE.md](../ARCHITECTURE.md) says what I1 to I14 are.

` + "```" + `
make mutants                       # all
make mutants AREA=svc/payment      # those of a folder
make mutants SINCE=main            # those whose file has changed since a commit
make mutants WITHIN=6m             # begin none later than that, and name those left out: CI does so with those of the last commit
make mutants CLEAN=20              # no mutant: each check 20 times on the product as it is; a failure is a false alarm
` + "```" + `

`)
	fmt.Fprintf(&b, "%d mutants:\n\n| mutant | what it breaks | file | caught by | proves |\n|---|---|---|---|---|\n", len(all))
	cell := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	for _, m := range all {
		caught := "`" + m.Check.Run + "` in `" + strings.TrimPrefix(m.Check.Package, "./") + "`"
		fmt.Fprintf(&b, "| %s | %s | `%s` | %s | %s |\n", m.Name, cell(m.Breaks), m.Edits[0].File, cell(caught), m.Proves)
	}
	b.WriteString(campaigns)
	return b.String()
}

// campaigns says which campaign finds what the saga stands on, taken out.
const campaigns = `
## What the campaigns find

Beside the tests of its part, each of these is found by a campaign over a whole Holdfast:

| taken out | campaign | names | command |
|---|---|---|---|
| the inbox check | [simulation](simulation.md) | I14 | ` + "`HOLDFAST_TEST_MUTANTS=150 go test ./test/simulation -v -timeout 1h -run '^TestMutants$/^an_event_that_comes_again'`" + ` |
| the question to the provider after a timeout | simulation | I4, I6 | ` + "`HOLDFAST_TEST_MUTANTS=150 go test ./test/simulation -v -timeout 1h -run '^TestMutants$/^a_payment_whose_answer'`" + `, and ` + "`an_answer_that_was_lost`" + ` |
| the breaker's generation | [field bugs](field-bugs.md) | policy: breaker | ` + "`go run ./test/mutants -name '^field-breaker-without-generation$'`" + ` |
| a step noted for undo before it is asked for | field bugs | I6 | ` + "`go run ./test/mutants -name '^field-undo-after-step$'`" + ` |

The last has two parts, and either alone does no harm to money: a workflow that is cancelled undoes every step, noted or not.
`
