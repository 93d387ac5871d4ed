// Command faultclock is holdfastd with a clock that an experiment sets wrong, by way of a file. It is a program of
// its own, so that what is released has no such thing.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"holdfast/app"
	"holdfast/app/verify"
	"holdfast/check/engine"
	"holdfast/platform/run"
	"holdfast/shop"
)

func main() {
	os.Exit(serve())
}

// serve stops in order on SIGINT or SIGTERM.
func serve() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	file := os.Getenv(engine.ClockVariable)
	if file == "" {
		fmt.Fprintf(os.Stderr, "faultclock: %s names the file by which the clock is set\n", engine.ClockVariable)
		return app.ExitUsage
	}
	c := &clock{}
	if err := c.read(file); err != nil {
		fmt.Fprintf(os.Stderr, "faultclock: %v\n", err)
		return app.ExitUsage
	}
	following, over := context.WithCancel(context.WithoutCancel(ctx))
	var follower sync.WaitGroup
	follower.Go(func() { c.follow(following, file) })
	defer follower.Wait()
	defer over()
	return app.Daemon(ctx, os.Args[1:], os.Environ(), app.Program{Stderr: os.Stderr, Verifier: verify.Daemon, Deps: func(log *slog.Logger) shop.Deps {
		deps := run.Real(log)
		c.Clock = deps.Clock
		deps.Clock, deps.IDs = c, ids{deps.IDs, c}
		return deps
	}})
}
