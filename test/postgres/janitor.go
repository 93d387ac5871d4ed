package postgres

import (
	"os"
	"os/exec"
	"syscall"
)

// sweep waits for the end of its input, which is the end of the test process however it came, waits for
// the postmaster, which the kernel has told, to have gone, and removes the directory.
const sweep = `cat >/dev/null
n=0
while [ -e "$1/data/postmaster.pid" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
rm -rf "$1"`

// janitor starts the process that cleans up behind this one when life is closed. It is in a group of its
// own, so that what ends the tests does not end it, and nobody waits for it, since it comes last.
func janitor(dir string) (life *os.File, err error) {
	theirs, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/bin/sh", "-c", sweep, "sh", dir)
	cmd.Stdin = theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = life.Close()
		return nil, err
	}
	return life, nil
}
