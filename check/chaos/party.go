package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"holdfast/check"
)

// Wrong is something that an outside party does wrong, as its simulator takes it: see docs/failure-injection.md.
type Wrong struct {
	Operation  string  `json:"operation,omitempty"`
	Latency    string  `json:"latency,omitempty"`
	Status     int     `json:"status,omitempty"`
	RetryAfter string  `json:"retry_after,omitempty"`
	Lose       string  `json:"lose,omitempty"` // request or answer
	Garbage    bool    `json:"garbage,omitempty"`
	Rate       float64 `json:"rate,omitempty"`
	Count      int     `json:"count,omitempty"` // calls, after which it has ended
}

// party is a fault of an outside party's simulator.
type party struct {
	name  string // psp or carrier
	wrong Wrong

	url  string
	hits int64
}

func (p *party) Touches() string { return p.name }

func (p *party) Describe() string {
	var does []string
	for _, w := range []struct {
		on   bool
		what string
	}{
		{p.wrong.Latency != "", "takes " + p.wrong.Latency},
		{p.wrong.Status != 0, fmt.Sprintf("answers %d", p.wrong.Status)},
		{p.wrong.Lose == "request", "never gets what it is asked"},
		{p.wrong.Lose == "answer", "does what it is asked, and its answers are lost"},
		{p.wrong.Garbage, "answers 200 with HTML"},
	} {
		if w.on {
			does = append(does, w.what)
		}
	}
	return p.name + " " + strings.Join(does, " and ")
}

func (p *party) Inject(ctx context.Context, f *Field) error {
	at := f.System.Target().Addresses
	p.url = at.PSP
	if p.name == "carrier" {
		p.url = at.Carrier
	}
	return setWrongs(ctx, p.url, []Wrong{p.wrong})
}

// healLimit bounds the healing of an outside party.
const healLimit = 5 * time.Second

func (p *party) Heal(ctx context.Context) error {
	if p.url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	if err := p.count(ctx); err != nil {
		return err
	}
	return setWrongs(ctx, p.url, nil)
}

// count asks the simulator how often the fault has hit.
func (p *party) count(ctx context.Context) error {
	var doc struct {
		Faults []struct {
			Hits int64 `json:"hits"`
		} `json:"faults"`
	}
	if err := check.GetJSON(ctx, p.url+"/faults", &doc); err != nil {
		return err
	}
	for _, f := range doc.Faults {
		p.hits = f.Hits
	}
	return nil
}

func (p *party) Bites() (int64, error) { return p.hits, nil }

// setWrongs replaces the faults of an outside party.
func setWrongs(ctx context.Context, url string, wrongs []Wrong) error {
	body, err := json.Marshal(map[string]any{"faults": append([]Wrong{}, wrongs...)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/faults", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // a message for people, whole or not
		return fmt.Errorf("faults at %s: %s %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
