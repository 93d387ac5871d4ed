package temporal

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"holdfast/platform/run"
	"holdfast/shop"
)

type propagator = workflow.ContextPropagator

// retryEvery is how often a worker looks whether the cluster answers.
const retryEvery = 2 * time.Second

// longAway is after how many looks in a row that found no cluster the worker is made anew once there is one. The
// SDK's pollers wait longer after each failure, up to 10 s, and cannot be told that it is back.
const longAway = 3

const (
	maxPollers = 32 // each waits for workflow tasks; the SDK runs as many as there is work for
	// stopTimeout is for the activities that are under way when a worker stops: they are short.
	stopTimeout = 5 * time.Second
	// deadlock is how long workflow code may run without yielding before its task is failed. The code only
	// computes, but on a machine that is busy a second may pass so.
	deadlock = 10 * time.Second
)

// Worker returns what runs workflows and their local activities. It waits for a cluster that is away; what
// is wrong with the configuration ends it with an error that names the setting.
func (c *Client) Worker(queue string, register func(worker.Registry)) func(context.Context) error {
	return func(ctx context.Context) error {
		told := false
		for ctx.Err() == nil {
			err := c.work(ctx, queue, register, &told)
			switch {
			case ctx.Err() != nil:
				return nil
			case err == nil:
				continue // it is back
			case shop.KindOf(err) == shop.Invalid:
				return err
			case !told:
				told = true
				c.deps.Log.WarnContext(ctx, "Temporal is away: orchestrated orders wait for it", "err", err)
			}
			if c.deps.Clock.Sleep(ctx, retryEvery) != nil {
				return nil
			}
		}
		return nil
	}
}

// work runs a worker until ctx ends, it fails, or a cluster that was away for long is back.
func (c *Client) work(ctx context.Context, queue string, register func(worker.Registry), told *bool) error {
	if err := c.Check(ctx); err != nil {
		return err
	}
	failed := make(chan error, 1)
	w := worker.New(c.sdk, queue, worker.Options{
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{MaximumNumberOfPollers: maxPollers}),
		LocalActivityWorkerOnly:    true,
		WorkerStopTimeout:          stopTimeout,
		DeadlockDetectionTimeout:   deadlock,
		OnFatalError: func(err error) {
			select {
			case failed <- err:
			default: // the first is told
			}
		},
	})
	register(w)
	if err := w.Start(); err != nil {
		return c.cfg.told(err)
	}
	defer w.Stop()
	if *told {
		*told = false
		c.deps.Log.WarnContext(ctx, "Temporal is back")
	}
	return c.look(ctx, failed, told)
}

// look looks after a worker.
func (c *Client) look(ctx context.Context, failed <-chan error, told *bool) error {
	for away := 0; ; {
		wait, stop := c.deps.Clock.Timer(retryEvery)
		select {
		case <-ctx.Done():
			stop()
			return nil
		case err := <-failed:
			stop()
			return c.cfg.told(err)
		case <-wait:
		}
		err := c.Check(ctx)
		var unavailable *serviceerror.Unavailable
		switch {
		case err == nil && away >= longAway:
			return nil
		case err == nil:
			away = 0
		case errors.As(err, &unavailable):
			if away++; away == longAway && ctx.Err() == nil {
				*told = true
				c.deps.Log.WarnContext(ctx, "Temporal is away: orchestrated orders wait for it", "err", err)
			}
		}
	}
}

// stopAfter is how long a worker's component may take to stop.
const stopAfter = stopTimeout + run.DefaultStop

// Component is the component that runs a worker.
func (c *Client) Component(name, queue string, register func(worker.Registry)) run.Component {
	return run.Component{Name: name, Run: c.Worker(queue, register), StopAfter: stopAfter}
}
