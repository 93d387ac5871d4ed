package steps_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"holdfast/platform/calls"
	"holdfast/platform/sqldb"
	"holdfast/platform/steps"
	"holdfast/shop"
	"holdfast/test/fakes"
	"holdfast/test/stores"
)

// rows are a service's, by order: what was done to each.
type rows map[shop.OrderID]*string

// TestTogether: of those who ask at the same time each gets its own answer. One whose step is in conflict with what was
// done fails nobody else; what goes wrong otherwise saves nothing, and is everybody's.
func TestTogether(t *testing.T) {
	t.Parallel()
	stores.Each(t, func(t *testing.T, open stores.Open) {
		db := open(t, calls.Migrations())
		broken := errors.New("broken")
		for _, c := range []struct {
			name    string
			err     error
			saved   []shop.OrderID
			answers []error
		}{
			{"conflict", shop.E(shop.Conflict, "test", "the parcel has left"), []shop.OrderID{"ord_a", "ord_c"}, []error{nil, shop.E(shop.Conflict, "", ""), nil}},
			{"broken", broken, nil, nil},
		} {
			var loaded, saved []shop.OrderID
			s := steps.New(db, fakes.Deps(t).Clock, steps.Rows[rows, string]{
				Store: calls.Store[rows]{
					Load: func(_ context.Context, _ *sqldb.Tx, ids []shop.OrderID) (rows, error) {
						loaded = ids
						return rows{}, nil
					},
					Save: func(_ context.Context, _ *sqldb.Tx, b rows) error {
						for id := range b {
							saved = append(saved, id)
						}
						return nil
					},
				},
				Row: func(b rows, id shop.OrderID) *string { return b[id] },
			})
			var answers []steps.Answer
			err := db.Update(t.Context(), func(ctx context.Context, tx *sqldb.Tx) (err error) {
				answers, err = s.Together(ctx, tx, func(b rows, id shop.OrderID) error {
					if id == "ord_b" {
						return c.err
					}
					b[id] = new(string)
					return nil
				}, func(*string, bool) shop.StepOutcome { return shop.StepOutcome{State: shop.StepUndone} }, "ord_c", "ord_b", "ord_a")
				return err
			})
			slices.Sort(saved)
			if !slices.Equal(saved, c.saved) || !slices.Equal(loaded, []shop.OrderID{"ord_a", "ord_b", "ord_c"}) || (err != nil) != (c.answers == nil) || len(answers) != len(c.answers) {
				t.Fatalf("%s: loaded %v, saved %v, answers %v, %v", c.name, loaded, saved, answers, err)
			}
			for i, a := range answers {
				if shop.KindOf(a.Err) != shop.KindOf(c.answers[i]) || (a.Err == nil) != (a.Outcome.State == shop.StepUndone) {
					t.Errorf("%s: answer %d is %+v", c.name, i, a)
				}
			}
		}
	})
}
