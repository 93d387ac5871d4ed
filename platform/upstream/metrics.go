package upstream

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments count what an Upstream does. docs/resilience.md lists them.
type instruments struct {
	ejections, retries, refused metric.Int64Counter
	out                         metric.Int64UpDownCounter
	name                        string
	service                     metric.MeasurementOption
}

// The reasons of an ejection.
const (
	reasonConnection = "connection"
	reasonSilent     = "silent"
)

// newInstruments makes the instruments and every series that they can have, with 0.
func newInstruments(m metric.Meter, u *Upstream) (*instruments, error) {
	i := &instruments{name: u.cfg.Name, service: with(attribute.String("service", u.cfg.Name))}
	var errs [4]error
	i.ejections, errs[0] = m.Int64Counter("holdfast_upstream_ejections", metric.WithDescription("Replicas that were left out, by reason."))
	i.retries, errs[1] = m.Int64Counter("holdfast_upstream_retries", metric.WithDescription("Requests that were sent once more, to another replica."))
	i.refused, errs[2] = m.Int64Counter("holdfast_upstream_budget_exhausted", metric.WithDescription("Requests that the budget did not let be sent once more."))
	i.out, errs[3] = m.Int64UpDownCounter("holdfast_upstream_ejected", metric.WithDescription("1 for a replica that is left out."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	ctx := context.Background()
	i.retries.Add(ctx, 0, i.service)
	i.refused.Add(ctx, 0, i.service)
	for _, r := range u.replicas {
		i.out.Add(ctx, 0, i.of(r))
		i.ejections.Add(ctx, 0, i.of(r, attribute.String("reason", reasonConnection)))
		i.ejections.Add(ctx, 0, i.of(r, attribute.String("reason", reasonSilent)))
	}
	return i, nil
}

func with(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

func (i *instruments) of(r *replica, attrs ...attribute.KeyValue) metric.MeasurementOption {
	return with(append(attrs, attribute.String("service", i.name), attribute.String("replica", r.url.Host))...)
}

func (i *instruments) ejected(ctx context.Context, r *replica, why error) {
	reason := reasonConnection
	if errors.Is(why, errSilent) {
		reason = reasonSilent
	}
	i.ejections.Add(ctx, 1, i.of(r, attribute.String("reason", reason)))
	i.out.Add(ctx, 1, i.of(r))
}

func (i *instruments) restored(ctx context.Context, r *replica) { i.out.Add(ctx, -1, i.of(r)) }
