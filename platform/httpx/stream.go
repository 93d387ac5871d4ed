package httpx

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/shop"
)

const (
	// Heartbeat is how often a stream says that it is alive while nothing happens.
	Heartbeat = 15 * time.Second
	// MaxStream is how long one stream may last; clients reconnect with Last-Event-ID.
	MaxStream = time.Hour
	// streamWrite is how long one write to a stream may take before its reader counts as gone.
	streamWrite = 10 * time.Second
)

// Stream writes server-sent events to one caller.
type Stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	clock shop.Clock
	buf   bytes.Buffer
}

// Send writes one event with data as JSON, and returns an error where the caller is gone.
func (s *Stream) Send(id int64, event string, data any) error {
	s.buf.Reset()
	s.buf.WriteString("id: " + strconv.FormatInt(id, 10) + "\nevent: " + event + "\ndata: ")
	// JSON as encode writes it has no line breaks, so it is one line of data.
	if err := encode(&s.buf, data); err != nil {
		return err
	}
	s.buf.WriteString("\n\n")
	return s.flush()
}

// Beat writes a comment, to keep the connection open and to find out whether anyone is there.
func (s *Stream) Beat() error {
	s.buf.Reset()
	s.buf.WriteString(": still here\n\n")
	return s.flush()
}

func (s *Stream) flush() error {
	if err := s.rc.SetWriteDeadline(s.clock.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.rc.Flush()
}

// StreamFunc runs one stream until it is over or its caller is gone. Its context ends with the
// connection, when the server shuts down, and after MaxStream.
type StreamFunc func(ctx context.Context, s *Stream)

type streamOutput struct {
	Body func(huma.Context)
}

// RegisterStream adds an operation that answers with server-sent events. Its handler decides what is
// sent: an error is a problem, no function is a 204, which tells a browser not to reconnect.
func RegisterStream[I any](a *API, op Op, handle func(context.Context, *I) (StreamFunc, error)) {
	op.Stream = true
	op.Also = append(op.Also, http.StatusNoContent)
	register(a, opMeta{op: op, class: ClassStream}, func(ctx context.Context, in *I) (*streamOutput, error) {
		run, err := handle(ctx, in)
		if err != nil {
			return nil, err
		}
		return &streamOutput{func(hc huma.Context) {
			if run == nil {
				hc.SetStatus(http.StatusNoContent)
				return
			}
			a.stream(ctx, hc, run)
		}}, nil
	})
}

func (a *API) stream(ctx context.Context, hc huma.Context, run StreamFunc) {
	c := hc.(*humaContext).call
	hc.SetHeader("Content-Type", "text/event-stream")
	hc.SetHeader("X-Accel-Buffering", "no") // proxies of the nginx kind would hold events back
	hc.SetStatus(http.StatusOK)
	ctx, cancel := WaitContext(ctx, MaxStream)
	defer cancel()
	s := &Stream{w: c, rc: http.NewResponseController(c), clock: a.deps.Clock}
	if err := s.rc.Flush(); err != nil {
		return
	}
	run(ctx, s)
}
