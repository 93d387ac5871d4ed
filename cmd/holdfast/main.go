// Command holdfast runs Holdfast on one machine, and speaks to one that runs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"holdfast/cli"
)

func main() {
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
		fmt.Fprintln(os.Stderr, "stopping; once more to stop at once")
		cancel()
		<-signals
		os.Exit(cli.ExitInterrupted)
	}()
	return cli.Main(ctx, cli.IO{Args: os.Args[1:], Environ: os.Environ(), In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}
