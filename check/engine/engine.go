// Package engine runs programs as children: the engines of a Holdfast in production, which are PostgreSQL, Apache
// Kafka, and Temporal by way of temporald, and any other. Each can be stopped, killed, paused and started again
// on the same files and ports, and dies with this process.
package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// ErrMissing is what an engine that is not on this machine is wrapped in.
var ErrMissing = errors.New("not installed")

// given are the ports that this process has given away.
var given sync.Map

// The ports that are given away are below those that the kernel gives to outgoing connections, and below those of
// temporald. Processes that start at the same time have blocks of their own, but for one in forty, since neither
// listens yet on what it was given.
const (
	firstPort = 12_000
	blocks    = 40
	block     = 350
)

// Address returns one of the loopback that nobody listens on, and that is still free at the next start.
func Address() (string, error) {
	for try := range 2 * block {
		n := firstPort + os.Getpid()%blocks*block + rand.IntN(block)
		if try >= block { // its own are all but taken
			n = firstPort + rand.IntN(blocks*block)
		}
		if _, taken := given.LoadOrStore(n, true); taken {
			continue
		}
		addr := "127.0.0.1:" + strconv.Itoa(n)
		if l, err := net.Listen("tcp", addr); err == nil && l.Close() == nil {
			return addr, nil
		}
	}
	return "", fmt.Errorf("no port of the loopback is free")
}

// sweep waits for the end of its input, which is the end of this process however it came, and removes the
// directory, in which somebody may still write for a moment. PostgreSQL, which the kernel has told, ends in order.
const sweep = `cat >/dev/null
n=0
while [ -n "$(find "$1" -maxdepth 3 -name postmaster.pid 2>/dev/null)" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
while ! rm -rf "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
sleep 1
rm -rf "$1"`

// Sweep has a directory removed when life is closed, or this process has ended. Who does it is in a group of its
// own, so that what ends this process does not end it, and nobody waits for it, since it comes last.
func Sweep(dir string) (life *os.File, err error) {
	theirs, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }() // who sweeps has its own
	cmd := exec.Command("/bin/sh", "-c", sweep, "sh", dir)
	cmd.Stdin = theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = life.Close()
		return nil, err
	}
	return life, nil
}
