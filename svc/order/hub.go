package order

import (
	"sync"

	"holdfast/shop"
)

// hub wakes the requests that wait for an order to change. It only shortens waits: what has changed is
// read from the store.
type hub struct {
	max int

	mu      sync.Mutex
	waiting map[shop.OrderID][]chan struct{} // one token each
	count   int
}

func newHub(limit int) *hub { return &hub{max: limit, waiting: map[shop.OrderID][]chan struct{}{}} }

// join returns a channel that gets a token whenever the order changes, and how to leave. Beyond the
// limit the channel never gets one.
func (h *hub) join(id shop.OrderID) (woken <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count >= h.max {
		return c, func() {}
	}
	h.count++
	h.waiting[id] = append(h.waiting[id], c)
	return c, func() { h.leave(id, c) }
}

func (h *hub) leave(id shop.OrderID, c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	list := h.waiting[id]
	for i := range list {
		if list[i] == c {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(h.waiting, id)
		return
	}
	h.waiting[id] = list
}

// changed wakes those who wait for the order.
func (h *hub) changed(id shop.OrderID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.waiting[id] {
		select {
		case c <- struct{}{}:
		default: // it has a token already
		}
	}
}
