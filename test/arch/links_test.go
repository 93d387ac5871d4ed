package arch

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// engines are what runs inside a process where nothing else is at hand.
var engines = regexp.MustCompile(`^(holdfast/(embedded|sim|app/local|cli|check|test)(/.*)?|modernc\.org/.*|.*/kfake|.*/porcupine)$`)

// TestDaemonLinksNoEngine: holdfastd has none of them, and holdfast, by which this test can be seen to find
// some, has all.
func TestDaemonLinksNoEngine(t *testing.T) {
	t.Parallel()
	found := map[string][]string{}
	for _, program := range []string{"holdfastd", "holdfast"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "holdfast/cmd/"+program).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dep := range strings.Lines(string(out)) {
			if dep = strings.TrimSpace(dep); engines.MatchString(dep) && dep != "holdfast/check/audit" { // it reads PostgreSQL by itself
				found[program] = append(found[program], dep)
			}
		}
	}
	if len(found["holdfastd"]) > 0 {
		t.Errorf("holdfastd links %v", found["holdfastd"])
	}
	for _, engine := range []string{"holdfast/embedded/bus", "holdfast/embedded/sqlite", "holdfast/sim/psp", "modernc.org/sqlite", "github.com/anishathalye/porcupine"} {
		if !strings.Contains(strings.Join(found["holdfast"], " "), engine) {
			t.Errorf("holdfast was not seen to link %s: the test does not see what it looks for", engine)
		}
	}
}
