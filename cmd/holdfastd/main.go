// Command holdfastd runs modules of Holdfast on external engines: one process of a service.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"holdfast/app"
	"holdfast/app/verify"
)

// gcPercent is how much the heap may grow before garbage is collected, unless GOGC says otherwise: a process here
// keeps little. Where memory is scarce GOMEMLIMIT has it collected sooner.
const gcPercent = 300

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(run())
}

// run stops in order on the first SIGINT or SIGTERM, and at once on the second.
func run() int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "holdfastd: stopped at once, as asked twice")
		os.Exit(app.ExitFailure)
	}()
	return app.Daemon(ctx, os.Args[1:], os.Environ(), app.Program{Stderr: os.Stderr, Verifier: verify.Daemon})
}
