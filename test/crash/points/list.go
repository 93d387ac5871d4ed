package points

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kinds are how often each effect of a scenario happens: "commit:payment".
type Kinds map[string]int

// Boundary is a point of a scenario.
type Boundary struct {
	Scenario Scenario
	Point
}

func (b Boundary) String() string { return b.Scenario.Name + " " + b.Point.String() }

// Count adds up the effects of a run; of two runs with the same effect it keeps the larger number.
func (k Kinds) Count(effects []string) {
	for _, e := range effects {
		kind, number, _ := strings.Cut(e, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			panic(err) // our own writing
		}
		k[kind] = max(k[kind], n)
	}
}

const listHead = `# What each scenario does to the world: the effect, and how often it happens. Before, halfway through and after
# each of them is a boundary at which the process is killed. Written by
#	go test ./test/crash/points -run TestListed -update
`

// WriteList writes the list of effects, by scenario.
func WriteList(name string, counts map[string]Kinds) error {
	var b bytes.Buffer
	b.WriteString(listHead)
	for _, s := range Scenarios() {
		for _, kind := range slices.Sorted(maps.Keys(counts[s.Name])) {
			fmt.Fprintf(&b, "%s %s %d\n", s.Name, kind, counts[s.Name][kind])
		}
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// ReadList reads the list of effects, by scenario.
func ReadList(name string) (map[string]Kinds, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	counts := map[string]Kinds{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: %q is not a scenario, an effect and a number", name, line)
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		if counts[f[0]] == nil {
			counts[f[0]] = Kinds{}
		}
		counts[f[0]][f[1]] = n
	}
	return counts, nil
}

// Boundaries are those of a list, in the order of the scenarios.
func Boundaries(counts map[string]Kinds) (all []Boundary) {
	for _, s := range Scenarios() {
		for _, kind := range slices.Sorted(maps.Keys(counts[s.Name])) {
			for n := range counts[s.Name][kind] {
				for _, when := range Whens() {
					all = append(all, Boundary{s, Point{kind, n + 1, when}})
				}
			}
		}
	}
	return all
}

// Matching are the boundaries whose name has a match of a pattern.
func Matching(all []Boundary, pattern string) ([]Boundary, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(b Boundary) bool { return !re.MatchString(b.String()) }), nil
}

// Shares is the number of shares of a size that make all of them.
func Shares(all []Boundary, size int) int { return (len(all) + size - 1) / size }

// Share is one of the shares, which are mixed, each in the same way every time.
func Share(all []Boundary, size, number int) []Boundary {
	order := rand.New(rand.NewPCG(1, 1)).Perm(len(all))
	order = order[number*size : min((number+1)*size, len(all))]
	slices.Sort(order)
	share := make([]Boundary, len(order))
	for i, at := range order {
		share[i] = all[at]
	}
	return share
}
