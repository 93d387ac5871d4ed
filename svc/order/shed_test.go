package order_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/shop"
	"holdfast/svc/order"
)

// dial is what a shedder is told, and can be turned.
type dial struct {
	order.Shedder
	backlog, wait time.Duration
	chance        float64
}

func newDial(change func(*order.Config), stored ...shop.Request) *dial {
	cfg := order.Defaults()
	change(&cfg)
	d := &dial{}
	d.Shedder = order.NewShedder(cfg, func() time.Duration { return d.backlog }, func() time.Duration { return d.wait }, func() float64 { return d.chance }, stored...)
	return d
}

// refused is how many of 1,000 new orders are refused.
func (d *dial) refused(t *testing.T) (n int) {
	t.Helper()
	const of = 1000
	for i := range of {
		d.chance = float64(i) / of
		switch err := d.Admit("a", fmt.Sprint(i)); {
		case err == nil:
		case shop.KindOf(err) == shop.Overloaded:
			n++
		default:
			t.Fatal(err)
		}
	}
	return n
}

// TestShedBacklog refuses a share of new orders that grows with the wait of those before them.
func TestShedBacklog(t *testing.T) {
	t.Parallel()
	d := newDial(func(c *order.Config) { c.BacklogFrom, c.BacklogMax = time.Second, 3*time.Second })
	for wait, want := range map[time.Duration]int{0: 0, time.Second: 0, 1500 * time.Millisecond: 250, 2 * time.Second: 500, 3 * time.Second: 1000, time.Hour: 1000} {
		d.backlog = wait
		if got := d.refused(t); got != want {
			t.Errorf("after a wait of %s %d of 1000 are refused, want %d", wait, got, want)
		}
	}
}

// TestShedStrain lets a short burst of work pass, refuses more and more while there is too much, and lets
// all in again soon after.
func TestShedStrain(t *testing.T) {
	t.Parallel()
	d := newDial(func(c *order.Config) { c.StrainMax = 10 * time.Millisecond })
	look := func(n int, wait time.Duration) int {
		d.wait = wait
		for range n {
			d.Look()
		}
		return d.refused(t)
	}
	for i, c := range []struct {
		looks   int
		wait    time.Duration
		refused int
	}{
		{100, 10 * time.Millisecond, 0},
		{4, time.Second, 0}, // a burst
		{1, 0, 0},
		{5, time.Second, 100},
		{1, time.Second, 190},
		{20, time.Second, 902},
		{1, 0, 892},
		{40, 0, 0}, // four seconds
	} {
		if got := look(c.looks, c.wait); got != c.refused {
			t.Errorf("step %d: %d of 1000 are refused, want %d", i, got, c.refused)
		}
	}
	off := newDial(func(c *order.Config) { c.StrainMax = 0 })
	off.wait = time.Hour
	for range 100 {
		off.Look()
	}
	if got := off.refused(t); got != 0 {
		t.Errorf("with strain_max 0 %d are refused", got)
	}
}

// TestShedKnows lets the repetition of a stored order through: that of its caller, and for as long as it is
// among the last.
func TestShedKnows(t *testing.T) {
	t.Parallel()
	d := newDial(func(*order.Config) {}, shop.Request{Caller: "a", Key: "1"}, shop.Request{Caller: "b", Key: "2"})
	d.backlog = time.Hour
	known := func(caller shop.Caller, key string) bool { return d.Admit(caller, key) == nil }
	if !known("a", "1") || !known("b", "2") || known("a", "2") {
		t.Error("the key of a stored order is not known, or that of another caller is")
	}
	for n := range order.RecentKeys - 1 {
		d.Add("c", fmt.Sprint(n))
		d.Add("c", fmt.Sprint(n)) // counts once
	}
	if known("a", "1") || !known("b", "2") {
		t.Error("the oldest key is still known, or the second oldest is not")
	}
}
