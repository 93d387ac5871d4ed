package field_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// row is something that went wrong elsewhere.
type row struct {
	system, issue string
	test          string // without "TestField_"
	there, here   string
	lacking       string // what of it cannot be shown yet, and why; with a test: what the test leaves out
}

var rows = []row{
	{"eShop", "996", "eshop996_IDOR", "any signed-in user reads, cancels or ships any order",
		"every route answers another caller's order as one that does not exist: 404", "there are callers and no roles yet"},
	{"eShop", "888", "eshop888_LastUnit", "stock is checked and not reserved, so it is sold twice",
		"stock is reserved in one transaction: of many buyers of the last unit one wins", ""},
	{"eShopOnContainers", "1340", "eshopOC1340_OutboxRelay", "outbox rows whose sending failed are never sent again",
		"they are sent, in order, after any outage, also over a restart", ""},
	{"eShop", "—", "eshop_AckOnException", "a message whose handler fails is taken off the queue",
		"it is tried again for as long as an outage lasts; what can never be handled ends as a dead letter, as it was and with its cause", "there is no command to replay a dead letter yet"},
	{"Temporal order sample", "122", "temporal122_Rollup", `orders that were cancelled or failed in part report "completed"`,
		"the status follows from the quantities of the lines", "partial shipments do not exist yet"},
	{"Temporal order sample", "—", "temporalOMS_Totals", "an order of several lines is charged too much: the running sum is added per line",
		"total = sum of the lines + shipping, and that is what is charged", ""},
	{"Temporal order sample", "—", "temporalOMS_ShipFails", "the shipment fails and the money is kept",
		"the hold is voided or the charge refunded, and the stock released", ""},
	{"Temporal samples-go", "—", "samplesgo_UndoAfterStep", "the compensation is registered after the step, runs on a dead context and gives up after three attempts",
		"a step without an answer is undone as well, whoever has hung up, however often the undo fails", ""},
	{"Temporal samples-go", "—", "samplesgo_UndoOfWorkflow", "the same of a workflow that is cancelled while a step's answer is lost",
		"the step is undone, since it was noted before it was asked for", ""},
	{"Polly", "216", "polly216_StaleResult", "a call from before the breaker opened closes it when it succeeds",
		"what was admitted before decides nothing afterwards: the breaker waits for its own probe", ""},
	{"Online Boutique", "3474", "boutique3474_PaymentDelay", "2 s more in the payment service are 2 s more at the checkout; a lost service hangs it for 10 s",
		"orders are accepted at once and stay pending, the breaker opens, none is lost", ""},
	{"OpenTelemetry demo", "1590", "otel1590_BrokerRestart", "the checkout hangs after a restart of the broker; mended by acks=0",
		"orders are accepted while the broker is gone, and confirmed once it is back, by itself", ""},
	{"OpenTelemetry demo", "3737", "otel3737_Decline500", "a declined card is a 500",
		"it is an order that was rejected, with the reason and the provider's code", ""},
	{"OpenTelemetry demo", "—", "otel_ChargeBeforeStore", "money moves before the order is stored",
		"whenever the provider is asked, the order can be read; an order that cannot be stored asks for nothing", ""},
	{"FTGO", "107", "ftgo107_Compensation", "the compensation throws not-implemented and the chain stops",
		"every undo (stock, hold, charge, parcel) is shown failing, and then done", ""},
	{"Eventuate", "75", "eventuate75_FailedCompensation", "a compensation that fails breaks the saga for good",
		"it is retried, then shown as needs_attention, and goes on when an operator says so", ""},
	{"FTGO", "111", "ftgo111_StuckPending", "orders are pending for ever",
		"a watchdog drives an order again whose event was lost", ""},
	{"Dapr sample", "—", "dapr_StockAfterCharge", "the card is charged, then there is no stock, and no refund",
		"stock comes first; what is charged and cannot be delivered is refunded", ""},
	{"AWS retail sample", "—", "awsretail_PublishBeforeCommit", "events are published inside of the open transaction",
		"an order whose transaction fails leaves no event", ""},
	{"AWS retail sample", "—", "awsretail_RetryNeverActs", "a retry policy that can never run",
		"each policy is made to act, and seen in its metric", ""},
	{"Medusa", "16502", "medusa16502_SameSkuTwice", "two lines of one SKU pass the stock check one by one",
		"they are summed before it", ""},
	{"Medusa", "16569", "medusa16569_ReservationRace", "checkouts at once sell more than there is",
		"exactly as much is sold as there is, also of orders that want two items in opposite orders", ""},
	{"Medusa", "13301", "medusa13301_ConfirmVsWebhook", "the API's confirmation races the provider's webhook: 1 of 20 orders is lost",
		"webhook first, answer first or both twice: one effect", ""},
	{"Medusa", "10491", "medusa10491_RefundArithmetic", "refunds exceed or miss what was captured",
		"0 <= refunds <= captures at every instant, and refunds = captures of what was undone", "refunds of a part do not exist yet"},
	{"WooCommerce", "64668", "woo64668_RefundPenny", "a full refund after partial ones is a penny above the order",
		"", "refunds of a part do not exist yet"},
	{"Vendure", "4811", "vendure4811_DiscountOnRefund", "the discount is spread again over the lines that are left",
		"", "discounts do not exist yet"},
	{"Vendure", "1210", "vendure1210_StockAfterCancel", "cancelled stock is not returned, or twice",
		"it is returned exactly once, at whatever stage and however often it is cancelled", ""},
	{"Saleor", "14358", "saleor14358_Idempotency", "a double submit makes two orders",
		"one order and the same answer, also at once and over a restart; another body is refused", ""},
	{"Dekaf", "3054", "dekaf3054_OvertakeAfterFailure", "after a failed send later events of the key overtake it",
		"the first occurrences on the bus are in order for each order, whatever fails", ""},
	{"Watermill", "467", "watermill467_DeadContextRetry", "the first attempt's time-out poisons the rest",
		"each attempt has time of its own", ""},
	{"Flagger", "712", "flagger712_ConsumerCanary", "consumers cannot be released as a canary",
		"", "no deployment of services of its own exists yet"},
}

// render writes the document.
func render(rows []row, passed map[string][]string) []byte {
	var b bytes.Buffer
	b.WriteString(`# What went wrong elsewhere

Failures that users of other order systems have reported, each as a test of a whole Holdfast: services, bus, stores and outside parties, through the
public API. The tests are our own; run them with ` + "`go test ./test/field`" + `. This table is written by that run (` + "`-update`" + `), and a run of everything compares it
with what its tests have shown. What cannot be shown yet is listed, too.

| system | issue | what happened there | what happens here | test | result |
|---|---|---|---|---|---|
`)
	held, open := 0, 0
	for _, r := range rows {
		here, test, result := r.here, "`TestField_"+r.test+"`", "not yet: "+r.lacking
		switch stores := passed["TestField_"+r.test]; {
		case r.here == "":
			here, test = "—", "—"
			open++
		case len(stores) == 0:
			result = "**has not passed**"
		default:
			slices.Sort(stores)
			result = "passes on " + strings.Join(stores, " and ")
			if r.lacking != "" {
				result += "; " + r.lacking
			}
			held++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.system, r.issue, r.there, here, test, result)
	}
	fmt.Fprintf(&b, "\n%d of %d pass; %d cannot be shown yet.\n", held, len(rows), open)
	return b.Bytes()
}

// TestRows: every row that promises something has its test, and every test its row.
func TestRows(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var tests []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "TestField_") {
				tests = append(tests, fn.Name.Name)
			}
		}
	}
	var promised []string
	for _, r := range rows {
		if r.here != "" {
			promised = append(promised, "TestField_"+r.test)
		} else if r.lacking == "" {
			t.Errorf("%s promises nothing and gives no reason", r.test)
		}
	}
	slices.Sort(tests)
	slices.Sort(promised)
	if !slices.Equal(tests, promised) {
		t.Errorf("tests    %v\npromised %v", tests, promised)
	}
}

// TestRender: a row whose test has not passed says so.
func TestRender(t *testing.T) {
	t.Parallel()
	some := []row{{"A", "1", "a1", "bad", "good", ""}, {"B", "2", "b2", "bad", "good", "half of it"}, {"C", "3", "c3", "bad", "", "why"}}
	got := string(render(some, map[string][]string{"TestField_b2": {"SQLite", "PostgreSQL"}}))
	for _, want := range []string{
		"| A | 1 | bad | good | `TestField_a1` | **has not passed** |",
		"| B | 2 | bad | good | `TestField_b2` | passes on PostgreSQL and SQLite; half of it |",
		"| C | 3 | bad | — | — | not yet: why |",
		"1 of 3 pass; 1 cannot be shown yet.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}
