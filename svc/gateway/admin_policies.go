package gateway

import (
	"context"
	"net/http"

	"holdfast/platform/httpx"
	"holdfast/platform/policy"
	"holdfast/shop"
)

// policies adds the operations on the resilience policies.
func (a *admin) policies(api *httpx.API, open bool) {
	httpx.Register(api, httpx.Op{
		ID: "listPolicies", Method: http.MethodGet, Path: "/admin/v1/policies", Tag: "operations", Open: open,
		Summary: "List the resilience policies with their state",
	}, a.listPolicies)
	httpx.Register(api, httpx.Op{
		ID: "steerBreaker", Method: http.MethodPost, Path: "/admin/v1/policies/{name}/{action}", Tag: "operations", Open: open,
		Summary:  "Hold a circuit breaker open or closed, or let it decide again",
		Problems: []shop.Kind{shop.NotFound},
	}, a.steer)
	httpx.Register(api, httpx.Op{
		ID: "reloadPolicies", Method: http.MethodPost, Path: "/admin/v1/policies/reload", Tag: "operations", Open: open, Status: http.StatusOK,
		Summary:  "Take the policies from the configuration again, without losing their state",
		Problems: []shop.Kind{shop.Conflict},
	}, a.reload)
}

type policiesOutput struct{ Body Policies }

// Policies is the body of the list of policies.
type Policies struct {
	Items []policy.State `json:"items"`
}

func (a *admin) listPolicies(context.Context, *struct{}) (*policiesOutput, error) {
	return &policiesOutput{Policies{a.Policies.List()}}, nil
}

type steerInput struct {
	Name   string `path:"name" doc:"The breaker's name, as the list shows it: psp.authorise"`
	Action string `path:"action" enum:"force-open,force-close,auto" doc:"What to do"`
}

type steerOutput struct{ Body policy.State }

func (a *admin) steer(_ context.Context, in *steerInput) (*steerOutput, error) {
	state, err := a.Policies.Force(in.Name, in.Action, "an operator says "+in.Action)
	if err != nil {
		return nil, err
	}
	return &steerOutput{state}, nil
}

func (a *admin) reload(context.Context, *struct{}) (*policiesOutput, error) {
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return &policiesOutput{Policies{a.Policies.List()}}, nil
}
