package gateway

import (
	"context"
	"encoding/json"
	"net/http"

	"holdfast/platform/httpx"
	"holdfast/shop"
)

// verification adds the check of the invariants over the stores.
func (a *admin) verification(api *httpx.API, open bool) {
	httpx.Register(api, httpx.Op{
		ID: "verify", Method: http.MethodPost, Path: "/admin/v1/verify", Tag: "operations", Open: open, Status: http.StatusOK,
		Summary:  "Check the invariants over the stores, and answer with the report",
		Problems: []shop.Kind{shop.Conflict, shop.Unavailable},
	}, a.verify)
	httpx.Register(api, httpx.Op{
		ID: "lastVerification", Method: http.MethodGet, Path: "/admin/v1/verify", Tag: "operations", Open: open,
		Summary:  "Read the report of the last check",
		Problems: []shop.Kind{shop.NotFound},
	}, a.verified)
}

type verifyInput struct {
	AtRest bool `query:"at_rest" doc:"The load has stopped: everything must have come to its end"`
}

type verifyOutput struct{ Body json.RawMessage }

func (a *admin) verify(ctx context.Context, in *verifyInput) (*verifyOutput, error) {
	report, err := a.Verify(ctx, in.AtRest)
	if err != nil {
		return nil, err
	}
	return &verifyOutput{report}, nil
}

func (a *admin) verified(context.Context, *struct{}) (*verifyOutput, error) {
	report := a.Verified()
	if report == nil {
		return nil, shop.E(shop.NotFound, "gateway.verify", "No check has ended since the process started. POST to this path runs one.")
	}
	return &verifyOutput{report}, nil
}
