package temporal

import (
	"context"
	"time"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"holdfast/platform/run"
	"holdfast/shop"
)

type propagator = workflow.ContextPropagator

// retryEvery is how long a worker that cannot reach the cluster waits before it looks again.
const retryEvery = 2 * time.Second

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

// work runs a worker until ctx ends or it fails.
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
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return c.cfg.told(err)
	}
}

// stopAfter is how long a worker's component may take to stop.
const stopAfter = stopTimeout + run.DefaultStop

// Component is the component that runs a worker.
func (c *Client) Component(name, queue string, register func(worker.Registry)) run.Component {
	return run.Component{Name: name, Run: c.Worker(queue, register), StopAfter: stopAfter}
}
