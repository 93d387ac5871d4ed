package simulation

import (
	"context"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/app"
	"holdfast/client"
	"holdfast/shop"
	"holdfast/test/fakes"
)

func TestSpike(t *testing.T) {
	for range 3 {
		real0 := time.Now()
		synctest.Test(t, func(t *testing.T) {
			dir, _ := os.MkdirTemp("/dev/shm", "sim")
			defer os.RemoveAll(dir)
			began := time.Now()
			n := NewNetwork(map[int]string{8080: "api"})
			deps := fakes.Deps(t)
			deps.Net = n.host("holdfast")
			cfg := app.Defaults()
			cfg.Data = dir
			cfg.Carrier.DispatchAfter = 300 * time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			err := app.Run(ctx, cfg, deps, func(r app.Ready) {
				t.Log("ready", time.Since(began), r.Took)
				h := n.host("client")
				tr := &http.Transport{DialContext: h.DialContext}
				c, err := client.New(r.Addresses.API, r.Key, &http.Client{Transport: tr})
				if err != nil {
					t.Error(err)
				}
				placed, err := c.PlaceOrder(t.Context(), "k1", shop.PlaceOrder{CustomerID: "c", Currency: "EUR", PaymentMethod: "tok_ok", Lines: []shop.PlaceLine{{SKU: "TEA-EARL-100", Quantity: 1}},
					ShippingAddress: shop.Address{Name: "N", Line1: "L", City: "C", PostalCode: "10115", Country: "DE"}}, 10*time.Second)
				t.Log(placed.Order.Status, err, time.Since(began))
				time.Sleep(time.Hour)
				o, err := c.GetOrder(t.Context(), placed.Order.ID)
				t.Log(o.Status, err, time.Since(began))
				tr.CloseIdleConnections()
				cancel()
			})
			t.Log(err, time.Since(began))
		})
		t.Log("real", time.Since(real0))
	}
}
