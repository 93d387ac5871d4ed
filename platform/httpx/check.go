package httpx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/shop"
)

const (
	// maxDepth is how deep a body may nest.
	maxDepth = 32
	// maxFields is how many fields at fault one answer names; a body with more is cut there.
	maxFields = 50
)

// checker runs over a body once and notes every field that is not as its plan says.
type checker struct {
	dec    *jsontext.Decoder
	buf    bytes.Buffer
	fields []shop.Field
}

type checkers struct{ pool sync.Pool }

func newCheckers() *checkers {
	return &checkers{sync.Pool{New: func() any { return &checker{dec: jsontext.NewDecoder(bytes.NewReader(nil))} }}}
}

// check returns the fields of body that are at fault, none for a body that p accepts.
func (cs *checkers) check(p *plan, body []byte) []shop.Field {
	c := cs.pool.Get().(*checker)
	defer cs.pool.Put(c)
	c.buf = *bytes.NewBuffer(body)
	c.fields = nil
	// Duplicate names are let through to be noted here, beside the other faults.
	c.dec.Reset(&c.buf, jsontext.AllowDuplicateNames(true))
	if err := c.value(p, false); err != nil {
		c.broken(err)
	} else if _, err := c.dec.ReadToken(); err == nil || !errors.Is(err, io.EOF) {
		c.note("", "must be one JSON value: something follows it")
	}
	fields := c.fields
	c.fields, c.buf = nil, bytes.Buffer{}
	return fields
}

var (
	errTooDeep = errors.New("too deep")
	errEnough  = errors.New("enough fields at fault")
)

// broken notes why the reading ended early.
func (c *checker) broken(err error) {
	var syn *jsontext.SyntacticError
	switch {
	case errors.Is(err, errEnough):
	case errors.Is(err, errTooDeep):
		c.note(string(c.dec.StackPointer()), fmt.Sprintf("must not nest deeper than %d levels", maxDepth))
	case errors.Is(err, io.EOF):
		c.note("", "must be a JSON object: the body is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.note("", "must be complete JSON: the body ends in the middle of a value")
	case errors.As(err, &syn):
		// The decoder's own text may quote the body.
		detail := "must be JSON: it cannot be read from byte " + strconv.FormatInt(syn.ByteOffset, 10) + " on"
		if strings.Contains(syn.Err.Error(), "UTF-8") {
			detail = "must be UTF-8: it is not at byte " + strconv.FormatInt(syn.ByteOffset, 10)
		}
		c.note(string(syn.JSONPointer), detail)
	default:
		c.note("", "must be JSON")
	}
}

func (c *checker) note(pointer, detail string) {
	c.fields = append(c.fields, shop.Field{Pointer: maskName(pointer), Detail: detail})
}

// fault notes that the value just read is at fault.
func (c *checker) fault(detail string) error {
	if len(c.fields) >= maxFields {
		return errEnough
	}
	c.note(string(c.dec.StackPointer()), detail)
	return nil
}

// value checks the next value. An error means that reading cannot go on.
func (c *checker) value(p *plan, optional bool) error {
	kind := c.dec.PeekKind()
	switch {
	case p.typ == "":
		return c.skip()
	case kind == 0: // not JSON; reading says why
		_, err := c.dec.ReadToken()
		return err
	case kind == 'n':
		if err := c.skip(); err != nil {
			return err
		}
		if optional {
			return c.fault("must not be null: leave it out instead")
		}
		return c.fault("must not be null")
	}
	switch p.typ {
	case "object":
		if kind != '{' {
			return c.wrong("must be an object")
		}
		return c.object(p)
	case "array":
		if kind != '[' {
			return c.wrong("must be a list")
		}
		return c.list(p)
	case "string":
		if kind != '"' {
			return c.wrong("must be a string")
		}
		return c.text(p)
	case "integer":
		if kind != '0' {
			return c.wrong("must be a whole number")
		}
		return c.integer(p)
	default: // boolean, see newPlan
		if kind != 't' && kind != 'f' {
			return c.wrong("must be true or false")
		}
		return c.skip()
	}
}

// wrong passes over a value of the wrong type.
func (c *checker) wrong(detail string) error {
	if err := c.skip(); err != nil {
		return err
	}
	return c.fault(detail)
}

// skip passes over the next value, looking at its depth only.
func (c *checker) skip() error {
	base := c.dec.StackDepth()
	for {
		if _, err := c.dec.ReadToken(); err != nil {
			return err
		}
		depth := c.dec.StackDepth()
		if depth > maxDepth {
			return errTooDeep
		}
		if depth <= base {
			return nil
		}
	}
}

func (c *checker) object(p *plan) error {
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	var err error
	if p.values != nil {
		err = c.free(p)
	} else {
		err = c.known(p)
	}
	return err
}

// known checks the members of an object that has a fixed set of them.
func (c *checker) known(p *plan) error {
	var seen uint64
	for c.dec.PeekKind() != '}' {
		name, err := c.name()
		if err != nil {
			return err
		}
		q := p.props[string(name)]
		if q == nil {
			if err := c.unknown(p, string(name)); err != nil {
				return err
			}
			continue
		}
		if seen&(1<<q.index) != 0 {
			if err := c.fault("must not be given twice"); err != nil {
				return err
			}
		}
		seen |= 1 << q.index
		if err := c.value(q.plan, !q.required); err != nil {
			return err
		}
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	for _, q := range p.required {
		if seen&(1<<q.index) != 0 {
			continue
		}
		if len(c.fields) >= maxFields {
			return errEnough
		}
		c.note(string(c.dec.StackPointer().AppendToken(q.name)), "is required")
	}
	return nil
}

// name reads the name of a member. It is good until the next read.
func (c *checker) name() ([]byte, error) {
	raw, err := c.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	return unquote(raw)
}

func unquote(raw jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	return jsontext.AppendUnquote(nil, raw)
}

func (c *checker) unknown(p *plan, name string) error {
	detail := "is not a known field"
	for known := range p.props {
		if strings.EqualFold(known, name) {
			detail = fmt.Sprintf("is not a known field: %q is, and case matters", known)
		}
	}
	if err := c.fault(detail); err != nil {
		return err
	}
	return c.skip()
}

// free checks the members of an object that has any keys.
func (c *checker) free(p *plan) error {
	var seen []string
	for c.dec.PeekKind() != '}' {
		raw, err := c.name()
		if err != nil {
			return err
		}
		name := string(raw)
		for _, other := range seen {
			if other != name {
				continue
			}
			if err := c.fault("must not be given twice"); err != nil {
				return err
			}
		}
		// The keys beyond the limit need not be told apart any more.
		if p.maxKeys == 0 || len(seen) <= p.maxKeys {
			seen = append(seen, name)
		}
		if p.keys != nil && (!p.keys.accepts(raw) || bytes.IndexByte(raw, 0) >= 0) {
			if err := c.fault("is a key, which " + p.keys.note); err != nil {
				return err
			}
		}
		if err := c.value(p.values, false); err != nil {
			return err
		}
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	if p.maxKeys > 0 && len(seen) > p.maxKeys {
		return c.fault("must have at most " + strconv.Itoa(p.maxKeys) + " entries")
	}
	return nil
}

func (c *checker) list(p *plan) error {
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	var n int64
	for c.dec.PeekKind() != ']' {
		n++
		// What is beyond the limit is passed over, so that a huge list costs little.
		var err error
		if p.max != nil && n > *p.max {
			err = c.skip()
		} else {
			err = c.value(p.items, false)
		}
		if err != nil {
			return err
		}
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	if !p.within(n) {
		return c.fault(p.note)
	}
	return nil
}

func (c *checker) text(p *plan) error {
	raw, err := c.dec.ReadValue()
	if err != nil {
		return err
	}
	text, err := unquote(raw)
	if err != nil {
		return err
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return c.fault("must not contain the character U+0000") // PostgreSQL cannot store it
	}
	if !p.accepts(text) {
		return c.fault(p.note)
	}
	return nil
}

// accepts tells whether a string is as the plan says.
func (p *plan) accepts(text []byte) bool {
	if p.enum != nil {
		for _, v := range p.enum {
			if v == string(text) {
				return true
			}
		}
		return false
	}
	return p.within(int64(utf8.RuneCount(text))) && (p.pattern == nil || p.pattern.Match(text))
}

func (c *checker) integer(p *plan) error {
	raw, err := c.dec.ReadValue()
	if err != nil {
		return err
	}
	if bytes.ContainsAny(raw, ".eE") {
		return c.fault("must be a whole number, written without a fraction or an exponent")
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || !p.within(n) {
		if p.note == "" {
			return c.fault("must fit 64 bits")
		}
		return c.fault(p.note)
	}
	return nil
}

func (p *plan) within(n int64) bool {
	return (p.min == nil || n >= *p.min) && (p.max == nil || n <= *p.max)
}
