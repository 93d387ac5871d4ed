package field_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const recipe = "../../docs/failure-injection.sh"

// TestRecipe runs the script of docs/failure-injection.md as its readers do; it must also be able to fail.
func TestRecipe(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "holdfast"), "holdfast/cmd/holdfast").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	script, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script []byte) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, "sh")
		c.Stdin, c.Env = bytes.NewReader(script), append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
		c.Cancel, c.WaitDelay = func() error { return c.Process.Signal(os.Interrupt) }, 20*time.Second
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := run(script); err != nil || !strings.Contains(out, "holds: the fallback answered") {
		t.Errorf("%v\n%s", err, out)
	}
	harmless := bytes.Replace(script, []byte(`"operation":"rates","status":503`), []byte(`"operation":"cancel","status":503`), 1)
	harmless = bytes.Replace(harmless, []byte("-lt 300"), []byte("-lt 50"), 1)
	if out, err := run(harmless); err == nil || !strings.Contains(out, "FAILED: never: the breaker opens") {
		t.Errorf("a fault that hits nothing: %v\n%s", err, out)
	}
}

// TestRecipeInTheDocument: the page shows the script as it is.
func TestRecipeInTheDocument(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/failure-injection.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```sh\n"+string(script)+"```\n") {
		t.Error("docs/failure-injection.md does not show docs/failure-injection.sh as it is")
	}
}
