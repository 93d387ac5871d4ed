package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/shop"
)

func (s *session) order() *cobra.Command {
	c := &cobra.Command{Use: "order", Short: "Place, show, list, cancel and watch orders"}
	c.AddCommand(s.orderPlace(), s.orderShow(), s.orderList(), s.orderCancel(), s.orderWatch())
	return c
}

func (s *session) orderPlace() *cobra.Command {
	cmd := shop.PlaceOrder{}
	var lines []string
	var file, key string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "place",
		Short: "Place an order",
		Example: `  holdfast order place --line TEA-EARL-100=2 --line CUP-GLASS-2 --wait 10s
  holdfast order place --file order.json --key web-1001`,
	}
	f := c.Flags()
	f.StringArrayVar(&lines, "line", nil, "SKU=quantity, or SKU for one; repeat it for more lines")
	f.StringVar(&cmd.CustomerID, "customer", "cus_cli", "the customer's id")
	f.StringVar((*string)(&cmd.Currency), "currency", "EUR", "the currency of the items")
	f.StringVar(&cmd.PaymentMethod, "payment-method", "tok_ok", "the provider's token")
	f.StringVar(&cmd.ShippingAddress.Name, "name", "A. Reader", "the recipient")
	f.StringVar(&cmd.ShippingAddress.Line1, "street", "1 Long Street", "street and number")
	f.StringVar(&cmd.ShippingAddress.City, "city", "Berlin", "city")
	f.StringVar(&cmd.ShippingAddress.PostalCode, "postal-code", "10115", "postal code")
	f.StringVar(&cmd.ShippingAddress.Country, "country", "DE", "country, two letters")
	f.StringVar(&cmd.ExternalID, "external-id", "", "the order's name in your system")
	f.StringVar((*string)(&cmd.Saga), "saga", "", "choreographed or orchestrated")
	f.StringVar(&file, "file", "", "the whole order as JSON, - for the standard input; in place of the other flags")
	f.StringVar(&key, "key", "", "the idempotency key; a new one by default")
	f.DurationVar(&wait, "wait", 0, "wait for the outcome, at most 30s")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err error
		if file != "" {
			err = s.readOrder(file, &cmd)
		} else {
			cmd.Lines, err = parseLines(lines)
		}
		if err != nil {
			return err
		}
		api, err := s.client()
		if err != nil {
			return err
		}
		if key == "" {
			key = client.NewKey()
		}
		placed, err := api.PlaceOrder(c.Context(), key, cmd, wait)
		if err != nil {
			return err
		}
		if placed.Replayed {
			s.say("an order was placed with this key before; this is it")
		}
		if err := s.print(placed.Order, func(w io.Writer) { writeOrder(w, placed.Order) }); err != nil {
			return err
		}
		if !placed.Order.Status.Settled() {
			s.say("follow it with: holdfast order watch %s", placed.Order.ID)
		}
		return nil
	}
	return c
}

func (s *session) readOrder(file string, into *shop.PlaceOrder) error {
	read := func() ([]byte, error) { return os.ReadFile(file) }
	if file == "-" {
		read = func() ([]byte, error) { return io.ReadAll(s.In) }
	}
	b, err := read()
	if err != nil {
		return err
	}
	*into = shop.PlaceOrder{}
	if err := jsonv2.Unmarshal(b, into, jsonv2.RejectUnknownMembers(true)); err != nil {
		return usage("%s is not an order in JSON: %w", file, err)
	}
	return nil
}

// parseLines reads SKU=quantity.
func parseLines(lines []string) ([]shop.PlaceLine, error) {
	if len(lines) == 0 {
		return nil, usage("an order needs lines: --line SKU=quantity, or --file")
	}
	parsed := make([]shop.PlaceLine, len(lines))
	for i, line := range lines {
		sku, quantity, given := strings.Cut(line, "=")
		parsed[i] = shop.PlaceLine{SKU: shop.SKU(sku), Quantity: 1}
		if !given {
			continue
		}
		n, err := strconv.ParseInt(quantity, 10, 64)
		if err != nil {
			return nil, usage("--line %s: the quantity is not a whole number", line)
		}
		parsed[i].Quantity = n
	}
	return parsed, nil
}

func (s *session) orderShow() *cobra.Command {
	var timeline bool
	c := &cobra.Command{Use: "show ID", Short: "Show an order", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&timeline, "timeline", false, "also what happened to it")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := s.client()
		if err != nil {
			return err
		}
		id := shop.OrderID(args[0])
		o, err := api.GetOrder(c.Context(), id)
		if err != nil {
			return err
		}
		if !timeline {
			return s.print(o, func(w io.Writer) { writeOrder(w, o) })
		}
		items, err := api.Timeline(c.Context(), id)
		if err != nil {
			return err
		}
		whole := struct {
			Order    shop.Order          `json:"order"`
			Timeline []shop.TimelineItem `json:"timeline"`
		}{o, items}
		return s.print(whole, func(w io.Writer) {
			writeOrder(w, o)
			writeTimeline(w, items)
		})
	}
	return c
}

func (s *session) orderList() *cobra.Command {
	q := shop.OrderQuery{}
	c := &cobra.Command{Use: "list", Short: "List orders, newest first"}
	f := c.Flags()
	f.StringVar(&q.CustomerID, "customer", "", "only of this customer")
	f.StringVar((*string)(&q.Status), "status", "", "only of this status")
	f.StringVar(&q.Text, "find", "", "an order id, an external id or a customer id, whole")
	f.IntVar(&q.Limit, "limit", 50, "the most to list, at most 200")
	f.StringVar(&q.Cursor, "cursor", "", "next_cursor of the page before")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := s.client()
		if err != nil {
			return err
		}
		page, err := api.ListOrders(c.Context(), q)
		if err != nil {
			return err
		}
		err = s.print(page, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ORDER\tSTATUS\tREASON\tTOTAL\tCUSTOMER\tCREATED")
			for _, o := range page.Items {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", o.ID, o.Status, o.Reason, o.Total.Format(o.Currency), o.CustomerID, o.CreatedAt.Format(time.DateTime))
			}
			_ = t.Flush() // to a terminal or a pipe: its end shows at the next write
		})
		if err == nil && page.NextCursor != "" && !s.json {
			s.say("there are more: --cursor %s", page.NextCursor)
		}
		return err
	}
	return c
}

func (s *session) orderCancel() *cobra.Command {
	var key string
	var wait time.Duration
	c := &cobra.Command{Use: "cancel ID", Short: "Cancel an order", Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&key, "key", "", "the idempotency key; a new one by default")
	c.Flags().DurationVar(&wait, "wait", 0, "wait until everything is undone, for so long")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := s.client()
		if err != nil {
			return err
		}
		if key == "" {
			key = client.NewKey()
		}
		o, err := api.CancelOrder(c.Context(), key, shop.OrderID(args[0]))
		if err != nil {
			return err
		}
		if wait > 0 && !o.Status.Settled() {
			ctx, cancel := context.WithTimeout(c.Context(), wait)
			defer cancel()
			if o, err = api.WaitOrder(ctx, o.ID); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		}
		if err := s.print(o, func(w io.Writer) { writeOrder(w, o) }); err != nil {
			return err
		}
		if !o.Status.Settled() {
			s.say("it is being undone; follow it with: holdfast order watch %s", o.ID)
			if wait > 0 {
				return &exit{code: ExitInconclusive, err: fmt.Errorf("the order is still %s after %s", o.Status, wait)}
			}
		}
		return nil
	}
	return c
}

func (s *session) orderWatch() *cobra.Command {
	var settled bool
	c := &cobra.Command{Use: "watch ID", Short: "Follow an order until it has ended", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&settled, "until-settled", false, "only until it has an outcome, such as confirmed")
	c.RunE = func(c *cobra.Command, args []string) error {
		api, err := s.client()
		if err != nil {
			return err
		}
		enc := json.NewEncoder(s.Out)
		for o, err := range api.Watch(c.Context(), shop.OrderID(args[0]), 0) {
			if err != nil {
				return err
			}
			if s.json {
				err = enc.Encode(o)
			} else {
				_, err = fmt.Fprintf(s.Out, "%s  version %d  %s %s\n", o.UpdatedAt.Format(time.TimeOnly), o.Version, o.Status, o.Reason)
			}
			if err != nil || settled && o.Status.Settled() {
				return err
			}
		}
		return nil
	}
	return c
}

func writeOrder(w io.Writer, o shop.Order) {
	fmt.Fprintf(w, "%s  %s", o.ID, o.Status)
	if o.Reason != "" {
		fmt.Fprintf(w, " (%s)", o.Reason)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range o.Lines {
		fmt.Fprintf(t, "  %d × %s\t%s\t%s\treserved %d, shipped %d\n", l.Quantity, l.SKU, l.Name, l.Total.Format(o.Currency), l.Reserved, l.Shipped)
	}
	fmt.Fprintf(t, "  shipping\t\t%s\t\n  total\t\t%s\t\n", o.Shipping.Format(o.Currency), o.Total.Format(o.Currency))
	_ = t.Flush() // to a terminal or a pipe: its end shows at the next write
	fmt.Fprintf(w, "  payment %s: %s authorised, %s captured, %s refunded\n", o.Payment.Status,
		o.Payment.Authorised.Format(o.Currency), o.Payment.Captured.Format(o.Currency), o.Payment.Refunded.Format(o.Currency))
	if o.Shipment != nil {
		fmt.Fprintf(w, "  shipment %s %s\n", o.Shipment.Status, o.Shipment.Tracking)
	}
}

func writeTimeline(w io.Writer, items []shop.TimelineItem) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, i := range items {
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", i.At.Format("15:04:05.000"), i.Service, i.Kind, i.What, i.Detail)
	}
	_ = t.Flush() // to a terminal or a pipe: its end shows at the next write
}
