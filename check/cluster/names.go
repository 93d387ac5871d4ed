package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"holdfast/check/engine"
	"holdfast/check/names"
)

// FaultClock is the program of processes whose clock can be set.
const FaultClock = "holdfastd-faultclock"

// startNames starts the server that Holdfast's own processes ask for names.
func (s *System) startNames() (err error) {
	if s.names, err = names.Listen(); err != nil {
		return fmt.Errorf("a server of names: %w", err)
	}
	return os.WriteFile(s.resolver(), []byte(s.names.Config()), 0o644) // for whoever reads /etc/resolv.conf
}

// resolver is the file that is /etc/resolv.conf to Holdfast's own processes.
func (s *System) resolver() string { return filepath.Join(s.dir, "resolv.conf") }

// resolving makes a command of which the process sees another /etc/resolv.conf than everybody else, in a mount
// namespace of its own. It stays the same process, so that what is done to it is done to the program.
func resolving(file string, command []string) []string {
	return append([]string{"unshare", "--mount", "/bin/sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}, command...)
}

// Nameable tells why processes cannot be given a resolver of their own here, which only root may, on Linux.
func Nameable() error {
	file, err := os.CreateTemp("", "holdfast-resolv-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // it is empty
	if err := file.Close(); err != nil {
		return err
	}
	try := resolving(file.Name(), []string{"/bin/true"})
	if out, err := exec.Command(try[0], try[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("a resolver of its own for each process: %w: %w: %s", engine.ErrMissing, err, strings.TrimSpace(string(out)))
	}
	server, err := names.Listen()
	if err != nil {
		return fmt.Errorf("a server of names: %w", err)
	}
	return server.Close()
}
