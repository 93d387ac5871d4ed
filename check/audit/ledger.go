package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-json-experiment/json"

	"holdfast/shop"
)

// money is what the provider's own ledger says of one order.
type money struct {
	authorised, captured, refunded          shop.Amount
	authorisations, captures, voids, givens uint16
	seen                                    bool
}

// held is what is neither taken nor given back.
func (m *money) held() shop.Amount {
	if m.voids > 0 {
		return 0
	}
	return m.authorised - m.captured
}

// parcels is what the carrier's own ledger says of one order.
type parcels struct {
	scheduled, cancelled, left uint16
	seen                       bool
}

// entry is a line of an outside party's ledger.
type entry struct {
	Seq       int64       `json:"seq"`
	Entry     string      `json:"entry"`
	Reference string      `json:"reference"`
	Amount    shop.Amount `json:"amount"`
}

// maxLine is the longest line of a ledger.
const maxLine = 1 << 20

// ledgers reads the outside parties' ledgers, where they are known.
func (a *auditor) ledgers(ctx context.Context) error {
	if a.cfg.PSP != "" {
		a.psp = map[uint64]money{}
		if err := readLedger(ctx, a.cfg.PSP, func(e entry) { a.psp[a.recs.hash(e.Reference)] = a.psp[a.recs.hash(e.Reference)].with(e) }); err != nil {
			return fmt.Errorf("the provider's ledger: %w", err)
		}
	}
	if a.cfg.Carrier != "" {
		a.carrier = map[uint64]parcels{}
		if err := readLedger(ctx, a.cfg.Carrier, func(e entry) { a.carrier[a.recs.hash(e.Reference)] = a.carrier[a.recs.hash(e.Reference)].with(e) }); err != nil {
			return fmt.Errorf("the carrier's ledger: %w", err)
		}
	}
	return nil
}

func (m money) with(e entry) money {
	switch e.Entry {
	case "authorised":
		m.authorised += e.Amount
		m.authorisations++
	case "captured":
		m.captured += e.Amount
		m.captures++
	case "voided":
		m.voids++
	case "refunded":
		m.refunded += e.Amount
		m.givens++
	}
	return m
}

func (p parcels) with(e entry) parcels {
	switch e.Entry {
	case "scheduled":
		p.scheduled++
	case "cancelled":
		p.cancelled++
	case "dispatched":
		p.left++
	}
	return p
}

// readLedger reads a ledger at an address or in a file. The last line of a file may be torn or not yet on the
// disk: nobody was answered for it.
func readLedger(ctx context.Context, from string, take func(entry)) error {
	source, live, err := openLedger(ctx, from)
	if err != nil {
		return err
	}
	defer source.Close()
	lines := bufio.NewReaderSize(source, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 && live {
				return fmt.Errorf("%s ends in the middle of a line", from)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(line[:min(len(line), 7)]), `{"seq":`) {
			continue // a note of the party's own
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		take(e)
	}
}

func openLedger(ctx context.Context, from string) (source io.ReadCloser, live bool, err error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		f, err := os.Open(from)
		return f, false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from+"/ledger", nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, false, fmt.Errorf("%s/ledger answers %s", from, resp.Status)
	}
	return resp.Body, true, nil
}

// strangers suspects the references of the ledgers that no order was found for.
func (a *auditor) strangers(ctx context.Context) error {
	money, parcel := false, false
	for _, m := range a.psp {
		money = money || !m.seen
	}
	for _, p := range a.carrier {
		parcel = parcel || !p.seen
	}
	if money {
		if err := readLedger(ctx, a.cfg.PSP, func(e entry) {
			if !a.psp[a.recs.hash(e.Reference)].seen {
				a.suspect(e.Reference)
			}
		}); err != nil {
			return err
		}
	}
	if !parcel {
		return nil
	}
	return readLedger(ctx, a.cfg.Carrier, func(e entry) {
		if !a.carrier[a.recs.hash(e.Reference)].seen {
			a.suspect(e.Reference)
		}
	})
}
