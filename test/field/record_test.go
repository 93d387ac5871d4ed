package field_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTrackRecord: every test that docs/track-record.md names exists.
func TestTrackRecord(t *testing.T) {
	t.Parallel()
	record, err := os.ReadFile("../../docs/track-record.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		b, err := os.ReadFile("../../" + name)
		tests.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(record), -1)
	if len(names) < 10 {
		t.Fatalf("only %d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(tests.String(), "\nfunc "+name+"(t ") {
			t.Errorf("docs/track-record.md names %s, which does not exist", name)
		}
	}
}
