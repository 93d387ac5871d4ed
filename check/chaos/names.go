package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// name is a fault of the questions for a part's name, or for all.
type name struct {
	kind string // "psp"; "*" is all
	how  NameFault

	at     Names
	before int64
}

func (n *name) Touches() string { return "names" }

func (n *name) Describe() string {
	whose := "every name"
	if n.kind != "*" {
		whose = "the name of " + n.kind
	}
	return fmt.Sprintf("%s: %s", whose, n.how)
}

// Inject cuts the connections that are open, too: who has one does not ask.
func (n *name) Inject(_ context.Context, f *Field) error {
	if named, ok := f.System.(Named); ok {
		n.at = named.Names()
	}
	if n.at == nil {
		return errors.New("nobody asks for names here")
	}
	n.before = n.at.Bites()
	n.at.Set(n.kind, n.how)
	for _, l := range f.System.Links() {
		if n.reached(l.Name()) {
			l.Cut()
		}
	}
	return nil
}

// reached tells whether a way is found by the name. The gateway is called from outside alone, by its address.
func (n *name) reached(way string) bool {
	return strings.HasSuffix(way, ">"+n.kind) || n.kind == "*" && !strings.HasSuffix(way, ">gateway")
}

func (n *name) Heal(context.Context) error {
	if n.at != nil {
		n.at.Set(n.kind, "")
	}
	return nil
}

// Bites is how many questions were spoilt.
func (n *name) Bites() (int64, error) {
	if n.at == nil {
		return 0, nil
	}
	return n.at.Bites() - n.before, nil
}

// named has names not be found.
func named(length time.Duration) (list []Experiment) {
	everything := Availability{all, all, all}
	for _, x := range []struct {
		name, kind, claim, blast string
		how                      NameFault
		least                    Availability
		within                   time.Duration
	}{
		{"dns-psp", "psp", "While the payment provider's name does not exist orders wait, and nothing is in doubt", "the payment step", NoSuchName, everything, partyBack},
		{"dns-psp-silent", "psp", "A question for the provider's name that is not answered holds up the payment step alone", "the payment step", NoAnswer, everything, partyBack},
		{"dns-store", "postgres", "While the databases' name is not told orders and cancels are answered 503, never with a false success", "the whole API but for stale reads", ServerFailure, Availability{none, none, none}, linkHealed},
		{"dns-bus", "kafka", "While a question for Kafka's name is not answered orders are taken and wait in the outbox", "all sagas pause", NoAnswer, everything, engineBack},
		{"dns-all", "*", "While no name is told at all nothing is answered with a false success", "everything", ServerFailure, Availability{none, none, none}, engineBack},
	} {
		list = append(list, single(Experiment{
			Name: x.name, Where: Split, Needs: NamesNeed, Blast: x.blast,
			Hypothesis: fmt.Sprintf("%s; nothing is lost or done twice, and %s after it is healed all is as before.", x.claim, x.within),
			Target:     Target{Within: x.within}, Least: x.least,
		}, length, &name{kind: x.kind, how: x.how}))
	}
	return list
}
