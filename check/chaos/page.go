package chaos

import (
	"bytes"
	_ "embed" // for the template
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// page is the report as one page of HTML that needs nothing else.
func (r *Report) page() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"seconds": seconds, "percent": percent, "mark": mark, "class": class, "chart": newChart, "when": func(t time.Time) string { return t.Format("2 January 2006, 15:04 UTC") },
		"share":  func(n int, share, promised float64) shareView { return shareView{n, share, promised} },
		"missed": func(n int, share, promised float64) bool { return below(n, share, promised) },
		"late":   func(r *Recovery) bool { return r.Never || r.Took() > r.Target },
		"bar":    gauge,
		"ms":     func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Millisecond)) },
		"counts": inCounts,
		"bites": func(e *Result) (n int64) {
			for _, f := range e.Faults {
				n += f.Bites
			}
			return n
		},
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, struct {
		*Report
		Total   Totals
		Overall Verdict
	}{r, r.Totals(), r.Verdict()})
	return out.Bytes(), err
}

// shareView is a share of requests for the page.
type shareView struct {
	N               int
	Share, Promised float64
}

// gauge is how much of its target a recovery took, in per cent.
func gauge(r *Recovery) string {
	if r.Never {
		return "100"
	}
	return fmt.Sprintf("%.1f", min(100, 100*r.Took().Seconds()/r.Target.Seconds()))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func percent(share float64) string {
	text := fmt.Sprintf("%.1f", 100*share)
	if share < 1 && text == "100.0" {
		text = "99.9" // all but some is not all
	}
	return strings.TrimSuffix(text, ".0") + " %"
}

// mark says a verdict without colour.
func mark(v Verdict) string {
	switch v {
	case Holds:
		return "✔"
	case Missed:
		return "▲"
	case Violated:
		return "✖"
	default:
		return "?"
	}
}

// class is a verdict as the style sheet has it.
func class(v Verdict) string {
	switch v {
	case Holds:
		return "holds"
	case Missed:
		return "missed"
	case Violated:
		return "violated"
	default:
		return "open"
	}
}

// inCounts is a count of each, the most first.
func inCounts(m map[string]int) string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", m[name], strings.ReplaceAll(name, "_", " "))
	}
	return strings.Join(names, ", ")
}
