package party

import (
	"context"
	"net/http"
	"sync"
	"time"

	"holdfast/shop"
)

// holdLimit is how long a call that is never answered is held if its caller does not give up.
const holdLimit = time.Minute

// Door is where calls wait for their answers. Closing it lets go of them, now and later.
type Door struct {
	clock  shop.Clock
	once   sync.Once
	closed chan struct{}
}

// NewDoor returns an open door.
func NewDoor(clock shop.Clock) *Door { return &Door{clock: clock, closed: make(chan struct{})} }

// Close closes the door.
func (d *Door) Close() { d.once.Do(func() { close(d.closed) }) }

// Delay waits for as long as an answer is delayed. It returns false if the caller gave up meanwhile or
// the door was closed.
func (d *Door) Delay(ctx context.Context, delay time.Duration) bool {
	c, stop := d.clock.Timer(delay)
	defer stop()
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	case <-d.closed:
		return false
	}
}

// Hold holds a call until its caller gives up, and no longer than a minute.
func (d *Door) Hold(ctx context.Context) { d.Delay(ctx, holdLimit) }

// Drop ends a call without any answer. It does not return.
func Drop() { panic(http.ErrAbortHandler) }
