package points

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/harness"
)

// World is one run of a scenario: a Holdfast, which may die at a point, its client and the outside parties.
type World struct {
	scenario Scenario
	dir      string
	life     Life
	log      *os.File
	api      *client.Client
	http     *http.Client
	key      string
	collects *knock // by the carrier
	parties  context.Context
	ends     []chan error
	first    *child // the one that may die
	deadline time.Time

	mu      sync.Mutex
	child   *child // the one that lives, or was the last
	dead    bool   // at its point
	closing bool
	guard   chan struct{} // closed when nobody looks after the process any more
	found   []check.Violation
	history []string
	sent    map[string]check.Sent
	wants   map[shop.OrderID][]string
	exempt  map[string]bool // offenders that are meant to be wrong
	letters int             // dead letters that are meant to be
}

// Result is what became of a run.
type Result struct {
	Reached    bool
	Effects    []string // until the process died, or all; "commit:payment 3"
	Violations []check.Violation
	Took       time.Duration
	Dir        string // with everything that is left
}

// restLimit is for a run to come to rest. What takes longer does not move by itself.
var restLimit = fakes.Limit(20 * time.Second)

// worlds numbers the worlds of this process, for their addresses.
var worlds atomic.Uint32

// newHost is an address of the loopback network that nobody else has: of this process and of this world.
func newHost() string {
	n, pid := worlds.Add(1)-1, os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 16+pid%200, 1+pid/200%250, 1+n%250)
}

// Run runs a scenario, and has the process die at a point; the zero value is none. template is a data
// directory with the items and their stock. dir is made.
func Run(s Scenario, at Point, template, dir string) (*Result, error) {
	began := time.Now()
	data := filepath.Join(dir, "holdfast")
	if err := copyTree(template, data); err != nil {
		return nil, err
	}
	secrets, key, err := harness.ReadSecrets(data)
	if err != nil {
		return nil, err
	}
	parties, stop := context.WithCancel(context.Background())
	w := &World{scenario: s, dir: dir, key: key, parties: parties, life: Life{Dir: data, Host: newHost(), Effects: filepath.Join(dir, "effects"), At: at},
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, guard: make(chan struct{}), deadline: began.Add(2 * restLimit),
		sent: map[string]check.Sent{}, wants: map[shop.OrderID][]string{}, exempt: map[string]bool{}}
	defer w.end(stop)
	if w.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if w.api, err = client.New(w.life.url(portAPI), key, w.http); err != nil {
		return nil, err
	}
	if err := w.startParties(secrets); err != nil {
		return nil, err
	}
	if err := w.start(); err != nil {
		return nil, err
	}
	s.Do(w)
	w.rest()
	w.quiet()
	w.disarm()
	r := &Result{Dir: dir, Reached: w.died()}
	if r.Reached {
		w.rest()
	}
	w.judge()
	if r.Effects, err = readEffects(w.life.Effects); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Violations, r.Took = w.found, time.Since(began)
	return r, os.WriteFile(filepath.Join(dir, "history"), []byte(strings.Join(w.history, "\n")+"\n"), 0o600)
}

// start starts the process, has it count, and looks after it from then on.
func (w *World) start() (err error) {
	if w.first, err = begin(w.life, w.log); err != nil {
		return err
	}
	w.child = w.first
	err = w.first.tell(wordArm)
	go w.lookAfter()
	return err
}

// lookAfter starts the process again when it has died at its point, once.
func (w *World) lookAfter() {
	defer close(w.guard)
	<-w.first.done
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return
	}
	killed := w.first.killed()
	w.dead = killed
	w.mu.Unlock()
	if !killed {
		w.violate("X1", "", "the process ended by itself: %v", w.first.err)
		return
	}
	w.note("died at %s", w.life.At)
	again := w.life
	again.At, again.Effects = Point{}, again.Effects+"-again"
	c, err := begin(again, w.log)
	if c != nil {
		w.mu.Lock()
		w.child = c
		w.mu.Unlock()
	}
	if err != nil {
		w.violate("X1", "", "after it had died: %v", err)
		return
	}
	w.note("started again")
}

func (w *World) died() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// end ends the process and the outside parties.
func (w *World) end(stop func()) {
	w.mu.Lock()
	w.closing = true
	c, guarded := w.child, w.guard
	w.mu.Unlock()
	if c != nil {
		c.kill()
		<-guarded
		w.mu.Lock()
		c = w.child // perhaps another one by now
		w.mu.Unlock()
		c.kill()
	}
	stop()
	for _, e := range w.ends {
		<-e
	}
	if w.log != nil {
		_ = w.log.Close()
	}
}

// logger logs for the outside parties.
func (w *World) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn})).With("process", "parties")
}

func (w *World) violate(invariant, order, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, check.Violation{Invariant: invariant, Order: order, Detail: fmt.Sprintf(format, args...)})
}

func (w *World) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, time.Now().UTC().Format(time.RFC3339Nano)+" "+fmt.Sprintf(format, args...))
}

// MakeTemplate makes the data directory that all runs begin with: migrated, with the items and their stock.
func MakeTemplate(ctx context.Context, dir string) error {
	log, err := os.CreateTemp(filepath.Dir(dir), "template-log")
	if err != nil {
		return err
	}
	defer log.Close()
	l := Life{Dir: dir, Host: newHost(), Effects: filepath.Join(filepath.Dir(dir), "template-effects")}
	c, err := begin(l, log)
	if err != nil {
		return err
	}
	_, key, err := harness.ReadSecrets(dir)
	if err != nil {
		return err
	}
	api, err := client.New(l.url(portAPI), key, nil)
	if err != nil {
		return err
	}
	for sku, n := range stock() {
		if _, err := api.PutItem(ctx, sku, 0, shop.PutItem{Name: string(sku), UnitPrice: 450, Currency: "EUR"}); err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if _, err := api.Receive(ctx, "stock-"+string(sku), sku, shop.Receipt{Quantity: n}); err != nil {
			return err
		}
	}
	return c.stop()
}

// readEffects reads the effects of a process in their order.
func readEffects(name string) ([]string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), nil
}

// copyTree copies a directory.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rest), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rest), b, 0o600)
	})
}
