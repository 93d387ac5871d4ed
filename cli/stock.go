package cli

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/client"
	"holdfast/shop"
)

func (s *session) stock() *cobra.Command {
	c := &cobra.Command{Use: "stock", Short: "Put items into the catalogue, receive stock, and look at both"}
	c.AddCommand(s.stockPut(), s.stockReceive(), s.stockShow(), s.stockList())
	return c
}

func (s *session) stockPut() *cobra.Command {
	item := shop.PutItem{}
	var price, ifVersion int64
	c := &cobra.Command{Use: "put SKU", Short: "Make an item, or change its name and price", Args: cobra.ExactArgs(1),
		Example: `  holdfast stock put TEA-ROOIBOS --name "Rooibos 100 g" --price 520`}
	f := c.Flags()
	f.StringVar(&item.Name, "name", "", "the name that orders show")
	f.Int64Var(&price, "price", -1, "the unit price in minor units: 520 for 5.20 EUR")
	f.StringVar((*string)(&item.Currency), "currency", "EUR", "the price's currency")
	f.Int64Var(&ifVersion, "if-version", 0, "only if the item has this version")
	c.RunE = func(c *cobra.Command, args []string) error {
		if price < 0 || item.Name == "" {
			return usage("--name and --price are needed; the price is in minor units: 520 for 5.20 EUR")
		}
		item.UnitPrice = shop.Amount(price)
		api, err := s.client()
		if err != nil {
			return err
		}
		it, err := api.PutItem(c.Context(), shop.SKU(args[0]), ifVersion, item)
		if err != nil {
			return err
		}
		if it.OnHand == 0 {
			s.say("there is none in stock; receive some with: holdfast stock receive %s 100", it.SKU)
		}
		return s.printItems(it, it)
	}
	return c
}

func (s *session) stockReceive() *cobra.Command {
	var key, reference string
	c := &cobra.Command{Use: "receive SKU QUANTITY", Short: "Take stock in", Args: cobra.ExactArgs(2)}
	c.Flags().StringVar(&key, "key", "", "the idempotency key; a new one by default")
	c.Flags().StringVar(&reference, "reference", "", "what it came with, a purchase order say")
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return usage("the quantity %q is not a whole number", args[1])
		}
		api, err := s.client()
		if err != nil {
			return err
		}
		if key == "" {
			key = client.NewKey()
		}
		it, err := api.Receive(c.Context(), key, shop.SKU(args[0]), shop.Receipt{Quantity: n, Reference: reference})
		if err != nil {
			return err
		}
		return s.printItems(it, it)
	}
	return c
}

func (s *session) stockShow() *cobra.Command {
	return &cobra.Command{Use: "show SKU", Short: "Show an item", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := s.client()
			if err != nil {
				return err
			}
			it, err := api.GetItem(c.Context(), shop.SKU(args[0]))
			if err != nil {
				return err
			}
			return s.printItems(it, it)
		}}
}

func (s *session) stockList() *cobra.Command {
	q := shop.ItemQuery{}
	c := &cobra.Command{Use: "list", Short: "List the items"}
	c.Flags().IntVar(&q.Limit, "limit", 50, "the most to list, at most 200")
	c.Flags().StringVar(&q.Cursor, "cursor", "", "next_cursor of the page before")
	c.RunE = func(c *cobra.Command, _ []string) error {
		api, err := s.client()
		if err != nil {
			return err
		}
		page, err := api.ListItems(c.Context(), q)
		if err != nil {
			return err
		}
		if page.NextCursor != "" && !s.json {
			s.say("there are more: --cursor %s", page.NextCursor)
		}
		return s.printItems(page, page.Items...)
	}
	return c
}

// printItems prints v as JSON, or the items as a table.
func (s *session) printItems(v any, items ...shop.Item) error {
	return s.print(v, func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "SKU\tNAME\tPRICE\tON HAND\tRESERVED\tAVAILABLE")
		for _, i := range items {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\n", i.SKU, i.Name, i.UnitPrice.Format(i.Currency), i.OnHand, i.Reserved, i.Available)
		}
		_ = t.Flush() // to a terminal or a pipe: its end shows at the next write
	})
}
