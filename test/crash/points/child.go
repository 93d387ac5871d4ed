package points

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"holdfast/app/local"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// childVariable holds the description of a life, in the process that lives it.
const childVariable = "HOLDFAST_CRASH_CHILD"

// Life describes one life of the process that is killed.
type Life struct {
	Dir     string `json:"dir"`
	Host    string `json:"host"`    // the address of everybody on this machine
	Effects string `json:"effects"` // a file for the effects, one a line
	At      Point  `json:"at"`      // where it ends itself; the zero value: nowhere
}

// The ports. Each world has an address of its own.
const (
	portAPI     = 8080
	portAdmin   = 8081
	portBus     = 9092
	portPSP     = 7001
	portCarrier = 7002
)

func (l Life) at(port int) string  { return fmt.Sprintf("%s:%d", l.Host, port) }
func (l Life) url(port int) string { return "http://" + l.at(port) }

// What the two processes say to one another, in lines.
const (
	wordReady  = "ready"
	wordArm    = "arm"    // count effects from now on
	wordDisarm = "disarm" // and no more
	wordDone   = "done"
)

// Main lives the life that the environment describes, and ends the process. Without one it returns. It
// reads its orders from standard input, and stops in order when that ends.
func Main() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	var l Life
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := l.live(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (l Life) live() error {
	log, err := os.OpenFile(l.Effects, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	t := &trap{at: l.At, log: log, counts: map[string]int{}}
	defer runtime.KeepAlive(watchCommits(t))
	w := &network{trap: t, bus: exchanges{open: map[string]exchange{}},
		links: map[string]string{l.at(portAPI): "api", l.at(portBus): "bus", l.at(portPSP): "psp", l.at(portCarrier): "carrier"}}
	deps := shop.Deps{Clock: fakes.RealClock{}, Rand: fakes.SeededRand(uint64(time.Now().UnixNano())), IDs: fakes.IDs{}, Net: w, Files: fakes.Files{},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			t.arm(lines.Text() == wordArm)
			fmt.Println(wordDone)
		}
	}()
	return local.Run(ctx, l.config(), deps, func(local.Ready) { fmt.Println(wordReady) })
}

// config is that of `holdfast up` with short waits. The watchdog sleeps: it would mend in time what a crash
// must not break in the first place.
func (l Life) config() local.Config {
	cfg := local.Defaults()
	cfg.Data, cfg.Addr, cfg.AdminAddr, cfg.Seed = l.Dir, l.at(portAPI), l.at(portAdmin), false
	cfg.Embedded.Addr = l.at(portBus)
	cfg.Payment.ProviderURL, cfg.Shipping.CarrierURL = l.url(portPSP), l.url(portCarrier)
	cfg.Payment.Provider.CallTimeout, cfg.Shipping.Carrier.CallTimeout = callTimeout, callTimeout
	cfg.Payment.RetryMin, cfg.Payment.RetryMax = 20*time.Millisecond, 100*time.Millisecond
	cfg.Shipping.RetryMin, cfg.Shipping.RetryMax = 20*time.Millisecond, 100*time.Millisecond
	cfg.Payment.Calls.Poll, cfg.Shipping.Calls.Poll = 20*time.Millisecond, 20*time.Millisecond
	cfg.Bus.Commit = 100 * time.Millisecond
	cfg.Order.StrainMax, cfg.Order.BacklogFrom, cfg.Order.BacklogMax = 0, 5*time.Second, 10*time.Second
	cfg.Order.RedriveAfter, cfg.Order.RedriveMax, cfg.Order.StuckAfter = time.Hour, 2*time.Hour, 2*time.Hour
	return cfg
}

// callTimeout is how long an outside party may take to answer.
const callTimeout = 400 * time.Millisecond
