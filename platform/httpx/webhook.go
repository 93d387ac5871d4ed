package httpx

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/shop"
)

const (
	// webhookWindow is how far the time of a message may be from ours, either way.
	webhookWindow = 5 * time.Minute
	// maxWebhook is the largest body of a webhook.
	maxWebhook = 64 << 10
	// maxSignatures is how many signatures of one message are looked at.
	maxSignatures = 8
	// minSecret is the shortest secret, in bytes; the standard asks for 24.
	minSecret = 24
	// secretPrefix marks a secret that is written in base64.
	secretPrefix = "whsec_"
)

// Verifier checks the signatures of webhooks that come in, per Standard Webhooks: HMAC-SHA256 over
// id, timestamp and body. Several secrets are good at once, so that they can be changed under way.
type Verifier struct {
	secrets [][]byte
	clock   shop.Clock
}

// NewVerifier makes a Verifier of secrets in their usual form, "whsec_" and base64.
func NewVerifier(clock shop.Clock, secrets ...string) (*Verifier, error) {
	v := &Verifier{clock: clock}
	for _, s := range secrets {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, secretPrefix))
		if err != nil || !strings.HasPrefix(s, secretPrefix) {
			return nil, shop.E(shop.Invalid, "httpx.NewVerifier", "a webhook secret is not whsec_ and base64")
		}
		if len(raw) < minSecret {
			return nil, shop.E(shop.Invalid, "httpx.NewVerifier", "a webhook secret is shorter than 24 bytes")
		}
		v.secrets = append(v.secrets, raw)
	}
	return v, nil
}

// Verify returns nil for a message that was signed with one of the secrets within the window, and
// Unauthenticated otherwise. The body must be as it came, to the byte.
func (v *Verifier) Verify(h http.Header, body []byte) error {
	id, stamp, signatures := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature")
	if id == "" || stamp == "" || signatures == "" {
		return refused("The headers webhook-id, webhook-timestamp and webhook-signature are needed.")
	}
	if len(id) > 255 || !printable(id) {
		return refused("The webhook-id is not 1 to 255 printable ASCII characters.")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return refused("The webhook-timestamp is not a number of seconds.")
	}
	if off := v.clock.Now().Sub(time.Unix(seconds, 0)); off > webhookWindow || off < -webhookWindow {
		return refused("The webhook-timestamp is more than 5 minutes from the time here.")
	}
	if !v.signed(id, stamp, signatures, body) {
		return refused("No webhook-signature is right.")
	}
	return nil
}

func (v *Verifier) signed(id, stamp, signatures string, body []byte) bool {
	good := false
	for _, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + stamp + "."))
		mac.Write(body)
		want := mac.Sum(nil)
		n := 0
		for one := range strings.FieldsSeq(signatures) {
			if n++; n > maxSignatures {
				break
			}
			version, text, _ := strings.Cut(one, ",")
			got, err := base64.StdEncoding.DecodeString(text)
			// Every pair is compared, so that the time does not tell which secret fits.
			if version == "v1" && err == nil && hmac.Equal(got, want) {
				good = true
			}
		}
	}
	return good
}

func refused(msg string) error { return shop.E(shop.Unauthenticated, "httpx.Verify", msg) }

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
