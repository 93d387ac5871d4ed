package history

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A key counts per route. It is a register that takes the first request which is carried out, with its answer:
//
//	free       request b is carried out with answer a   -> taken(b, a)
//	free       b is refused, or nothing came of it      -> free
//	taken(b,a) b again is answered a                    -> taken(b, a)
//	taken(b,a) another request is answered 422 reused   -> taken(b, a)
//
// 409 "in progress" is allowed while another request under the key is under way, which is looked at beside it:
// it is about time, and not about the register. A request of unknown outcome is carried out at some instant after
// its invoke, or, which is the same, when all others are over.

// keyState is a register; its zero value is free.
type keyState struct {
	taken        bool
	body, answer string // no answer: it was carried out and nobody has been told yet
}

var keyModel = porcupine.Model{
	Init: func() any { return keyState{} },
	Step: func(state, input, output any) (bool, any) {
		return stepKey(state.(keyState), input.(*Op))
	},
	DescribeOperation: func(input, _ any) string { return describe(input.(*Op)) },
}

// The codes of problems that say something of the key or the command, and not of the load.
const (
	codeReused     = "idempotency_key_reused"
	codeInProgress = "idempotency_in_progress"
)

// refusals are about the command itself: a command that was carried out cannot be refused later.
var refusals = []string{"unknown_sku", "validation_failed", "price_changed", "order_dispatched", "conflict", "not_found"}

func stepKey(s keyState, o *Op) (bool, keyState) {
	switch {
	case o.Outcome == OK && !s.taken:
		return true, keyState{true, o.Body, o.Digest}
	case o.Outcome == OK && s.answer == "":
		return o.Body == s.body, keyState{true, s.body, o.Digest}
	case o.Outcome == OK:
		return o.Body == s.body && o.Digest == s.answer, s
	case o.Outcome == Unknown && !s.taken:
		return true, keyState{taken: true, body: o.Body}
	case o.Outcome == Unknown:
		return true, s
	case o.Code == codeReused:
		return s.taken && o.Body != s.body, s
	case slices.Contains(refusals, o.Code):
		return !s.taken || o.Body != s.body, s
	default:
		return true, s // 409 in progress, 429: nothing was done, whatever the key is
	}
}

func describe(o *Op) string {
	return fmt.Sprintf("op %d: %s %s -> %s %d %s %s", o.ID, o.Do, o.Key, o.Outcome, o.Status, o.Code, o.Digest)
}

// keys looks at every idempotency key.
func (h *History) keys(_ map[string]*order, opt Options) Check {
	c := Check{Name: "keys", Invariant: "I3", Says: "a key takes one request and gives one answer (linearizable)"}
	byKey := map[string][]*Op{}
	var names []string
	for _, o := range h.Ops {
		if o.Key == "" {
			continue
		}
		name := o.route() + " " + o.Key
		if byKey[name] == nil {
			names = append(names, name)
		}
		byKey[name] = append(byKey[name], o)
	}
	parts := make([]partition, len(names))
	for i, name := range names {
		ops := byKey[name]
		parts[i] = partition{name: name, model: keyModel}
		for _, o := range ops {
			parts[i].add(o, o, o.Call, o.Return)
			if o.Code == codeInProgress && !overlapped(o, ops) {
				c.bad(name, "op %d was answered 409 in progress while no other request under its key was under way", o.ID)
			}
		}
	}
	c.linearizable(parts, opt.Limit)
	return c
}

// overlapped tells whether another request was under way during o.
func overlapped(o *Op, ops []*Op) bool {
	return slices.ContainsFunc(ops, func(other *Op) bool { return other != o && other.Call <= o.Return && o.Call <= other.Return })
}

// partition is a part of a history that is checked by itself.
type partition struct {
	name  string
	model porcupine.Model
	ops   []porcupine.Operation
}

func (p *partition) add(input any, output any, call, ret time.Duration) {
	p.ops = append(p.ops, porcupine.Operation{ClientId: len(p.ops), Input: input, Output: output, Call: int64(call), Return: int64(ret)})
}

// atOnce bounds the partitions that are checked at a time; each may take some memory.
const atOnce = 2

// linearizable checks partitions. One that takes too long is not told.
func (c *Check) linearizable(parts []partition, limit time.Duration) {
	results := make([]porcupine.CheckResult, len(parts))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range parts {
		slots <- struct{}{}
		wg.Go(func() {
			results[i] = porcupine.CheckOperationsTimeout(parts[i].model, parts[i].ops, limit)
			<-slots
		})
	}
	wg.Wait()
	for i, p := range parts {
		c.Examined += len(p.ops)
		switch results[i] {
		case porcupine.Ok:
		case porcupine.Illegal:
			c.bad(p.name, "no order of its %d operations explains what the clients were told:%s", len(p.ops), p.text())
		default:
			c.open("%s was not told within %s", p.name, limit)
		}
	}
}

// maxTold bounds the operations that a violation lists.
const maxTold = 60

// text lists the operations.
func (p *partition) text() string {
	text := ""
	for i, o := range p.ops {
		if i == maxTold {
			return text + fmt.Sprintf("\n    and %d more", len(p.ops)-i)
		}
		ret := "never"
		if o.Return != int64(never) {
			ret = time.Duration(o.Return).String()
		}
		text += fmt.Sprintf("\n    [%s, %s] %s", time.Duration(o.Call), ret, p.model.DescribeOperation(o.Input, o.Output))
	}
	return text
}
