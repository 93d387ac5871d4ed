package chaos

import (
	"context"
	"fmt"
	"strings"
)

// link is a fault of the ways between two parts, one for each direction.
type link struct {
	name      string // "payment>psp"; "*>kafka" is every way to it
	what      string // goes wrong, in words
	out, back LinkFault
	cut       bool // connections that are open, too

	hit    []Link
	before int64
}

func (l *link) Touches() string  { return l.name }
func (l *link) Describe() string { return l.name + ": " + l.what }

func (l *link) matches(name string) bool {
	to, all := strings.CutPrefix(l.name, "*")
	return name == l.name || all && strings.HasSuffix(name, to)
}

func (l *link) Inject(_ context.Context, f *Field) error {
	for _, way := range f.System.Links() {
		if l.matches(way.Name()) {
			l.hit = append(l.hit, way)
		}
	}
	if len(l.hit) == 0 {
		return fmt.Errorf("there is no link %s here", l.name)
	}
	l.before = l.sum()
	for _, way := range l.hit {
		way.Set(l.out, l.back)
		if l.cut {
			way.Cut()
		}
	}
	return nil
}

func (l *link) Heal(context.Context) error {
	for _, way := range l.hit {
		way.Set(LinkFault{}, LinkFault{})
	}
	return nil
}

func (l *link) sum() (n int64) {
	for _, way := range l.hit {
		n += way.Bites()
	}
	return n
}

func (l *link) Bites() (int64, error) { return l.sum() - l.before, nil }
