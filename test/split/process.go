package split

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"holdfast/check/cluster"
	"holdfast/test/engines"
)

// built builds both programs as their users run them, once for all tests of a process.
var built = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), "holdfast-split-"+strconv.Itoa(os.Getpid()))
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "holdfast/cmd/holdfastd", "holdfast/cmd/holdfast").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := engines.LinkTemporald(dir); err != nil {
		return "", err
	}
	return dir, nil
})

// Programs returns the directory of what was built. Where there is a temporald, it is there as well.
func Programs(t testing.TB) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Clean removes what was built; a TestMain calls it in the end.
func Clean() {
	_ = os.RemoveAll(filepath.Join(os.TempDir(), "holdfast-split-"+strconv.Itoa(os.Getpid())))
}

// Process is one of a System's.
type Process struct {
	p *cluster.Part
	t testing.TB
}

// Kill ends the process at once.
func (p *Process) Kill() {
	p.t.Helper()
	if err := p.p.Kill(); err != nil {
		p.t.Error(err)
	}
}

// Pause has the process stand still, until Resume.
func (p *Process) Pause() {
	p.t.Helper()
	if err := p.p.Pause(); err != nil {
		p.t.Error(err)
	}
}

// Resume lets it go on.
func (p *Process) Resume() {
	p.t.Helper()
	if err := p.p.Resume(); err != nil {
		p.t.Error(err)
	}
}

// Restart stops the process in order and starts it again.
func (p *Process) Restart() {
	p.t.Helper()
	if err := p.p.Stop(); err != nil {
		p.t.Error(err)
	}
	if err := p.p.Start(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}
