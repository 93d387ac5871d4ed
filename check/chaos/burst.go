package chaos

import (
	"context"
	"fmt"
	"time"

	"holdfast/check"
	"holdfast/client"
	"holdfast/shop"
)

// burst is more load than usual: at a rate, or a number of orders in one instant.
type burst struct {
	rate   float64 // orders per second more
	orders int     // or so many at once
	sku    shop.SKU
	stock  int64 // of a scarce sku

	sent func() int64
	stop func()
}

func (b *burst) Touches() string { return "load" }

func (b *burst) Describe() string {
	text := fmt.Sprintf("%d orders in one instant", b.orders)
	if b.orders == 0 {
		text = fmt.Sprintf("%g orders/s more", b.rate)
	}
	if b.stock > 0 {
		text += fmt.Sprintf(" of an article of which there are %d", b.stock)
	}
	return text
}

const (
	longest = 20 * time.Minute // that a load may last
	instant = 100 * time.Millisecond
)

func (b *burst) Inject(ctx context.Context, f *Field) error {
	plan := check.Plan{Rate: b.rate, Duration: longest, SKU: check.SKU, Quantity: 1}
	if b.orders > 0 {
		plan.Rate, plan.Duration = float64(b.orders)/instant.Seconds(), instant
	}
	if b.stock > 0 {
		at := f.System.Target()
		c, err := client.New(at.URL, at.Key, nil)
		if err != nil {
			return err
		}
		// An article of its own for each run: what is left of one of before does not count.
		plan.SKU = shop.SKU(fmt.Sprintf("HOT-%d", time.Now().UnixMilli()))
		b.sku = plan.SKU
		if err := check.StockUp(ctx, c, string(plan.SKU), plan.SKU, b.stock); err != nil {
			return err
		}
	}
	b.sent, b.stop = f.Burst(ctx, plan)
	return nil
}

func (b *burst) Heal(context.Context) error {
	if b.stop != nil {
		b.stop()
	}
	return nil
}

func (b *burst) Bites() (int64, error) {
	if b.sent == nil {
		return 0, nil
	}
	return b.sent(), nil
}
