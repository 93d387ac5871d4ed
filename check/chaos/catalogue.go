package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// The limits of reliability: how soon all is to be as before.
const (
	replicaKilled = 2 * time.Second // counted from the fault: the others make up for it
	storeRestart  = 5 * time.Second
	linkHealed    = 10 * time.Second
	partyBack     = 15 * time.Second
	engineBack    = 30 * time.Second
	poisoned      = 60 * time.Second
)

const (
	// shortLength is how long a fault lasts where nobody asks for more, and knownLength those of the known experiments.
	shortLength = 12 * time.Second
	knownLength = time.Minute
	calmLength  = 5 * time.Second
	// rate is the orders per second of an experiment.
	rate = 20
)

// all and none are what is promised of requests while a fault lasts. Every promise lets one request pass.
const (
	all    = 0.99
	most   = 0.9
	none   = 0
	always = 0.999 // what is critical, under ten times the load
)

// Experiments returns the named experiments. length is how long each of their faults lasts; 0 is as long as each is
// meant to.
func Experiments(length time.Duration) []Experiment {
	short, long := length, length
	if length == 0 {
		short, long = shortLength, knownLength
	}
	var list []Experiment
	for _, group := range [][]Experiment{known(long), processes(short), links(short), engines(short), named(short), clocks(short), parties(short), loads(short), busFaults(short), onUp(short)} {
		list = append(list, group...)
	}
	return list
}

// single is an experiment with one fault: calm, the fault, and until all is as before.
func single(e Experiment, length time.Duration, f Fault) Experiment {
	e.Load = Load{Rate: rate, Cancels: 2, Reads: 5, Mixed: true}
	e.Phases = []Phase{{Name: "calm", For: calmLength}, {Name: "fault", For: length, Faults: []Fault{f}}, {Name: "after"}}
	return e
}

// services are those that have replicas of their own, with what stands while all of them are down. Prices are asked
// of inventory (ADR 7), so without it no orders are accepted; the gateway is the only way in.
var services = []struct {
	name   string
	blast  string
	down   Availability
	hidden string // what a client notices of it
}{
	{"order", "orders, cancels and reads: 503 until one is there again", Availability{none, none, none}, "the API of orders is away"},
	{"inventory", "new orders are refused, since prices are asked of it; orders under way wait for stock", Availability{none, all, all}, "no orders are accepted"},
	{"payment", "orders wait for the payment step", Availability{all, all, all}, "orders stay pending"},
	{"shipping", "orders wait for the shipping step", Availability{all, all, all}, "orders stay pending"},
	{"saga", "orchestrated orders wait", Availability{all, all, all}, "orchestrated orders stay pending"},
	{"gateway", "everything: there is no other way in", Availability{none, none, none}, "nothing answers"},
}

// processes kills, stops and slows down processes.
func processes(length time.Duration) (list []Experiment) {
	for _, s := range services {
		temporal := s.name == "saga"
		list = append(list, single(Experiment{
			Name: "kill-" + s.name, Where: Split, Temporal: temporal, Blast: "one replica of " + s.name,
			Hypothesis: fmt.Sprintf("A replica of %s that is killed is not missed: the others answer, and %s after it died orders are accepted and confirmed as before.", s.name, replicaKilled),
			Target:     Target{Within: replicaKilled, FromFault: true}, Least: Availability{all, all, all},
		}, length, &process{kind: s.name, act: kill}), single(Experiment{
			Name: "down-" + s.name, Where: Split, Temporal: temporal, Blast: s.blast,
			Hypothesis: fmt.Sprintf("With every replica of %s killed %s; nothing is lost, and %s after they are back all is as before.", s.name, s.hidden, partyBack),
			Target:     Target{Within: partyBack}, Least: s.down,
		}, length, &process{kind: s.name, all: true, act: kill}), single(Experiment{
			Name: "pause-" + s.name, Where: Split, Temporal: temporal, Blast: "one replica of " + s.name + ", and who waits for it",
			Hypothesis: fmt.Sprintf("A replica of %s that hangs, and comes back as a zombie with what it had begun, does nothing twice; most requests are answered meanwhile, and %s after it is back all is as before.", s.name, partyBack),
			Target:     Target{Within: partyBack}, Least: Availability{most, most, most},
		}, length, &process{kind: s.name, act: pause}))
	}
	return append(list, single(Experiment{
		Name: "slow-order", Where: Split, Blast: "one replica of order, and who waits for it",
		Hypothesis: fmt.Sprintf("A replica of order that gets a tenth of a processor slows down its share of the requests; nothing is lost, and %s after it all is as before.", linkHealed),
		Target:     Target{Within: linkHealed}, Least: Availability{most, most, most},
	}, length, &process{kind: "order", act: throttle, share: 0.1}))
}

// links has connections fail, each direction by itself.
func links(length time.Duration) (list []Experiment) {
	everything := Availability{all, all, all}
	for _, l := range []struct {
		name, link, what, claim string
		out, back               LinkFault
		least                   Availability
		within                  time.Duration
		temporal                bool
	}{
		{"psp-partition", "payment>psp", "nothing passes, either way", "While nothing reaches the payment provider orders wait", LinkFault{Drop: true}, LinkFault{Drop: true}, everything, partyBack, false},
		{"psp-answer-lost", "payment>psp", "answers are lost", "Money that the provider has moved, and whose answer was lost, is asked for and not moved again", LinkFault{}, LinkFault{Drop: true}, everything, partyBack, false},
		{"psp-link-slow", "payment>psp", "700 ms more, each way", "A slow way to the provider is felt by the payment step alone", LinkFault{Latency: "700ms"}, LinkFault{Latency: "700ms"}, everything, partyBack, false},
		{"psp-drip", "payment>psp", "answers come at 100 bytes a second", "Answers that come byte by byte hold up the payment step alone", LinkFault{}, LinkFault{Drip: 100}, everything, partyBack, false},
		{"psp-reset", "payment>psp", "every other connection is reset in the middle of an answer", "Connections that are reset half-way through an answer leave nothing in doubt for long", LinkFault{}, LinkFault{ResetAt: 0.5}, everything, partyBack, false},
		{"psp-truncate", "payment>psp", "every other connection is closed in the middle of an answer", "Half an answer is none", LinkFault{}, LinkFault{Truncate: 0.5}, everything, partyBack, false},
		{"psp-webhooks-lost", "psp>gateway", "nothing passes, either way", "What the provider's messages would have said is asked for, or comes with their repetition", LinkFault{Drop: true}, LinkFault{Drop: true}, everything, linkHealed, false},
		{"carrier-answer-lost", "shipping>carrier", "answers are lost", "A parcel that was scheduled, and whose answer was lost, is not scheduled again", LinkFault{}, LinkFault{Drop: true}, everything, partyBack, false},
		{"inventory-partition", "order>inventory", "nothing passes, either way", "While prices cannot be asked for, orders are refused and none is half placed", LinkFault{Drop: true}, LinkFault{Drop: true}, Availability{none, all, all}, linkHealed, false},
		{"order-answer-lost", "gateway>order", "answers are lost", "An order whose acknowledgement was lost is there once, under its key", LinkFault{}, LinkFault{Drop: true}, Availability{none, none, none}, linkHealed, false},
		{"order-request-lost", "gateway>order", "requests are lost", "A request that never arrived has no effect, or that of its repetition", LinkFault{Drop: true}, LinkFault{}, Availability{none, none, none}, linkHealed, false},
		{"store-partition", "payment>postgres", "nothing passes, either way", "A service that cannot reach its store waits, and does nothing in the dark", LinkFault{Drop: true}, LinkFault{Drop: true}, everything, linkHealed, false},
		{"bus-partition", "*>kafka", "nothing passes, either way", "While nobody reaches Kafka orders are taken and wait in the outbox", LinkFault{Drop: true}, LinkFault{Drop: true}, everything, engineBack, false},
		{"bus-answer-lost", "order>kafka", "answers are lost", "Events whose acknowledgement was lost are sent again, and take effect once", LinkFault{}, LinkFault{Drop: true}, everything, engineBack, false},
		{"temporal-partition", "saga>temporal", "nothing passes, either way", "While Temporal cannot be reached orchestrated orders wait, and the others go on", LinkFault{Drop: true}, LinkFault{Drop: true}, everything, engineBack, true},
	} {
		list = append(list, single(Experiment{
			Name: l.name, Where: Split, Temporal: l.temporal, Blast: "the way " + l.link,
			Hypothesis: fmt.Sprintf("%s; nothing is lost or done twice, and %s after it is healed all is as before.", l.claim, l.within),
			Target:     Target{Within: l.within}, Least: l.least,
		}, length, &link{name: l.link, what: l.what, out: l.out, back: l.back}))
	}
	return list
}

// engines kills what the services stand on, and starts it again on the same files.
func engines(length time.Duration) (list []Experiment) {
	for _, x := range []struct {
		kind, claim, blast string
		within             time.Duration
		least              Availability
		temporal           bool
	}{
		{"kafka", "Without Kafka orders and cancels are taken, and wait in the outbox", "all sagas pause", engineBack, Availability{all, all, all}, false},
		{"postgres", "Without PostgreSQL orders and cancels are answered 503, never with a false success", "the whole API but for stale reads", storeRestart, Availability{none, none, none}, false},
		{"temporal", "Without Temporal orders and cancels are taken, and orchestrated ones wait", "orchestrated sagas pause", engineBack, Availability{all, all, all}, true},
	} {
		list = append(list, single(Experiment{
			Name: "restart-" + x.kind, Where: Split, Temporal: x.temporal, Blast: x.blast,
			Hypothesis: fmt.Sprintf("%s; nothing is lost, and %s after it is back all is as before.", x.claim, x.within),
			Target:     Target{Within: x.within}, Least: x.least,
		}, length, &process{kind: x.kind, all: true, act: kill}))
	}
	return list
}

// parties has the outside parties answer wrongly.
func parties(length time.Duration) (list []Experiment) {
	for _, p := range []struct {
		name, party, claim string
		wrong              Wrong
	}{
		{"psp-errors", "psp", "A provider that answers 500 to everything is left alone by an open breaker", Wrong{Status: 500}},
		{"psp-throttles", "psp", "A provider that answers 429 is given the time that it asks for", Wrong{Status: 429, RetryAfter: "2s"}},
		{"psp-garbage", "psp", "HTML with a 200 is not taken for a success", Wrong{Garbage: true}},
		{"psp-slow", "psp", "A provider that takes two seconds holds up the payment step alone", Wrong{Latency: "2s"}},
		{"carrier-silent", "carrier", "A carrier that never answers holds up the shipping step alone", Wrong{Lose: "request"}},
	} {
		list = append(list, single(Experiment{
			Name: p.name, Where: Either, Blast: "the " + map[string]string{"psp": "payment", "carrier": "shipping"}[p.party] + " step; orders wait in it",
			Hypothesis: fmt.Sprintf("%s: orders are accepted meanwhile, and %s after it is well again all is as before.", p.claim, partyBack),
			Target:     Target{Within: partyBack}, Least: Availability{all, all, all},
		}, length, &party{name: p.party, wrong: p.wrong}))
	}
	return list
}

// loads sends more than usual.
func loads(length time.Duration) []Experiment {
	const herd, buyers, units = 20 * rate, 1000, 100
	return []Experiment{single(Experiment{
		Name: "ten-times", Where: Either, Blast: "new orders, of which some are refused",
		Hypothesis: fmt.Sprintf("Ten times the usual load is carried or refused quickly: at least 99.9 %% of the cancels are answered, and %s after it all is as before.", linkHealed),
		Target:     Target{Within: linkHealed}, Least: Availability{none, always, none},
	}, length, &burst{rate: 9 * rate}), single(Experiment{
		Name: "herd", Where: Either, Blast: "new orders, some of which are refused or wait",
		Hypothesis: fmt.Sprintf("Everybody at once, as after an outage: of %d orders in an instant some may be refused and none is lost, at least 99.9 %% of the cancels are answered, and all is as before %s later.", herd, linkHealed),
		Target:     Target{Within: linkHealed}, Least: Availability{none, always, none},
	}, calmLength, &burst{orders: herd}), single(Experiment{
		Name: "hot-sku", Where: Either, Blast: "buyers of one article",
		Hypothesis: fmt.Sprintf("%d buyers of %d units in an instant: %d get one, and nothing is sold twice; at least 99.9 %% of the cancels are answered, and all is as before %s later.", buyers, units, units, linkHealed),
		Target:     Target{Within: linkHealed}, Least: Availability{none, always, none},
	}, calmLength, &burst{orders: buyers, stock: units})}
}

// busFaults puts on the bus what does not belong there.
func busFaults(length time.Duration) []Experiment {
	return []Experiment{single(Experiment{
		Name: "duplicates", Where: Either, Blast: "every consumer of the bus",
		Hypothesis: "Half of all events come again, up to two seconds later and in another order: each takes effect once, and nobody notices.",
		Target:     Target{Within: linkHealed}, Least: Availability{all, all, all},
	}, length, &echo{share: 0.5, delay: 2 * time.Second}), single(Experiment{
		Name: "poison", Where: Either, Blast: "two keys of the topic of orders, which belong to nobody",
		Hypothesis: fmt.Sprintf("Records that nobody can handle become dead letters, and hold up nobody else: all is as before within %s.", poisoned),
		Target:     Target{Within: poisoned, FromFault: true}, Least: Availability{all, all, all},
	}, length, &poison{})}
}

// alone is the kind of the one process of `holdfast up`.
const alone = "holdfast"

// onUp does to the one process of `holdfast up` what can be done to it.
func onUp(length time.Duration) []Experiment {
	return []Experiment{single(Experiment{
		Name: "kill-all", Where: Up, Blast: "everything: it is one process",
		Hypothesis: fmt.Sprintf("Everything is killed at once, the broker and the outside parties with it, and started again on the same files: nothing is lost, and %s later all is as before.", partyBack),
		Target:     Target{Within: partyBack},
	}, length, &process{kind: alone, all: true, act: kill}), single(Experiment{
		Name: "pause-all", Where: Up, Blast: "everything: it is one process",
		Hypothesis: fmt.Sprintf("Everything stands still, as a machine that sleeps, and goes on: nothing is lost or done twice, and %s later all is as before.", partyBack),
		Target:     Target{Within: partyBack},
	}, length, &process{kind: alone, all: true, act: pause}), single(Experiment{
		Name: "disk-full", Where: Up, Needs: SmallDiskNeed, Blast: "everything that is stored",
		Hypothesis: fmt.Sprintf("On a full disk orders and cancels are answered 503, and reads go on; %s after there is room again all is as before.", linkHealed),
		Target:     Target{Within: linkHealed}, Least: Availability{none, none, all},
	}, length, &disk{})}
}

// Pairs returns n experiments of two faults at a time, which the seed draws. What they are done to is not the same, and
// only safety is judged. Experiments that need what is not there are not drawn.
func Pairs(n int, seed uint64, length time.Duration, where Where, temporal bool, without []Need) []Experiment {
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	var list []Experiment
	for i := range n {
		// Faults hold state, so each pair has some of its own.
		from := slices.DeleteFunc(Experiments(length), func(e Experiment) bool {
			return !e.Load.Mixed || !e.Runs(where) || e.Temporal && !temporal || e.Needs == SmallDiskNeed || slices.Contains(without, e.Needs)
		})
		a, b := random.IntN(len(from)), random.IntN(len(from))
		for touches(from[a]) == touches(from[b]) {
			b = random.IntN(len(from))
		}
		list = append(list, pair(i+1, from[a], from[b]))
	}
	return list
}

func touches(e Experiment) string { return e.Phases[1].Faults[0].Touches() }

// pair has the second fault begin half-way through the first, and last half as long again.
func pair(number int, a, b Experiment) Experiment {
	first, second := a.Phases[1].Faults[0], b.Phases[1].Faults[0]
	half := a.Phases[1].For / 2
	e := a
	e.Name = fmt.Sprintf("pair-%d-%s-%s", number, a.Name, b.Name)
	e.Hypothesis = fmt.Sprintf("%s and %s at a time: nothing is lost or done twice, and everything comes to its end.", a.Name, b.Name)
	e.Blast = a.Blast + "; " + b.Blast
	e.Phases = []Phase{a.Phases[0], {Name: "first", For: half, Faults: []Fault{first}}, {Name: "both", For: half, Faults: []Fault{first, second}},
		{Name: "second", For: half, Faults: []Fault{second}}, {Name: "after"}}
	e.Target, e.Least, e.SafetyOnly = Target{}, Availability{}, true
	return e
}
