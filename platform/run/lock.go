package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockFile is the file in a data directory that its process holds locked. It stays: removing it would
// let two processes lock different files of one name.
const lockFile = "holdfast.lock"

// ErrLocked is returned by LockDir for a directory that another process uses.
var ErrLocked = errors.New("the data directory is in use")

// Lock is a lock on a data directory. It ends with Release or with the process, however that ends.
type Lock struct{ f *os.File }

// LockDir makes dir if it is missing, and locks it for this process.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w; choose another one with --data", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be written: %w; choose another one with --data, or mend its owner and mode", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := holderOf(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w by %s: %s; stop that process, or choose another directory with --data", ErrLocked, holder, dir)
		}
		return nil, fmt.Errorf("the data directory %s cannot be locked: %w; it must be on a file system with flock", dir, err)
	}
	if err := note(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("the data directory %s cannot be written: %w; is the disk full?", dir, err)
	}
	return &Lock{f}, nil
}

// note writes our process id for the message to others.
func note(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func holderOf(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return "process " + pid
	}
	return "another process"
}

// Release ends the lock.
func (l *Lock) Release() error { return l.f.Close() }
