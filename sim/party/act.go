package party

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// garbage is the answer of something that is in front of a party, and broken.
const garbage = "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"

// dripPieces is in how many pieces an answer drips, if it has so many bytes.
const dripPieces = 20

// act does what a fault does once its latency has passed.
func (f *Faults) act(hit *active, w http.ResponseWriter, r *http.Request, do http.HandlerFunc) {
	switch {
	case hit.Status != 0:
		if hit.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(time.Duration(hit.RetryAfter)/time.Second)))
		}
		(&Problem{hit.Status, "fault", "Nothing was done: PUT /faults asks for this answer."}).ServeHTTP(w, r)
	case hit.Garbage:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, garbage) // where nobody listens any more, nobody is told
	case hit.Lose == loseRequest:
		f.door.Hold(r.Context())
		Drop()
	case hit.Lose == loseAnswer:
		ctx, gone := context.WithCancel(r.Context())
		defer gone()
		lost := &lostAnswer{header: make(http.Header), hold: sync.OnceFunc(func() { f.door.Hold(ctx); gone() })}
		do(lost, r.WithContext(ctx))
		lost.hold()
		Drop()
	case hit.Reset == loseRequest:
		reset(w)
	case hit.Reset == loseAnswer:
		keep(do, r)
		reset(w)
	case hit.Truncate:
		kept := keep(do, r)
		kept.begin(w)
		_, _ = w.Write(kept.body.Bytes()[:kept.body.Len()/2])
		flush(w)
		Drop()
	case hit.Drip > 0:
		f.drip(keep(do, r), time.Duration(hit.Drip), w, r)
	default:
		do(w, r)
	}
}

// drip sends an answer in pieces, spread over a time.
func (f *Faults) drip(kept *keptAnswer, over time.Duration, w http.ResponseWriter, r *http.Request) {
	kept.begin(w)
	flush(w)
	size := max(1, (kept.body.Len()+dripPieces-1)/dripPieces)
	pieces := max(1, (kept.body.Len()+size-1)/size)
	for range pieces {
		if !f.door.Delay(r.Context(), over/time.Duration(pieces)) {
			Drop()
		}
		_, _ = w.Write(kept.body.Next(size))
		flush(w)
	}
}

func flush(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush() // where nobody listens any more, nobody is told
}

// reset ends a call as a broken path does: with a TCP reset where that can be had.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		Drop()
	}
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // without it the end is an orderly one, and an end all the same
	}
	_ = conn.Close()
}

// keptAnswer is an answer that has not been sent.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// keep has a call done and returns its answer.
func keep(do http.HandlerFunc, r *http.Request) *keptAnswer {
	k := &keptAnswer{header: make(http.Header), status: http.StatusOK}
	do(k, r)
	return k
}

// Header returns the answer's headers.
func (k *keptAnswer) Header() http.Header { return k.header }

// WriteHeader keeps the status.
func (k *keptAnswer) WriteHeader(status int) { k.status = status }

// Write keeps p.
func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }

// begin sends all but the body, with the length that the body should have.
func (k *keptAnswer) begin(w http.ResponseWriter) {
	for name, values := range k.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(k.body.Len()))
	w.WriteHeader(k.status)
}

// lostAnswer takes an answer that its caller will not get. It holds whoever writes it until the caller has
// given up, and then ends the call's context: so the party finds out what it finds out of any lost answer.
type lostAnswer struct {
	header http.Header
	hold   func()
}

// Header returns headers that nobody will see.
func (l *lostAnswer) Header() http.Header { return l.header }

// WriteHeader waits.
func (l *lostAnswer) WriteHeader(int) { l.hold() }

// Write waits, and takes all of it.
func (l *lostAnswer) Write(p []byte) (int, error) {
	l.hold()
	return len(p), nil
}
