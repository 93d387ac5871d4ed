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
	"strings"
	"time"

	"holdfast/check/engine"
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

// Process is a `holdfast up` that runs as a child. After another start it is at the same addresses, but for its bus.
type Process struct {
	*engine.Process
	Addresses Addresses
	Key       string
	Took      time.Duration // from its first start until it was ready
}

// Start runs `binary up` on a data directory, with free ports, and waits until it is ready or ctx ends.
// What it logs goes to log.
func Start(ctx context.Context, binary, dir string, log io.Writer, args ...string) (*Process, error) {
	var free [4]string // of the API, the admin listener, and the simulators
	for i := range free {
		var err error
		if free[i], err = engine.Address(); err != nil {
			return nil, err
		}
	}
	p := &Process{}
	addresses := filepath.Join(dir, "addresses.json")
	args = append([]string{"up", "--quiet", "--data", dir, "--addr", free[0], "--admin-addr", free[1]}, args...)
	env := append(os.Environ(), "HOLDFAST_PSP_ADDR="+free[2], "HOLDFAST_CARRIER_ADDR="+free[3])
	p.Process = engine.New(engine.Spec{Name: "holdfast", Out: log,
		Command: func() *exec.Cmd {
			_ = os.Remove(addresses) // of the one before; what stays in spite of that has its other addresses
			cmd := exec.Command(binary, args...)
			cmd.Env = env
			return cmd
		},
		Ready: func(ctx context.Context) error { return p.ready(ctx, addresses, "http://"+free[1]) }})
	began := time.Now()
	if err := p.Process.Start(ctx); err != nil {
		return nil, fmt.Errorf("holdfast up: %w", err)
	}
	p.Took = time.Since(began)
	key, err := os.ReadFile(filepath.Join(dir, "dev-api-key"))
	p.Key = strings.TrimSpace(string(key))
	return p, err
}

// ready asks once whether the child is ready, and reads where it is.
func (p *Process) ready(ctx context.Context, file, admin string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &p.Addresses); err != nil {
		return err
	}
	if p.Addresses.Admin != admin {
		return errors.New("its addresses are those of one before")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/readyz answers %s", admin, resp.Status)
	}
	return nil
}

// Kill ends the child as a power cut ends a process: at once. It returns when the child is gone.
func (p *Process) Kill() { _ = p.Process.Kill() } // the kernel does it or the child has gone

// Stop asks the child to end in order and waits for it.
func (p *Process) Stop(limit time.Duration) error { return p.Process.StopWithin(limit) }
