package shipping

import (
	"context"
	"net/http"

	"holdfast/platform/httpx"
	"holdfast/shop"
)

// WebhookParty is the name under which the API's configuration holds the carrier's webhook secrets.
const WebhookParty = "carrier"

// RegisterHTTP adds the operations on shipments to the public API, and the door for the carrier's
// messages.
func RegisterHTTP(api *httpx.API, svc shop.Shipments) {
	h := &handlers{svc: svc}
	httpx.Register(api, httpx.Op{
		ID: "getOrderShipment", Method: http.MethodGet, Path: "/v1/orders/{id}/shipment", Tag: "shipping",
		Summary:     "Read an order's shipment",
		Description: "The parcel of one order, with every attempt at the carrier. 404 until there is a shipment.",
		Problems:    []shop.Kind{shop.NotFound},
	}, h.get)
	httpx.RegisterWebhook(api, httpx.Op{
		ID: "receiveCarrierWebhook", Method: http.MethodPost, Path: "/webhooks/carrier", Tag: "shipping",
		Summary:     "Take a message of the carrier",
		Description: "Signed per Standard Webhooks. Any number of deliveries of one message has one effect. 409 on a dispatch means that the parcel must not leave.",
		Problems:    []shop.Kind{shop.Conflict},
	}, WebhookParty, svc.CarrierWebhook)
}

type handlers struct{ svc shop.Shipments }

type getInput struct {
	ID string `path:"id" doc:"The order's id"`
}

type getOutput struct{ Body shop.Shipment }

func (h *handlers) get(ctx context.Context, in *getInput) (*getOutput, error) {
	id, err := httpx.OrderID(in.ID)
	if err != nil {
		return nil, err
	}
	ctx = httpx.WithOrder(ctx, id)
	s, err := h.svc.Shipment(ctx, httpx.Caller(ctx), id)
	if err != nil {
		return nil, err
	}
	return &getOutput{s}, nil
}
