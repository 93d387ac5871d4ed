package check

import (
	"context"
	"errors"
	"net/http"

	"holdfast/client"
	"holdfast/shop"
)

// Book is what an order's ledger at the payment service comes to.
type Book struct {
	Taken  shop.Amount // by the account of the provider
	Uneven []string    // transactions whose entries do not sum to zero
}

// LookAtBooks reads the ledger of every order's payment, one after the other: for worlds of some thousand
// orders at most.
func (w *World) LookAtBooks(ctx context.Context, c *client.Client) error {
	w.Books = make(map[shop.OrderID]Book, len(w.Orders))
	for _, o := range w.Orders {
		p, err := c.GetPayment(ctx, o.ID)
		var problem *client.Problem
		if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
			continue // no money was ever asked for
		}
		if err != nil {
			return err
		}
		w.Books[o.ID] = book(p.Ledger)
	}
	return nil
}

func book(entries []shop.LedgerEntry) (b Book) {
	sums := map[string]shop.Amount{}
	for _, e := range entries {
		sums[e.Transaction+" "+string(e.Currency)] += e.Amount
		if e.Account == "provider" {
			b.Taken += e.Amount
		}
	}
	for txn, sum := range sums {
		if sum != 0 {
			b.Uneven = append(b.Uneven, txn)
		}
	}
	return b
}

// verify compares a book with the provider's own.
func (b Book) verify(id shop.OrderID, a account, bad report) {
	if taken := a.captured - a.refunded; b.Taken != taken {
		bad("I11", id, "the books say %d taken, and the provider %d", b.Taken, taken)
	}
	for _, txn := range b.Uneven {
		bad("I11", id, "the entries of %s do not sum to zero", txn)
	}
}
