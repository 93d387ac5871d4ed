package simulation

import (
	"bytes"
	"regexp"
	"runtime"
)

// bubble finds the number of a goroutine's bubble in its trace.
var bubble = regexp.MustCompile(`^goroutine \d+ [^\n]*synctest bubble (\d+)`)

// traces returns what every goroutine does, or this one alone.
func traces(all bool) []byte {
	b := make([]byte, 1<<20)
	for {
		if n := runtime.Stack(b, all); n < len(b) {
			return b[:n]
		}
		b = make([]byte, 2*len(b))
	}
}

// bubbleNumber is that of the present bubble.
func bubbleNumber() string {
	m := bubble.FindSubmatch(traces(false))
	if m == nil {
		return ""
	}
	return string(m[1])
}

// leftIn returns what the goroutines of a bubble do.
func leftIn(number string) (left []string) {
	for g := range bytes.SplitSeq(traces(true), []byte("\n\n")) {
		if m := bubble.FindSubmatch(g); m != nil && string(m[1]) == number {
			left = append(left, string(g))
		}
	}
	return left
}
