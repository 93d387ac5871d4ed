package order

import (
	"container/list"
	"sync"
	"time"

	"holdfast/shop"
)

// copies are the latest states of the orders that were looked at last. They are what can be read of an
// order while its store is down, and are used for nothing else.
type copies struct {
	most int

	mu   sync.Mutex
	byID map[shop.OrderID]*list.Element
	used list.List // of *orderCopy, the latest first
}

type orderCopy struct {
	caller shop.Caller
	order  shop.Order
	asOf   time.Time
}

func newCopies(most int) *copies {
	return &copies{most: most, byID: make(map[shop.OrderID]*list.Element)}
}

// keep takes up an order as it was at an instant. An older version does not replace a newer one: two
// readers may come here in the other order.
func (c *copies) keep(caller shop.Caller, o shop.Order, asOf time.Time) {
	if c.most == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[o.ID]; e != nil {
		if e.Value.(*orderCopy).order.Version <= o.Version {
			e.Value = &orderCopy{caller, o, asOf}
		}
		c.used.MoveToFront(e)
		return
	}
	if c.used.Len() >= c.most {
		oldest := c.used.Back()
		delete(c.byID, oldest.Value.(*orderCopy).order.ID)
		c.used.Remove(oldest)
	}
	c.byID[o.ID] = c.used.PushFront(&orderCopy{caller, o, asOf})
}

func (c *copies) get(caller shop.Caller, id shop.OrderID) (o shop.Order, asOf time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return o, asOf, false
	}
	found := e.Value.(*orderCopy)
	if found.caller != caller {
		return o, asOf, false
	}
	return found.order, found.asOf, true
}
