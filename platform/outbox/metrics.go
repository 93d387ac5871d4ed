package outbox

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/platform/sqldb"
)

// metrics are the outbox's instruments.
type metrics struct {
	service  metric.MeasurementOption
	sent     metric.Int64Counter
	failures metric.Int64Counter
}

// newMetrics makes the instruments. What waits is counted when somebody asks for it.
func newMetrics(o *Outbox) (*metrics, error) {
	meter := o.parts.Tel.Meter
	m := &metrics{service: metric.WithAttributeSet(attribute.NewSet(attribute.String("service", o.parts.Source)))}
	var errs [6]error
	m.sent, errs[0] = meter.Int64Counter("holdfast_outbox_sent", metric.WithDescription("Events that the bus has acknowledged"))
	m.failures, errs[1] = meter.Int64Counter("holdfast_outbox_failures", metric.WithDescription("Events that were not acknowledged and are sent again"))
	unsent, err := meter.Int64ObservableGauge("holdfast_outbox_unsent", metric.WithDescription("Events that wait to be sent"))
	errs[2] = err
	oldest, err := meter.Float64ObservableGauge("holdfast_outbox_oldest_seconds", metric.WithDescription("How long the oldest unsent event has waited"), metric.WithUnit("s"))
	errs[3] = err
	parked, err := meter.Int64ObservableGauge("holdfast_outbox_parked", metric.WithDescription("Keys on a topic whose events are not sent because the bus refuses the first of them"))
	errs[4] = err
	_, errs[5] = meter.RegisterCallback(func(ctx context.Context, obs metric.Observer) error {
		age, waiting, err := o.Oldest(ctx)
		if err != nil {
			return err
		}
		keys, err := o.parked(ctx)
		if err != nil {
			return err
		}
		obs.ObserveInt64(unsent, waiting, m.service)
		obs.ObserveFloat64(oldest, age.Seconds(), m.service)
		obs.ObserveInt64(parked, keys, m.service)
		return nil
	}, unsent, oldest, parked)
	return m, errors.Join(errs[:]...)
}

func (o *Outbox) parked(ctx context.Context) (keys int64, err error) {
	err = o.parts.DB.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM outbox_blocked WHERE parked = 1`).Scan(&keys)
	})
	return keys, err
}

// consumerMetrics are a consumer's instruments.
type consumerMetrics struct {
	consumer   metric.MeasurementOption
	handled    metric.Int64Counter
	duplicates metric.Int64Counter
	retries    metric.Int64Counter
	dead       metric.Int64Counter
	lag        metric.Float64Histogram
}

func newConsumerMetrics(c *Consumer) (*consumerMetrics, error) {
	meter := c.parts.Tel.Meter
	m := &consumerMetrics{consumer: metric.WithAttributeSet(attribute.NewSet(attribute.String("consumer", c.cfg.Name)))}
	var errs [7]error
	m.handled, errs[0] = meter.Int64Counter("holdfast_consumer_handled", metric.WithDescription("Events that took effect"))
	m.duplicates, errs[1] = meter.Int64Counter("holdfast_consumer_duplicates", metric.WithDescription("Events that came again and were passed over"))
	m.retries, errs[2] = meter.Int64Counter("holdfast_consumer_retries", metric.WithDescription("Events whose handling failed and was tried again"))
	m.dead, errs[3] = meter.Int64Counter("holdfast_consumer_dead_letters", metric.WithDescription("Events that became dead letters"))
	m.lag, errs[4] = meter.Float64Histogram("holdfast_consumer_lag_seconds", metric.WithUnit("s"),
		metric.WithDescription("From an event's time until it took effect"),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	parked, err := meter.Int64ObservableGauge("holdfast_consumer_parked", metric.WithDescription("Keys whose events become dead letters because one of them did"))
	errs[5] = err
	_, errs[6] = meter.RegisterCallback(func(ctx context.Context, obs metric.Observer) error {
		n, err := c.countParked(ctx)
		if err == nil {
			obs.ObserveInt64(parked, n, m.consumer)
		}
		return err
	}, parked)
	return m, errors.Join(errs[:]...)
}

// done counts a batch that has been committed.
func (m *consumerMetrics) done(ctx context.Context, c *Consumer, items []item, fresh, dead int) {
	if n := fresh - dead; n > 0 {
		m.handled.Add(ctx, int64(n), m.consumer)
	}
	if n := len(items) - fresh; n > 0 {
		m.duplicates.Add(ctx, int64(n), m.consumer)
	}
	if dead > 0 {
		m.dead.Add(ctx, int64(dead), m.consumer)
	}
	now := c.deps.Clock.Now()
	for i := range items {
		if at := items[i].event.Time; !at.IsZero() {
			m.lag.Record(ctx, max(0, now.Sub(at).Seconds()), m.consumer)
		}
	}
}
