package order

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"holdfast/platform/sqldb"
	"holdfast/shop"
)

// metrics are the business's signals.
type metrics struct {
	placed  metric.Int64Counter
	reached metric.Int64Counter
	confirm metric.Float64Histogram
	status  map[shop.OrderStatus]metric.MeasurementOption
}

func newMetrics(meter metric.Meter, s *Service) (*metrics, error) {
	m := &metrics{status: map[shop.OrderStatus]metric.MeasurementOption{}}
	var err error
	if m.placed, err = meter.Int64Counter("holdfast_orders_placed", metric.WithDescription("Orders accepted.")); err != nil {
		return nil, err
	}
	if m.reached, err = meter.Int64Counter("holdfast_orders_reached", metric.WithDescription("Orders that came to a status, by status.")); err != nil {
		return nil, err
	}
	m.confirm, err = meter.Float64Histogram("holdfast_order_confirm", metric.WithUnit("s"), metric.WithDescription("Time from acceptance to confirmation."),
		metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300))
	if err != nil {
		return nil, err
	}
	for _, status := range shop.Statuses {
		m.status[status] = metric.WithAttributeSet(attribute.NewSet(attribute.String("status", string(status))))
		m.reached.Add(context.Background(), 0, m.status[status])
	}
	m.placed.Add(context.Background(), 0)
	stuck, err := meter.Int64ObservableGauge("holdfast_orders_stuck", metric.WithDescription("Orders that need an operator or were driven again and have not moved since."))
	if err != nil {
		return nil, err
	}
	_, err = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		var n int64
		err := s.db.View(ctx, func(ctx context.Context, tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM orders WHERE stuck = 1`).Scan(&n)
		})
		if err == nil {
			o.ObserveInt64(stuck, n)
		}
		return err
	}, stuck)
	return m, err
}

// committed counts what a transaction has made true.
func (m *metrics) committed(events []shop.Event, rows []*row) {
	ctx := context.Background()
	byID := make(map[shop.OrderID]*row, len(rows))
	for _, r := range rows {
		byID[r.Order.ID] = r
	}
	for _, e := range events {
		r := byID[e.OrderID]
		switch e.Type {
		case shop.EventOrderPlaced:
			m.placed.Add(ctx, 1)
		case shop.EventOrderConfirmed:
			m.confirm.Record(ctx, r.Order.UpdatedAt.Sub(r.Order.CreatedAt).Seconds())
			m.reached.Add(ctx, 1, m.status[shop.Confirmed])
		case shop.EventOrderRejected, shop.EventOrderCancelled, shop.EventOrderFulfilled, shop.EventOrderNeedsAttention:
			m.reached.Add(ctx, 1, m.status[r.Order.Status])
		}
	}
}
