package points

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// When says on which side of an effect the process ends.
type When string

// The three instants of an effect.
const (
	Before When = "before"
	Half   When = "half"
	After  When = "after"
)

// Whens are all of them.
func Whens() []When { return []When{Before, Half, After} }

// Point is an instant at which the process ends itself.
type Point struct {
	Effect string // "commit:payment"
	N      int    // which of its like, from 1
	When   When
}

func (p Point) String() string { return fmt.Sprintf("%s %d %s", p.Effect, p.N, p.When) }

// trap counts the effects of a process once it is armed, and ends it at one of them.
type trap struct {
	at  Point // the zero value is never met
	log *os.File

	mu     sync.Mutex
	armed  bool
	counts map[string]int
}

// arm has effects counted from now on, or no more.
func (t *trap) arm(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = on
}

// begin numbers an effect that is about to happen, and dies where that is what was asked for. The number is
// 0 where effects are not counted.
func (t *trap) begin(effect string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.armed {
		return 0
	}
	t.counts[effect]++
	n := t.counts[effect]
	if _, err := fmt.Fprintf(t.log, "%s %d\n", effect, n); err != nil {
		panic(err) // the record of what was done is the result of this run
	}
	if t.at == (Point{effect, n, Before}) {
		die()
	}
	return n
}

// meet dies where this is the instant.
func (t *trap) meet(effect string, n int, when When) {
	if t.is(effect, n, when) {
		die()
	}
}

func (t *trap) is(effect string, n int, when When) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.armed && t.at == Point{effect, n, when}
}

// die ends this process as a power cut ends it: nothing of it runs any more.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// write is an effect that is one write.
func (t *trap) write(effect string, p []byte, write func([]byte) (int, error)) (int, error) {
	n := t.begin(effect)
	if t.is(effect, n, Half) {
		_, _ = write(p[:len(p)/2])
		die()
	}
	k, err := write(p)
	t.meet(effect, n, After)
	return k, err
}
