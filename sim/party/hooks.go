package party

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/shop"
)

const (
	// sendTimeout bounds one delivery.
	sendTimeout = 10 * time.Second
	// maxAnswer is what is read of an answer, so that its connection can be used again.
	maxAnswer = 64 << 10
	// minSecret is the shortest secret in bytes that Standard Webhooks allow.
	minSecret = 24
	// secretPrefix begins a secret; base64 follows.
	secretPrefix = "whsec_"
)

// Message is a webhook.
type Message struct {
	ID          string // the same for each delivery
	TraceParent string
	Body        []byte
}

// MessageID returns the id of the message about something.
func MessageID(about string) string {
	sum := sha256.Sum256([]byte(about))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// Sender delivers messages, signed per Standard Webhooks.
type Sender struct {
	url    string
	secret []byte
	client *http.Client
	clock  shop.Clock
	log    *slog.Logger
	failed atomic.Bool // the last delivery
}

// NewSender makes a sender to an address; an empty one means that there is nobody to tell.
func NewSender(address, secret string, deps shop.Deps) (*Sender, error) {
	s := &Sender{url: address, clock: deps.Clock, log: deps.Log, client: &http.Client{
		Transport: &http.Transport{DialContext: deps.Net.DialContext, MaxIdleConns: workers, MaxIdleConnsPerHost: workers,
			IdleConnTimeout: time.Minute, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if address == "" {
		return s, nil
	}
	if u, err := url.Parse(address); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("webhook_url %q is not an absolute http URL", address)
	}
	text, marked := strings.CutPrefix(secret, secretPrefix)
	var err error
	if s.secret, err = base64.StdEncoding.DecodeString(text); err != nil || !marked || len(s.secret) < minSecret {
		return nil, errors.New("webhook_secret is not whsec_ and base64 of at least 24 bytes")
	}
	return s, nil
}

// Enabled tells whether there is somebody to tell.
func (s *Sender) Enabled() bool { return s.url != "" }

// Send delivers a message once, and returns the status of the answer, 0 if there was none.
func (s *Sender) Send(ctx context.Context, m Message) int {
	limited, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	status, err := s.post(limited, m)
	if ctx.Err() != nil {
		return status // whatever went wrong, it was we who stopped
	}
	good := Taken(status) || status == http.StatusConflict
	if changed := s.failed.CompareAndSwap(good, !good); changed && !good {
		s.log.Warn("a webhook was not taken, and will be sent again", "status", status, "err", err)
	} else if changed {
		s.log.Info("webhooks are taken again")
	}
	return status
}

// Taken tells whether a delivery need not be repeated.
func Taken(status int) bool { return status >= 200 && status < 300 }

func (s *Sender) post(ctx context.Context, m Message) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(m.Body))
	if err != nil {
		return 0, err
	}
	stamp := strconv.FormatInt(s.clock.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", m.ID)
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+s.sign(m, stamp))
	if m.TraceParent != "" {
		req.Header.Set("Traceparent", m.TraceParent)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func (s *Sender) sign(m Message, stamp string) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(m.ID + "." + stamp + "."))
	mac.Write(m.Body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Close lets the connections go.
func (s *Sender) Close() { s.client.CloseIdleConnections() }
