package httpx

import (
	"bytes"
	"io"
	"sync"

	"github.com/go-json-experiment/json"
)

// maxPooled keeps one large body from holding its memory for good.
const maxPooled = 64 << 10

type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 2048)) }}}
}

func (b *buffers) get() *bytes.Buffer {
	buf := b.pool.Get().(*bytes.Buffer)
	buf.Reset()
	return buf
}

func (b *buffers) put(buf *bytes.Buffer) {
	if buf.Cap() <= maxPooled {
		b.pool.Put(buf)
	}
}

// encode writes v as JSON: no HTML escaping, empty lists as [], maps in one order so that a replayed
// answer is the same to the byte.
func encode(w io.Writer, v any) error {
	return json.MarshalWrite(w, v, json.Deterministic(true))
}

// decode reads JSON strictly: unknown, duplicate and wrong-case keys, trailing data and invalid
// UTF-8 are errors.
func decode(data []byte, v any) error {
	return json.Unmarshal(data, v, json.RejectUnknownMembers(true))
}
