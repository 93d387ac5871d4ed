package payment

import (
	"context"
	"net/http"

	"holdfast/platform/httpx"
	"holdfast/shop"
)

// WebhookParty is the name under which the API's configuration holds the provider's webhook secrets.
const WebhookParty = "psp"

// RegisterHTTP adds the operations on payments to the public API, and the door for the payment
// provider's messages.
func RegisterHTTP(api *httpx.API, svc shop.Payments) {
	h := &handlers{svc: svc}
	httpx.Register(api, httpx.Op{
		ID: "getOrderPayment", Method: http.MethodGet, Path: "/v1/orders/{id}/payment", Tag: "payment",
		Summary:     "Read an order's payment",
		Description: "The money of one order, with every attempt at the provider and the ledger entries. 404 until there is a payment.",
		Problems:    []shop.Kind{shop.NotFound},
	}, h.get)
	httpx.RegisterWebhook(api, httpx.Op{
		ID: "receivePaymentWebhook", Method: http.MethodPost, Path: "/webhooks/psp", Tag: "payment",
		Summary:     "Take a message of the payment provider",
		Description: "Signed per Standard Webhooks. Any number of deliveries of one message has one effect.",
		Problems:    []shop.Kind{shop.Conflict},
	}, WebhookParty, svc.ProviderWebhook)
}

type handlers struct{ svc shop.Payments }

type getInput struct {
	ID string `path:"id" doc:"The order's id"`
}

type getOutput struct{ Body shop.Payment }

func (h *handlers) get(ctx context.Context, in *getInput) (*getOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	p, err := h.svc.Payment(ctx, httpx.Caller(ctx), id)
	if err != nil {
		return nil, err
	}
	return &getOutput{p}, nil
}
