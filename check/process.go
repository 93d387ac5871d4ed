package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Addresses are where a running Holdfast listens, as it writes them to addresses.json.
type Addresses struct {
	API     string `json:"api"`
	Admin   string `json:"admin"`
	PSP     string `json:"psp"`
	Carrier string `json:"carrier"`
	Kafka   string `json:"kafka"`

	Temporal   string `json:"temporal,omitempty"`
	TemporalUI string `json:"temporal_ui,omitempty"`
}

// Process is a `holdfast up` that runs as a child.
type Process struct {
	Addresses Addresses
	Key       string
	Took      time.Duration // from its start until it was ready

	cmd  *exec.Cmd
	done chan error
}

// readyEvery is how often a starting child is asked whether it is ready.
const readyEvery = 5 * time.Millisecond

// Start runs `binary up` on a data directory, with free ports, and waits until it is ready or ctx ends.
// What it logs goes to log.
func Start(ctx context.Context, binary, dir string, log io.Writer, args ...string) (*Process, error) {
	addresses := filepath.Join(dir, "addresses.json")
	if err := os.Remove(addresses); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	args = append([]string{"up", "--quiet", "--data", dir, "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, args...)
	p := &Process{cmd: exec.Command(binary, args...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	for {
		if p.ready(ctx, addresses) {
			p.Took = time.Since(began)
			key, err := os.ReadFile(filepath.Join(dir, "dev-api-key"))
			p.Key = strings.TrimSpace(string(key))
			return p, err
		}
		select {
		case err := <-p.done:
			p.done <- err
			return nil, fmt.Errorf("holdfast up ended before it was ready: %w", err)
		case <-ctx.Done():
			p.Kill()
			return nil, fmt.Errorf("holdfast up was not ready in time: %w", ctx.Err())
		case <-time.After(readyEvery):
		}
	}
}

func (p *Process) ready(ctx context.Context, file string) bool {
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &p.Addresses) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Addresses.Admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// Kill ends the child as a power cut ends a process: at once. It returns when the child is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	err := <-p.done
	p.done <- err
}

// Stop asks the child to end in order and waits for it.
func (p *Process) Stop(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("holdfast up did not stop within %s", limit)
	}
}

// Usage is what a process has used so far.
type Usage struct {
	CPU  time.Duration // user and system
	Peak int64         // the largest resident memory, in bytes
}

// Usage reads the child's figures from /proc.
func (p *Process) Usage() (u Usage, err error) {
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, err
	}
	// proc(5): fields 14 and 15 are ticks of 10 ms; field 2 ends with the last parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return u, errors.New("/proc/pid/stat is not as proc(5) says")
	}
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return u, err
			}
			u.Peak = kib << 10
		}
	}
	return u, nil
}
