package httpx

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// plan is a schema of the OpenAPI document made ready for checking bodies against it. Huma's own
// validation is not used for bodies: it forgives wrong-case keys and fractions written as 1.0, names
// the parent of a missing field, keeps the rejected value, and has paths that are no pointers.
type plan struct {
	typ      string
	props    map[string]*prop // objects with known members
	required []*prop          // in the order of names
	keys     *plan            // objects with free keys: what a key must be; nil for anything
	values   *plan            // objects with free keys: what a value must be
	maxKeys  int
	items    *plan
	min, max *int64 // of a number, or of a length
	pattern  *regexp.Regexp
	enum     []string
	note     string // what the pattern or the bounds ask for, in words
}

// prop is a known member of an object.
type prop struct {
	name     string
	index    int // below maxProps
	required bool
	plan     *plan
}

// maxProps is how many known members an object may have: what was seen of them is a set of bits.
const maxProps = 64

// keyNames is the extension under which a schema of an object with free keys says what a key must
// be. Huma does not know the keyword of JSON Schema of that name.
const keyNames = "propertyNames"

// newPlan makes a plan of a schema. A schema that says something the checker does not look at is an
// error, so that the document never promises a check that does not happen.
func newPlan(reg huma.Registry, s *huma.Schema) (*plan, error) {
	for s.Ref != "" {
		s = reg.SchemaFromRef(s.Ref)
	}
	if s.OneOf != nil || s.AnyOf != nil || s.AllOf != nil || s.Not != nil || s.UniqueItems || s.MultipleOf != nil ||
		s.ExclusiveMinimum != nil || s.ExclusiveMaximum != nil || len(s.DependentRequired) > 0 || s.ContentEncoding != "" {
		return nil, fmt.Errorf("a body's schema uses a keyword that is not checked")
	}
	p := &plan{typ: s.Type}
	switch s.Type {
	case huma.TypeObject:
		return p, p.object(reg, s)
	case huma.TypeArray:
		items, err := newPlan(reg, s.Items)
		p.items = items
		p.min, p.max = wide(s.MinItems), wide(s.MaxItems)
		p.note = bounds("must have", p.min, p.max, "entries")
		return p, err
	case huma.TypeString:
		return p, p.text(s)
	case huma.TypeInteger:
		p.min, p.max = whole(s.Minimum), whole(s.Maximum)
		p.note = bounds("must be", p.min, p.max, "")
		return p, nil
	case huma.TypeBoolean, "":
		return p, nil
	default:
		return nil, fmt.Errorf("a body's schema has type %s, which is not checked", s.Type)
	}
}

func (p *plan) object(reg huma.Registry, s *huma.Schema) error {
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		var err error
		if p.values, err = newPlan(reg, values); err != nil {
			return err
		}
		if names, ok := s.Extensions[keyNames].(*huma.Schema); ok {
			if p.keys, err = newPlan(reg, names); err != nil {
				return err
			}
		}
		if s.MaxProperties != nil {
			p.maxKeys = *s.MaxProperties
		}
		return nil
	}
	if len(s.Properties) > maxProps {
		return fmt.Errorf("an object of a body has more than %d members", maxProps)
	}
	p.props = make(map[string]*prop, len(s.Properties))
	for i, name := range slices.Sorted(maps.Keys(s.Properties)) {
		sub, err := newPlan(reg, s.Properties[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		q := &prop{name: name, index: i, required: slices.Contains(s.Required, name), plan: sub}
		p.props[name] = q
		if q.required {
			p.required = append(p.required, q)
		}
	}
	return nil
}

func (p *plan) text(s *huma.Schema) error {
	if s.Format != "" {
		return fmt.Errorf("a body's schema has format %s, which is not checked", s.Format)
	}
	for _, v := range s.Enum {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("a body's schema lists values that are not strings")
		}
		p.enum = append(p.enum, text)
	}
	p.min, p.max = wide(s.MinLength), wide(s.MaxLength)
	p.note = bounds("must have", p.min, p.max, "characters")
	switch {
	case p.enum != nil:
		p.note = "must be one of " + strings.Join(p.enum, ", ")
	case s.PatternDescription != "":
		p.note = "must be " + s.PatternDescription
	case s.Pattern != "":
		p.note = "must match " + s.Pattern
	}
	if s.Pattern == "" {
		return nil
	}
	var err error
	p.pattern, err = regexp.Compile(s.Pattern)
	return err
}

func wide(n *int) *int64 {
	if n == nil {
		return nil
	}
	w := int64(*n)
	return &w
}

func whole(f *float64) *int64 {
	if f == nil {
		return nil
	}
	w := int64(*f)
	return &w
}

// bounds puts limits into words: "must have 1 to 64 characters".
func bounds(verb string, low, high *int64, unit string) string {
	var text string
	switch {
	case low != nil && high != nil:
		text = fmt.Sprintf("%s %d to %d %s", verb, *low, *high, unit)
	case low != nil:
		text = fmt.Sprintf("%s at least %d %s", verb, *low, unit)
	case high != nil:
		text = fmt.Sprintf("%s at most %d %s", verb, *high, unit)
	}
	return strings.TrimSpace(text)
}
