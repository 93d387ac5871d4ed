package shop_test

import (
	"errors"
	"math"
	"testing"

	"holdfast/shop"
)

func TestAmountArithmetic(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		do   func() (shop.Amount, error)
		want shop.Amount
		err  error
	}{
		{"plus", func() (shop.Amount, error) { return shop.Amount(2).Plus(3) }, 5, nil},
		{"plus nothing", func() (shop.Amount, error) { return shop.Amount(math.MaxInt64).Plus(0) }, math.MaxInt64, nil},
		{"plus too much", func() (shop.Amount, error) { return shop.Amount(math.MaxInt64).Plus(1) }, 0, shop.ErrOverflow},
		{"minus too much", func() (shop.Amount, error) { return shop.Amount(math.MinInt64).Plus(-1) }, 0, shop.ErrOverflow},
		{"times", func() (shop.Amount, error) { return shop.Amount(450).Times(2) }, 900, nil},
		{"times zero", func() (shop.Amount, error) { return shop.Amount(450).Times(0) }, 0, nil},
		{"a negative price", func() (shop.Amount, error) { return shop.Amount(-450).Times(2) }, -900, nil},
		{"times too much", func() (shop.Amount, error) { return shop.Amount(math.MaxInt64 / 2).Times(3) }, 0, shop.ErrOverflow},
		{"the least", func() (shop.Amount, error) { return shop.Amount(math.MinInt64).Times(1) }, 0, shop.ErrOverflow},
	}
	for _, c := range cases {
		got, err := c.do()
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: got %d, %v; want %d, %v", c.name, got, err, c.want, c.err)
		}
	}
	if _, err := shop.Amount(1).Times(-1); err == nil {
		t.Error("a negative quantity was taken")
	}
}

func TestCurrencies(t *testing.T) {
	t.Parallel()
	for code, want := range map[shop.Currency]int{"JPY": 0, "EUR": 2, "BHD": 3} {
		if got, ok := code.Exponent(); !ok || got != want {
			t.Errorf("%s has %d digits, %v; want %d", code, got, ok, want)
		}
	}
	for _, code := range []shop.Currency{"", "eur", "EURO", "XXX", "XAU"} {
		if _, ok := code.Exponent(); ok {
			t.Errorf("%q is taken for a currency", code)
		}
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	wrapped := errors.Join(errors.New("around"), shop.Wrap(shop.Unavailable, "op", "msg", cause))
	if shop.KindOf(wrapped) != shop.Unavailable || !shop.KindOf(wrapped).Retryable() || !errors.Is(wrapped, cause) {
		t.Errorf("%v lost its kind or its cause", wrapped)
	}
	if shop.KindOf(cause) != shop.Internal || shop.Internal.Retryable() {
		t.Error("an error without a kind is internal, and is not retried")
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[shop.OrderID]bool{
		"ord_06h0s4iemls8p0qt5itsna2img": true, "pay_06h0s4iemls8p0qt5itsna2img": false,
		"ord_06h0s4iemls8p0qt5itsna2imgx": false, "ord_06h0s4iemls8p0qt5itsna2imz": false, "": false,
	} {
		if id.Valid() != want {
			t.Errorf("%q valid: %v", id, !want)
		}
	}
	for sku, want := range map[shop.SKU]bool{"TEA-EARL-100": true, "a": true, "-a": false, "a b": false, "": false} {
		if sku.Valid() != want {
			t.Errorf("%q valid: %v", sku, !want)
		}
	}
}
