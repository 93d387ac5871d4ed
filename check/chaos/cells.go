package chaos

import (
	"slices"
	"strings"
	"time"
)

// cellRate is how many orders per second are placed meanwhile: half the usual, so that two runs fit on two cores.
const cellRate = 10

// Cells returns every single fault of every part and way of split processes that orders depend on: a fault each, which
// comes as often as there are rounds, with other draws each time. Only safety is judged. docs/chaos.md has the matrix.
func Cells(length time.Duration, rounds int) []Experiment {
	if length == 0 {
		length = shortLength
	}
	list := cells(length)
	for range rounds - 1 {
		for i, again := range cells(length) { // a value of a fault is for one time
			last := len(list[i].Phases) - 1
			list[i].Phases = slices.Insert(list[i].Phases, last, Phase{Name: "between", For: quickLength}, again.Phases[1])
		}
	}
	for i := range list {
		list[i].Load.Rate, list[i].Repeated = cellRate, rounds > 1
	}
	return list
}

func cells(length time.Duration) (list []Experiment) {
	cell := func(name string, need Need, f Fault) {
		list = append(list, single(Experiment{
			Name: "cell-" + name, Where: Split, Needs: need, Blast: f.Touches(),
			Hypothesis: f.Describe() + ": nothing is lost or done twice, and everything comes to its end.",
		}, length, f))
	}
	for _, way := range ways {
		for _, w := range wrongWays {
			cell(way+"-"+w.name, "", &link{name: way, what: w.what, out: w.out, back: w.back, cut: w.out.Refuse})
		}
	}
	for _, s := range services {
		cell(s.name+"-kill", "", &process{kind: s.name, act: kill})
		cell(s.name+"-down", "", &process{kind: s.name, all: true, act: kill})
		cell(s.name+"-pause", "", &process{kind: s.name, act: pause})
		cell(s.name+"-slow", "", &process{kind: s.name, act: throttle, share: 0.1})
		cell(s.name+"-clock-ahead", ClocksNeed, &jump{kind: s.name, by: ahead})
		cell(s.name+"-clock-back", ClocksNeed, &jump{kind: s.name, by: back})
	}
	for _, kind := range []string{"kafka", "postgres", "temporal", "psp", "carrier"} {
		cell(kind+"-kill", "", &process{kind: kind, all: true, act: kill})
		cell(kind+"-pause", "", &process{kind: kind, all: true, act: pause})
		cell(kind+"-slow", "", &process{kind: kind, all: true, act: throttle, share: 0.1})
	}
	for _, who := range []string{"psp", "carrier"} {
		for _, w := range wrongAnswers {
			cell(who+"-"+w.name, "", &party{name: who, wrong: w.wrong})
		}
	}
	for _, kind := range []string{"psp", "carrier", "postgres", "kafka", "order", "inventory", "shipping", "*"} {
		for _, how := range []NameFault{NoSuchName, ServerFailure, NoAnswer} {
			cell("dns-"+kind+"-"+strings.ReplaceAll(strings.ToLower(string(how)), " ", "-"), NamesNeed, &name{kind: kind, how: how})
		}
	}
	return append(list, fromLists(length)...)
}

// fromLists are the cells that are experiments already: loads, and what does not belong on the bus.
func fromLists(length time.Duration) (list []Experiment) {
	for _, e := range append(loads(length), busFaults(length)...) {
		e.Name, e.Target, e.Least = "cell-"+e.Name, Target{}, Availability{}
		list = append(list, e)
	}
	return list
}

// ways are the links that the load of an experiment uses. Those from order to payment and shipping, of timelines and
// fees, and that from inventory to order, of reservations that expire, are not used within the seconds of a cell.
var ways = []string{
	"payment>psp", "shipping>carrier", "psp>gateway", "carrier>gateway", "client>gateway",
	"gateway>order", "order>inventory", "shipping>order", "saga>inventory", "saga>payment", "saga>shipping",
	"inventory>kafka", "payment>kafka", "shipping>kafka", "order>kafka", "saga>kafka",
	"inventory>postgres", "payment>postgres", "shipping>postgres", "order>postgres", "saga>postgres", "saga>temporal",
}

// wrongWays are what may be wrong with a link, each direction by itself.
var wrongWays = []struct {
	name, what string
	out, back  LinkFault
}{
	{"late-out", "requests take 700 ms more", LinkFault{Latency: "700ms"}, LinkFault{}},
	{"late-back", "answers take 700 ms more", LinkFault{}, LinkFault{Latency: "700ms"}},
	{"request-lost", "requests are lost", LinkFault{Drop: true}, LinkFault{}},
	{"answer-lost", "answers are lost", LinkFault{}, LinkFault{Drop: true}},
	{"partition", "nothing passes, either way", LinkFault{Drop: true}, LinkFault{Drop: true}},
	{"reset-out", "every other connection is reset in the middle of a request", LinkFault{ResetAt: 0.5}, LinkFault{}},
	{"reset-back", "every other connection is reset in the middle of an answer", LinkFault{}, LinkFault{ResetAt: 0.5}},
	{"truncate-out", "every other connection is closed in the middle of a request", LinkFault{Truncate: 0.5}, LinkFault{}},
	{"truncate-back", "every other connection is closed in the middle of an answer", LinkFault{}, LinkFault{Truncate: 0.5}},
	{"drip-out", "requests come at 100 bytes a second", LinkFault{Drip: 100}, LinkFault{}},
	{"drip-back", "answers come at 100 bytes a second", LinkFault{}, LinkFault{Drip: 100}},
	{"refuse", "connections are cut, and refused", LinkFault{Refuse: true}, LinkFault{}},
}

// wrongAnswers are what an outside party may answer, or not.
var wrongAnswers = []struct {
	name  string
	wrong Wrong
}{
	{"errors", Wrong{Status: 500}},
	{"throttles", Wrong{Status: 429, RetryAfter: "1s"}},
	{"garbage", Wrong{Garbage: true}},
	{"late", Wrong{Latency: "2s"}},
	{"request-lost", Wrong{Lose: "request"}},
	{"answer-lost", Wrong{Lose: "answer"}},
}
