package httpx

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/shop"
)

const (
	// KeyHeader carries the idempotency key of a POST.
	KeyHeader = "Idempotency-Key"
	// TimeoutHeader carries how long the caller will wait, in seconds, fractions allowed.
	TimeoutHeader = "Request-Timeout"
	// RequestIDHeader carries the id of a request both ways.
	RequestIDHeader = "X-Request-Id"

	// MaxWait is the longest Prefer: wait that is honoured; a longer one is cut to it.
	MaxWait = 30 * time.Second

	maxRequestID = 64
)

// requestID returns the caller's id for the request if it is fit for a log, and "" otherwise. An id
// of digits alone that could be a card number is not taken.
func requestID(r *http.Request) string {
	id := r.Header.Get(RequestIDHeader)
	if id == "" || len(id) > maxRequestID {
		return ""
	}
	letters := false
	for i := range len(id) {
		switch b := id[i]; {
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
			letters = true
		case '0' <= b && b <= '9' || b == '-' || b == '_' || b == '.':
		default:
			return ""
		}
	}
	if !letters && looksLikeCard(id) {
		return ""
	}
	return id
}

// timeout returns how long a request may take: what its caller asks for, and no more than most.
func timeout(r *http.Request, most time.Duration) (time.Duration, bool) {
	text := r.Header.Get(TimeoutHeader)
	if text == "" {
		return most, true
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds > 0) || len(text) > 32 {
		return most, false
	}
	if seconds >= most.Seconds() {
		return most, true
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// Wait reads Prefer (RFC 7240): how long the caller would have the answer held for an outcome, and
// what Preference-Applied is to say. Preferences that are not understood are ignored, as the RFC has it.
func Wait(prefer string) (d time.Duration, applied string) {
	for part := range strings.FieldsFuncSeq(prefer, func(r rune) bool { return r == ',' || r == ';' }) {
		name, value, ok := strings.Cut(part, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32)
		if err != nil || n == 0 {
			continue
		}
		d = min(time.Duration(n)*time.Second, MaxWait)
		return d, "wait=" + strconv.Itoa(int(d/time.Second))
	}
	return 0, ""
}

// Waits tells whether a request asks to be held.
func Waits(r *http.Request) bool {
	d, _ := Wait(r.Header.Get("Prefer"))
	return d > 0
}

// ETag is the entity tag of a version.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// Matches tells whether an If-None-Match names version. It compares weakly, as RFC 9110 has it.
func Matches(ifNoneMatch string, version int64) bool {
	if ifNoneMatch == "" {
		return false
	}
	own := ETag(version)
	for tag := range strings.SplitSeq(ifNoneMatch, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == own {
			return true
		}
	}
	return false
}

// IfMatch reads If-Match as the one version it names. No header is 0, and "*", which asks only that
// the thing exists, is any. What is no entity tag of ours is Invalid.
func IfMatch(header string) (version int64, anyVersion bool, err error) {
	switch header {
	case "":
		return 0, false, nil
	case "*":
		return 0, true, nil
	}
	if len(header) > 2 && header[0] == '"' && header[len(header)-1] == '"' {
		version, err = strconv.ParseInt(header[1:len(header)-1], 10, 64)
		if err == nil && version > 0 {
			return version, false, nil
		}
	}
	return 0, false, invalid([]shop.Field{{Pointer: "header/If-Match", Detail: `must be one entity tag as an ETag header gave it, such as "3", or *`}})
}

// Key returns who asks and under which key, for the operations that take one.
func Key(ctx context.Context, key string) shop.Request {
	return shop.Request{Caller: Caller(ctx), Key: key}
}

// NextLink is the Link header that names the page after cursor, with the parameters of this one. It
// is empty on the last page.
func NextLink(path string, params url.Values, cursor string) string {
	if cursor == "" {
		return ""
	}
	params.Set("cursor", cursor)
	return "<" + path + "?" + params.Encode() + `>; rel="next"`
}

// Replayed is the Idempotent-Replayed header of an answer.
func Replayed(on bool) string {
	if on {
		return "true"
	}
	return ""
}

// OrderID reads an order's id from a path. What has not the form of one names nothing.
func OrderID(text string) (shop.OrderID, error) {
	id := shop.OrderID(text)
	if !id.Valid() {
		return "", shop.E(shop.NotFound, "httpx", "There is no such order.")
	}
	return id, nil
}
