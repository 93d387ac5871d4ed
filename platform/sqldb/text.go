package sqldb

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Micros is how a time is stored: microseconds since 1970 in UTC, and 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the reverse of Micros.
func FromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// In returns "(?,?,?)" with n placeholders. An empty list is "(NULL)", which contains nothing.
func In(n int) string {
	if n <= 0 {
		return "(NULL)"
	}
	return "(" + strings.Repeat("?,", n-1) + "?)"
}

// Rows returns n rows of cols placeholders for VALUES: "(?,?),(?,?)". SQLite takes 32,766 arguments in a
// statement, PostgreSQL 65,535.
func Rows(n, cols int) string {
	if n <= 0 {
		return ""
	}
	row := In(cols)
	return strings.Repeat(row+",", n-1) + row
}

// rebind turns each ? outside of string literals, quoted names and comments into $1, $2, ...
func rebind(query string) string {
	var b strings.Builder
	b.Grow(len(query) + 2*strings.Count(query, "?"))
	n := 0
	eachPart(query, func(part string, code bool) {
		for code {
			before, after, found := strings.Cut(part, "?")
			b.WriteString(before)
			if !found {
				return
			}
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			part = after
		}
		b.WriteString(part)
	})
	return b.String()
}

// placeholders counts what rebind would number.
func placeholders(query string) (n int) {
	eachPart(query, func(part string, code bool) {
		if code {
			n += strings.Count(part, "?")
		}
	})
	return n
}

var locking = regexp.MustCompile(`(?i)\bFOR\s+UPDATE\b(\s+SKIP\s+LOCKED\b)?`)

// unlocked removes FOR UPDATE and FOR UPDATE SKIP LOCKED: SQLite's one writer needs neither.
func unlocked(query string) string {
	var b strings.Builder
	eachPart(query, func(part string, code bool) {
		if code {
			part = locking.ReplaceAllLiteralString(part, "")
		}
		b.WriteString(part)
	})
	return b.String()
}

// eachPart cuts query into stretches of code and what is none: string literals, quoted names, comments.
func eachPart(query string, do func(part string, code bool)) {
	from := 0
	for i := 0; i < len(query); {
		end := skip(query, i)
		if end == i {
			i++
			continue
		}
		if i > from {
			do(query[from:i], true)
		}
		do(query[i:end], false)
		i, from = end, end
	}
	if from < len(query) {
		do(query[from:], true)
	}
}

// skip returns the end of the literal, quoted name or comment that begins at i, or i where none does.
// A doubled quote inside a literal ends one and begins the next, which comes to the same.
func skip(query string, i int) int {
	rest := query[i:]
	var end int
	switch {
	case rest[0] == '\'' || rest[0] == '"':
		end = strings.IndexByte(rest[1:], rest[0])
		if end >= 0 {
			end += 2
		}
	case strings.HasPrefix(rest, "--"):
		end = strings.IndexByte(rest, '\n')
	case strings.HasPrefix(rest, "/*"):
		end = strings.Index(rest, "*/")
		if end >= 0 {
			end += 2
		}
	default:
		return i
	}
	if end < 0 {
		return len(query)
	}
	return i + end
}

// maxRebound bounds the cache of rebound statements; lists of every length make many texts.
const maxRebound = 1024

// rebinder remembers what it has rebound.
type rebinder struct {
	mu    sync.RWMutex
	known map[string]string
}

func (r *rebinder) text(query string) string {
	r.mu.RLock()
	q, ok := r.known[query]
	r.mu.RUnlock()
	if ok {
		return q
	}
	q = rebind(query)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxRebound {
		r.known = make(map[string]string)
	}
	r.known[query] = q
	return q
}
