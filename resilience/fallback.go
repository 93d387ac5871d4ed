package resilience

import (
	"context"
	"fmt"
)

// Source says where a result comes from.
type Source uint8

// The sources.
const (
	FromDependency Source = iota
	FromFallback
)

// String returns the source in lower case.
func (s Source) String() string { return name(s, "dependency", "fallback") }

// Fallback is an answer from elsewhere: a cached value, a default, another function. It is for a Read
// only. Of money or stock an answer is either right or missing, so such operations are of another Kind,
// and neither NewFallback nor NewReadPolicy takes them.
type Fallback[T any] struct {
	source  string
	answer  func(ctx context.Context, cause error) (T, error)
	options Options
}

// NewFallback makes a fallback for operations of kind k, and refuses all but Read with ErrNotAllowed.
// Source names it in results and events ("last known rates"). Answer is given the error that made it
// necessary; its own error means that it has no answer either.
func NewFallback[T any](k Kind, source string, answer func(ctx context.Context, cause error) (T, error), o Options) (*Fallback[T], error) {
	switch {
	case !k.Replaceable():
		return nil, fmt.Errorf("fallback for %s (%s): %w", o.Label, k, ErrNotAllowed)
	case source == "" || answer == nil:
		return nil, fmt.Errorf("fallback for %s: source and answer must be set", o.Label)
	}
	return &Fallback[T]{source: source, answer: answer, options: o}, nil
}

// Run calls f and, where that fails, the fallback. The result tells which of the two answered. Where the
// caller's context has ended nobody waits for an answer, and there is none.
func (b *Fallback[T]) Run(ctx context.Context, f func(context.Context) (T, error)) (Result[T], error) {
	v, err := f(ctx)
	return b.instead(ctx, Result[T]{Value: v, Attempts: 1}, err)
}

func (b *Fallback[T]) instead(ctx context.Context, r Result[T], cause error) (Result[T], error) {
	if cause == nil || ctx.Err() != nil {
		return r, cause
	}
	v, err := b.answer(ctx, cause)
	if b.options.Observer != nil {
		b.options.Observer.FellBack(FallbackEvent{Label: b.options.Label, Source: b.source, Cause: cause, Err: err})
	}
	if err != nil {
		return r, fmt.Errorf("%w (and no fallback: %w)", cause, err)
	}
	return Result[T]{Value: v, Source: FromFallback, Fallback: b.source, Cause: cause, Attempts: r.Attempts, Verdict: r.Verdict}, nil
}

// ReadPolicy is a Policy whose calls may have a fallback. That it is another type keeps a command, or a
// read of money or stock, from having one: it does not compile.
type ReadPolicy struct{ policy *Policy }

// NewReadPolicy makes a policy of an operation that is a Read, and refuses others with ErrNotAllowed.
func NewReadPolicy(op Operation, c PolicyConfig, d Deps) (*ReadPolicy, error) {
	if !op.Kind.Replaceable() {
		return nil, fmt.Errorf("read policy of %s (%s): %w", op.Label(), op.Kind, ErrNotAllowed)
	}
	p, err := NewPolicy(op, c, d)
	if err != nil {
		return nil, err
	}
	return &ReadPolicy{policy: p}, nil
}

// Policy returns the policy, for calls without a fallback.
func (p *ReadPolicy) Policy() *Policy { return p.policy }

// DoOr is DoCall with a fallback, which is tried where the call fails for whatever reason, rejections
// included, as long as the caller still waits.
func DoOr[T any](ctx context.Context, p *ReadPolicy, c Call[T], b *Fallback[T]) (Result[T], error) {
	r, err := DoCall(ctx, p.policy, c)
	return b.instead(ctx, r, err)
}
