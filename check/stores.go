package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/check/audit"
)

// auditEvery is how often the report of a check that takes longer than a request is asked for.
const auditEvery = 2 * time.Second

// Stores has a running Holdfast check its own stores, and returns what does not hold.
func Stores(ctx context.Context, at Addresses) ([]Violation, error) {
	began := time.Now()
	url := at.Admin + "/admin/v1/verify"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var r audit.Report
	switch resp.StatusCode {
	case http.StatusOK:
		err = json.NewDecoder(resp.Body).Decode(&r)
	case http.StatusGatewayTimeout:
		err = later(ctx, url, began, &r)
	default:
		err = fmt.Errorf("%s answers %s", url, resp.Status)
	}
	if err != nil {
		return nil, fmt.Errorf("check the stores: %w", err)
	}
	return Failures(&r), nil
}

// Failures are what an audit of the stores has found not to hold.
func Failures(r *audit.Report) (found []Violation) {
	for _, x := range r.Failed() {
		if len(x.Items) == 0 {
			found = append(found, Violation{Invariant: x.ID, Detail: "stores: " + x.Verdict.String()})
		}
		for _, o := range x.Items {
			found = append(found, Violation{x.ID, o.ID, "stores: " + o.Detail})
		}
	}
	return found
}

// later waits for the report of a check that began after an instant.
func later(ctx context.Context, url string, began time.Time, r *audit.Report) error {
	for {
		if err := GetJSON(ctx, url, r); err == nil && r.At.After(began) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("its report did not come in time"), ctx.Err())
		case <-time.After(auditEvery):
		}
	}
}

// GetJSON reads the JSON document at an address.
func GetJSON(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}
