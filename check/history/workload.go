package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"holdfast/shop"
)

// Config is a workload.
type Config struct {
	// Find says where the Holdfast listens and by which API key it is spoken to. It is asked at the start, and
	// again where a request had no answer: a Holdfast that was killed may come back elsewhere.
	Find     func() (url, apiKey string, err error)
	File     string // of the history; it must not be there yet
	Seed     uint64
	Run      string        // begins the names of customers, keys and SKUs; "" for one by the seed
	Clients  int           // each does one thing at a time; 0: 8
	Duration time.Duration // of the load; 0: 20 s
	// Operations are those that the load goes on for at least, for up to patient times its duration: a machine that
	// is busy with something else is slow, and what happens only sometimes must happen all the same.
	Operations int
	Rest       time.Duration // how long what was begun may take to come to its end after it; 0: 90 s
	Repeat     string        // the command that repeats it
	Stop       <-chan struct{}
}

// Defaults fills what is zero.
func (c Config) Defaults() Config {
	if c.Run == "" {
		c.Run = "h" + strconv.FormatUint(c.Seed, 36)
	}
	if c.Clients == 0 {
		c.Clients = 8
	}
	if c.Duration == 0 {
		c.Duration = 20 * time.Second
	}
	if c.Rest == 0 {
		c.Rest = 90 * time.Second
	}
	return c
}

const (
	// slots are the items that are sold at a time. Half of them are scarce.
	slots = 6
	// perItem is how many times an item is ordered before another takes its place: what is checked for one
	// item at a time must stay small.
	perItem = 24
	// perCustomer is how many orders a customer has; a list then has them all.
	perCustomer = 40
	// maxOpen bounds the orders of a client that have not come to their end: as above.
	maxOpen = 3
	// maxThink is the longest pause of a client between two operations.
	maxThink = 30 * time.Millisecond
	// maxPatience is around the time in which answers come: half of those who give up have been heard.
	maxPatience = 20 * time.Millisecond

	// patient is how many times its duration the load may last for its operations.
	patient = 6

	scarceStock, plentyStock = 14, 500
)

// workload is a running Config.
type workload struct {
	cfg  Config
	log  *Log
	wire *wire

	mu    sync.Mutex
	shelf [slots]item
	items []shop.SKU // of all time

	failed error // of the disk: nothing is recorded any more
	cancel context.CancelFunc
}

// item is one of the items that are sold at present.
type item struct {
	sku     shop.SKU
	ordered int
	filling bool // somebody is putting another one in its place
}

// Run carries out a workload and records it. It ends once every order has come to its end and everything was
// read once more, or with an error: what was recorded can be judged nevertheless, as far as it goes.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg = cfg.Defaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &workload{cfg: cfg, cancel: cancel, wire: newWire(cfg.Find)}
	if err := w.wire.locate(); err != nil {
		return err
	}
	if w.log, err = Create(cfg.File, Head{Seed: cfg.Seed, Run: cfg.Run, Repeat: cfg.Repeat}); err != nil {
		return err
	}
	whole := false
	defer func() { err = errors.Join(err, w.log.Close(whole)) }()
	sessions := make([]*session, cfg.Clients)
	for i := range sessions {
		sessions[i] = &session{w: w, client: i + 1, customers: map[string]bool{}, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i+1)))}
	}
	load, stop := context.WithTimeout(ctx, patient*cfg.Duration)
	defer stop()
	go func() {
		select {
		case <-cfg.Stop:
			stop()
		case <-load.Done():
		}
	}()
	w.each(sessions, func(s *session) { s.load(load) })
	rest, stopRest := context.WithTimeout(ctx, cfg.Rest)
	defer stopRest()
	w.each(sessions, func(s *session) { s.finish(rest) })
	w.each(sessions, func(s *session) { s.lookAtItems(rest) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if rest.Err() != nil {
		return fmt.Errorf("not every order came to its end and could be read within %s: %w", cfg.Rest, rest.Err())
	}
	whole = true
	return nil
}

// enough tells whether the load is over.
func (w *workload) enough() bool {
	done, lasted := w.log.Count()
	return lasted >= w.cfg.Duration && done >= w.cfg.Operations
}

// each runs fn for all clients at once.
func (w *workload) each(sessions []*session, fn func(*session)) {
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { fn(s) })
	}
	wg.Wait()
}

// fail ends the workload: its history cannot be written.
func (w *workload) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = errors.Join(w.failed, err)
	w.cancel()
}

// do records an operation around its request, which is let finish where ctx ends meanwhile.
func (w *workload) do(ctx context.Context, r Request) (Kind, Answer) {
	op, err := w.log.Invoke(r)
	if err != nil {
		w.fail(err)
		return Unknown, Answer{}
	}
	outcome, a := w.wire.send(context.WithoutCancel(ctx), r)
	if err := w.log.Answer(op, outcome, a); err != nil {
		w.fail(err)
		return Unknown, Answer{}
	}
	return outcome, a
}

// pick names an item to order, and has the session put another one in its place where it has been ordered
// often enough.
func (w *workload) pick(ctx context.Context, s *session) shop.SKU {
	for ctx.Err() == nil {
		at := s.rng.IntN(slots)
		w.mu.Lock()
		it := &w.shelf[at]
		if it.filling {
			w.mu.Unlock()
			s.pause(ctx, maxThink)
			continue
		}
		if it.sku != "" && it.ordered < perItem {
			it.ordered++
			sku := it.sku
			w.mu.Unlock()
			return sku
		}
		it.filling = true
		sku := shop.SKU(fmt.Sprintf("%s-%d-%d", w.cfg.Run, at, len(w.items)))
		w.items = append(w.items, sku)
		w.mu.Unlock()
		stock := int64(plentyStock)
		if at < slots/2 {
			stock = scarceStock
		}
		filled := s.fill(ctx, sku, stock)
		w.mu.Lock()
		*it = item{}
		if filled {
			it.sku = sku
		}
		w.mu.Unlock()
	}
	return ""
}

// scarce returns an item that runs out, or "".
func (w *workload) scarce(at int) shop.SKU {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it := w.shelf[at%(slots/2)]; !it.filling {
		return it.sku
	}
	return ""
}
