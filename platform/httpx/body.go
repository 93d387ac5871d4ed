package httpx

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/shop"
)

// takeBody reads and checks the body of a request, and leaves it to be decoded. Faults of its fields
// go to c.fields, to be told together with those of the parameters.
func (rt *route) takeBody(c *call, r *http.Request) error {
	buf := rt.api.buffers.get()
	err := rt.read(c, r, buf)
	if err != nil {
		rt.api.buffers.put(buf)
		return err
	}
	data := buf.Bytes()
	if rt.body == nil {
		// Many clients send {} with every POST.
		if text := bytes.TrimSpace(data); len(text) > 0 && !bytes.Equal(text, []byte("{}")) {
			c.fields = append(c.fields, shop.Field{Detail: "must be empty: there is no body here"})
		}
		rt.api.buffers.put(buf)
		r.Body = http.NoBody
		return nil
	}
	if fields := rt.api.checkers.check(rt.body, data); len(fields) > 0 {
		c.fields = append(c.fields, fields...)
		data = nil // Huma answers an empty body with an error, which Transform fills in
	}
	r.Body = &body{reader: bytes.NewReader(data), done: func() { rt.api.buffers.put(buf) }}
	return nil
}

// body is a body in memory. Huma closes it once it has been copied.
type body struct {
	reader *bytes.Reader
	done   func()
}

func (b *body) Read(p []byte) (int, error) { return b.reader.Read(p) }

func (b *body) WriteTo(w io.Writer) (int64, error) { return b.reader.WriteTo(w) }

func (b *body) Close() error {
	if b.done != nil {
		b.done()
		b.done = nil
	}
	return nil
}

// read takes in a body up to the route's limit, and then lifts the connection's read deadline: it
// guards against bodies that never come, and would end a long poll otherwise.
func (rt *route) read(c *call, r *http.Request, buf *bytes.Buffer) error {
	limit := rt.MaxBody
	if limit == 0 {
		limit = 64 // enough for the {} of a client that always sends one
	}
	if r.ContentLength > limit {
		return tooLarge(rt.MaxBody)
	}
	if r.Body != http.NoBody && r.ContentLength != 0 {
		if rt.MaxBody > 0 {
			if err := jsonType(r.Header); err != nil {
				return err
			}
		}
		if _, err := buf.ReadFrom(http.MaxBytesReader(c.ResponseWriter, r.Body, limit)); err != nil {
			return bodyError(err, rt.MaxBody)
		}
	}
	clearReadDeadline(c.ResponseWriter)
	return nil
}

func clearReadDeadline(w http.ResponseWriter) {
	if d, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(time.Time{}) // a writer without deadlines needs none lifted
	}
}

func bodyError(err error, limit int64) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &httpError{requestTimeout, "The body did not arrive in time."}
	default:
		return invalid([]shop.Field{{Detail: "ended before it was whole"}})
	}
}

func tooLarge(limit int64) error {
	if limit == 0 {
		return shop.E(shop.TooLarge, "httpx", "This operation takes no body.")
	}
	return shop.E(shop.TooLarge, "httpx", "The body is larger than "+byteSize(limit)+".")
}

// jsonType refuses a body that says it is something other than plain JSON in UTF-8. One that says
// nothing is taken at its word.
func jsonType(h http.Header) error {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return &httpError{unsupportedMedia, "Send the body without a Content-Encoding."}
	}
	text := h.Get("Content-Type")
	if text == "" || text == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(text)
	if charset := params["charset"]; err != nil || media != "application/json" || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return &httpError{unsupportedMedia, "Send the body as Content-Type: application/json."}
	}
	return nil
}

// byteSize writes a limit as people say it.
func byteSize(n int64) string {
	if n%1024 == 0 {
		return strconv.FormatInt(n/1024, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
