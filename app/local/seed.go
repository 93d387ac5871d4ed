package local

import (
	"context"

	"holdfast/shop"
)

// seedItem is an item of the catalogue that an empty inventory begins with.
type seedItem struct {
	sku   shop.SKU
	name  string
	price shop.Amount
	stock int64
}

func catalogue() []seedItem {
	return []seedItem{
		{"TEA-EARL-100", "Earl Grey 100 g", 450, 1000},
		{"TEA-DARJ-100", "Darjeeling First Flush 100 g", 1290, 500},
		{"POT-CAST-08", "Cast-iron teapot 0.8 l", 5900, 50},
		{"CUP-GLASS-2", "Double-walled glass cup, two", 1650, 200},
		{"SAMPLE-FREE", "Tea sample", 0, 10000},
		{"KETTLE-RARE", "Copper kettle, last ones", 18900, 3},
	}
}

// seed puts the catalogue into an inventory that holds nothing else. It may be cut off and run again:
// an item is put if it is missing, and stocked while it is as it was put.
func seed(ctx context.Context, inventory shop.Inventory, caller shop.Caller) error {
	page, err := inventory.Items(ctx, shop.ItemQuery{Limit: 200})
	if err != nil {
		return err
	}
	here := make(map[shop.SKU]shop.Item, len(page.Items))
	for _, it := range page.Items {
		here[it.SKU] = it
	}
	known := 0
	for _, it := range catalogue() {
		if _, ok := here[it.sku]; ok {
			known++
		}
	}
	if known < len(here) {
		return nil // somebody has a catalogue of their own
	}
	for _, it := range catalogue() {
		item, ok := here[it.sku]
		if !ok {
			if item, _, err = inventory.Put(ctx, it.sku, 0, shop.PutItem{Name: it.name, UnitPrice: it.price, Currency: "EUR"}); err != nil {
				return err
			}
		}
		if item.Version > 1 {
			continue
		}
		by := shop.Request{Caller: caller, Key: "seed-" + string(it.sku)}
		if _, _, err := inventory.Receive(ctx, by, it.sku, shop.Receipt{Quantity: it.stock, Reference: "seed"}); err != nil {
			return err
		}
	}
	return nil
}
