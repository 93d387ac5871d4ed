package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"holdfast/client/wire"
	"holdfast/shop"
)

const (
	// maxReconnects is how often in a row a watch reconnects without having seen anything new.
	maxReconnects = 20
	// maxReconnectPause caps the wait between reconnects, which doubles from firstPause.
	maxReconnectPause = 2 * time.Second
	// maxEvent is the largest event that is read.
	maxEvent = 1 << 20
)

// errStreamEnded says that a stream ended before the order's last version.
var errStreamEnded = errors.New("the event stream ended early")

// Watch yields an order's versions after the given one as they come about, until its last. It
// reconnects where the stream breaks; versions that follow each other closely may be left out. An
// error is yielded once, and ends it.
func (c *Client) Watch(ctx context.Context, id shop.OrderID, after int64) iter.Seq2[shop.Order, error] {
	return func(yield func(shop.Order, error) bool) {
		fruitless, pause := 0, firstPause
		for {
			last, err := c.stream(ctx, id, after, yield)
			if err == nil {
				return
			}
			if last > after {
				after, fruitless, pause = last, 0, firstPause
			} else {
				fruitless++
			}
			if !errors.Is(err, errStreamEnded) || fruitless > maxReconnects {
				yield(shop.Order{}, err)
				return
			}
			if !sleep(ctx, pause) {
				yield(shop.Order{}, context.Cause(ctx))
				return
			}
			pause = min(2*pause, maxReconnectPause)
		}
	}
}

// stream yields the versions of one connection and returns the last. A nil error means that there is
// nothing more to come, or that nobody wants it.
func (c *Client) stream(ctx context.Context, id shop.OrderID, after int64, yield func(shop.Order, error) bool) (int64, error) {
	r, err := c.wire.WatchOrder(ctx, string(id), &wire.WatchOrderParams{LastEventID: given(after)})
	if err != nil {
		return after, broken(ctx, err)
	}
	defer func() { _ = r.Body.Close() }() // a stream is left where one stops reading
	switch {
	case r.StatusCode == http.StatusNoContent:
		return after, nil
	case r.StatusCode != http.StatusOK:
		p := problemOf(r)
		if p.Retryable {
			return after, fmt.Errorf("%w: %w", errStreamEnded, p)
		}
		return after, p
	}
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var o shop.Order
		if err := json.Unmarshal(data, &o); err != nil {
			return after, fmt.Errorf("read an event: %w", err)
		}
		after = o.Version
		if !yield(o, nil) || o.Status.Final() {
			return after, nil
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return after, broken(ctx, err)
	} else if err != nil {
		return after, err
	}
	return after, errStreamEnded
}

// broken says that a connection failed, or that its context ended.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", errStreamEnded, err)
}
