package httpx

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"holdfast/resilience"
	"holdfast/shop"
)

// maxWebhookType is the longest type of a message.
const maxWebhookType = 64

// webhookMessage is the body of a message that comes in. Other members may come beside these: it is
// the other party's format.
type webhookMessage struct {
	Type      string         `json:"type" minLength:"1" maxLength:"64" doc:"What happened"`
	Timestamp string         `json:"timestamp,omitempty" doc:"When it happened, RFC 3339"`
	Data      jsontext.Value `json:"data" doc:"What it happened to"`
}

// webhookMessageDoc is webhookMessage for the document.
type webhookMessageDoc struct {
	Type      string         `json:"type" minLength:"1" maxLength:"64" doc:"What happened"`
	Timestamp string         `json:"timestamp,omitempty" doc:"When it happened, RFC 3339"`
	Data      map[string]any `json:"data" doc:"What it happened to"`
}

type webhookInput struct {
	ID        string `header:"webhook-id" required:"true" doc:"The same for every delivery of one message"`
	Timestamp string `header:"webhook-timestamp" required:"true" doc:"Seconds since 1970, at most 5 minutes off"`
	Signature string `header:"webhook-signature" required:"true" doc:"v1, and base64 of the HMAC-SHA256 over id.timestamp.body; several are separated by spaces"`
	Body      webhookMessageDoc
}

type webhookOutput struct{}

// RegisterWebhook adds an operation that takes messages of an outside party, whose secrets are in the
// Config under its name. The signature is verified over the bytes as they came, before anything else
// is looked at; a nil error is a 204, which tells the party not to send the message again.
func RegisterWebhook(a *API, op Op, party string, handle func(context.Context, shop.Webhook) error) {
	op.Open, op.Criticality = true, resilience.Critical // it ends something that is under way already
	op.Status = http.StatusNoContent
	op.Problems = append(op.Problems, shop.Unauthenticated, shop.TooLarge)
	meta := opMeta{op: op, class: ClassWebhook}
	meta.serve = func(c *call, r *http.Request) error {
		w, err := a.receive(c, r, a.webhooks[party])
		if err != nil {
			return err
		}
		if err := handle(r.Context(), w); err != nil {
			return err
		}
		c.WriteHeader(http.StatusNoContent)
		return nil
	}
	register(a, meta, func(context.Context, *webhookInput) (*webhookOutput, error) { return nil, nil })
}

// receive reads and verifies one message.
func (a *API) receive(c *call, r *http.Request, v *Verifier) (shop.Webhook, error) {
	buf := a.buffers.get()
	defer a.buffers.put(buf)
	if err := c.route.read(c, r, buf); err != nil {
		return shop.Webhook{}, err
	}
	if v == nil {
		return shop.Webhook{}, refused("No secret for these messages is configured here.")
	}
	if err := v.Verify(r.Header, buf.Bytes()); err != nil {
		return shop.Webhook{}, err
	}
	if len(c.fields) > 0 {
		return shop.Webhook{}, invalid(c.fields)
	}
	var m webhookMessage
	if err := json.Unmarshal(buf.Bytes(), &m); err != nil || m.Type == "" || len(m.Type) > maxWebhookType || m.Data.Kind() != '{' {
		return shop.Webhook{}, invalid([]shop.Field{{Detail: "must be a JSON object with type, a string, and data, an object"}})
	}
	return shop.Webhook{ID: r.Header.Get("Webhook-Id"), Type: m.Type, Data: m.Data}, nil
}
