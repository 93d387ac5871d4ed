package verify_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"holdfast/check/audit"
	"holdfast/test/postgres"
)

// dialect finds what only SQLite knows.
var dialect = regexp.MustCompile(`json_set|;|max\(|'evt_d'`)

// TestNamesWhatIsWrongOnPostgres does the same to copies of databases, with what both databases understand.
func TestNamesWhatIsWrongOnPostgres(t *testing.T) {
	t.Parallel()
	admin := postgres.DSN(t)
	base := regexp.MustCompile(`dbname=(\w+)`).FindStringSubmatch(admin)[1]
	named := func(name string) string {
		return strings.Replace(admin, "dbname="+base, "dbname="+name+"_{service}", 1)
	}
	stores := []string{"order", "inventory", "payment", "shipping"}
	for _, service := range stores {
		execute(t, "pgx", admin, fmt.Sprintf(`CREATE DATABASE %q`, base+"_"+service))
	}
	s := fill(t, named(base))
	ids := strings.NewReplacer("{done}", string(s.done), "{undone}", string(s.undone), "{held}", string(s.held))
	r, err := audit.Run(t.Context(), look(s.dir, named(base), true))
	if err != nil || r.Verdict != audit.Pass || r.Counts.Orders != 4 {
		t.Fatalf("%v %v", err, failures(r))
	}
	n := 0
	for i, c := range corruptions {
		if c.store == "" || dialect.MatchString(c.sql) {
			continue
		}
		n++
		t.Run(c.invariant+" "+c.name, func(t *testing.T) {
			name := fmt.Sprintf("%s_%d", base, i)
			for _, service := range stores {
				execute(t, "pgx", admin, fmt.Sprintf(`CREATE DATABASE %q TEMPLATE %q`, name+"_"+service, base+"_"+service))
			}
			execute(t, "pgx", strings.ReplaceAll(named(name), "{service}", c.store), ids.Replace(c.sql))
			c.judge(t, look(s.dir, named(name), true), ids)
		})
	}
	if n < 8 {
		t.Errorf("%d corruptions were tried, want more", n)
	}
}
