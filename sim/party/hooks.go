package party

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/shop"
)

const (
	senders     = 128              // messages under way at once
	sendTimeout = 10 * time.Second // for one try
	retryMin    = 50 * time.Millisecond
	retryMax    = 2 * time.Second
	rawSecret   = "whsec_"
)

// Hook is a message to the customer. It is sent when it is due, and again until somebody answers.
type Hook struct {
	ID   string // the same for every delivery
	Due  time.Time
	Type string
	Data any // its JSON form is the message's data
	// Answer gets the status of an answer, and tells whether the message need not be sent again.
	Answer func(status int) bool

	tries int
}

// Hooks sends messages, signed per Standard Webhooks.
type Hooks struct {
	url    string
	secret []byte
	deps   shop.Deps
	http   *http.Client

	mu    sync.Mutex
	queue hookHeap
	wake  chan struct{} // one token: there is an earlier one
}

// NewHooks makes a sender; Run sends. An empty url means that there is nobody to tell.
func NewHooks(url, secret string, deps shop.Deps) (*Hooks, error) {
	h := &Hooks{url: url, deps: deps, wake: make(chan struct{}, 1), http: &http.Client{Timeout: sendTimeout,
		Transport: &http.Transport{DialContext: deps.Net.DialContext, MaxIdleConnsPerHost: senders, DisableCompression: true}}}
	if url == "" {
		return h, nil
	}
	var err error
	if h.secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, rawSecret)); err != nil || len(h.secret) < 24 {
		return nil, fmt.Errorf("the webhook secret must be %s and the base64 of at least 24 bytes", rawSecret)
	}
	return h, nil
}

// Add puts a message into the queue.
func (h *Hooks) Add(hook *Hook) {
	if h.url == "" {
		return
	}
	h.mu.Lock()
	heap.Push(&h.queue, hook)
	first := h.queue[0] == hook
	h.mu.Unlock()
	if first {
		select {
		case h.wake <- struct{}{}:
		default: // a look at the queue is due anyway
		}
	}
}

// Run sends until ctx ends.
func (h *Hooks) Run(ctx context.Context) error {
	due := make(chan *Hook)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for hook := range due {
				h.send(ctx, hook)
			}
		})
	}
	defer wg.Wait()
	defer close(due)
	for {
		hook, wait := h.pop()
		if hook != nil {
			select {
			case due <- hook:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		timer, stop := h.deps.Clock.Timer(wait)
		select {
		case <-h.wake:
		case <-timer:
		case <-ctx.Done():
			stop()
			return nil
		}
		stop()
	}
}

// pop returns the first message if it is due, and otherwise how long there is nothing to do.
func (h *Hooks) pop() (*Hook, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return nil, time.Hour
	}
	if wait := h.queue[0].Due.Sub(h.deps.Clock.Now()); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&h.queue).(*Hook), 0
}

// send tries once, and puts the message back unless it was taken.
func (h *Hooks) send(ctx context.Context, hook *Hook) {
	status := h.Post(ctx, hook)
	if status != 0 && hook.Answer(status) {
		return
	}
	hook.tries++
	most := retryMin << min(hook.tries, 10)
	wait := retryMin/2 + time.Duration(h.deps.Rand.Float64()*float64(min(most, retryMax)))
	hook.Due = h.deps.Clock.Now().Add(wait)
	h.Add(hook)
}

// Post sends a message once and returns the status of the answer, 0 where none came.
func (h *Hooks) Post(ctx context.Context, hook *Hook) int {
	if h.url == "" {
		return 0
	}
	now := h.deps.Clock.Now().UTC()
	body, err := json.Marshal(struct {
		Type string    `json:"type"`
		At   time.Time `json:"timestamp"`
		Data any       `json:"data"`
	}{hook.Type, now, hook.Data})
	if err != nil {
		h.deps.Log.Error("a message cannot be encoded", "type", hook.Type, "err", err)
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, h.secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", hook.ID, stamp, body) // a hash never fails
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", hook.ID)
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := h.http.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return 0
	}
	return resp.StatusCode
}

// hookHeap orders messages by when they are due.
type hookHeap []*Hook

func (h hookHeap) Len() int           { return len(h) }
func (h hookHeap) Less(i, j int) bool { return h[i].Due.Before(h[j].Due) }
func (h hookHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *hookHeap) Push(x any)        { *h = append(*h, x.(*Hook)) }
func (h *hookHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
