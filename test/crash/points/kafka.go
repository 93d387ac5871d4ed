package points

import (
	"bytes"
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A request on the wire: its size, its kind, its version, its number, and the client's name.
const (
	sizeBytes    = 4
	requestBytes = sizeBytes + 2 + 2 + 4 + 2
	answerBytes  = sizeBytes + 4
)

// busEffect names a request that has the bus write something: events, or how far a group has read.
func busEffect(p []byte) (effect string, correlation int32, ok bool) {
	if len(p) < requestBytes {
		return "", 0, false
	}
	key, version := int16(binary.BigEndian.Uint16(p[4:])), int16(binary.BigEndian.Uint16(p[6:]))
	correlation = int32(binary.BigEndian.Uint32(p[8:]))
	body := p[requestBytes+max(0, int(int16(binary.BigEndian.Uint16(p[12:])))):]
	req := kmsg.RequestForKey(key)
	switch req.(type) {
	case *kmsg.ProduceRequest, *kmsg.OffsetCommitRequest:
	default:
		return "", 0, false
	}
	req.SetVersion(version)
	if req.IsFlexible() {
		body = body[1:] // no tags
	}
	if err := req.ReadFrom(body); err != nil {
		panic(err) // our own client's
	}
	if r, ok := req.(*kmsg.OffsetCommitRequest); ok {
		return "offsets:" + r.Group, correlation, true
	}
	return "produce:" + eventType(p), correlation, true
}

// typeHeader is the header of a record with the type of its event.
const typeHeader = "ce_type"

// eventType is that of the first event in a request, which is not compressed.
func eventType(p []byte) string {
	at := bytes.Index(p, []byte(typeHeader))
	if at < 0 {
		return "?"
	}
	p = p[at+len(typeHeader):]
	n, read := binary.Varint(p)
	if read <= 0 || n < 0 || int(n) > len(p)-read {
		return "?"
	}
	return string(p[read : read+int(n)])
}

// correlationOf is the number of the request that an answer is to.
func correlationOf(p []byte) int32 {
	if len(p) < answerBytes {
		return -1
	}
	return int32(binary.BigEndian.Uint32(p[sizeBytes:]))
}
