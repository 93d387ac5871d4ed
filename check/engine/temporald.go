package engine

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
)

// NewTemporald describes a Temporal server. The arguments name its store: --data or --postgres.
func NewTemporald(program, addr, log string, args ...string) *Process {
	p := New(Spec{Name: "temporal", Log: log})
	p.Command = func() *exec.Cmd { return exec.Command(program, append([]string{"--addr", addr}, args...)...) }
	p.Ready = func(context.Context) error {
		if !bytes.Contains(p.said(), []byte("temporald ready addr=")) {
			return errors.New("it does not say that it is")
		}
		return nil
	}
	return p
}
