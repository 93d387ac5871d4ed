package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// SmallDisk is a System whose data is on a file system of its own, which an experiment may fill.
type SmallDisk struct {
	System
	Dir string
}

// smallSize has room for what some experiments store.
const smallSize = "size=256m"

// MountSmall makes a directory such a file system, in memory. Only root may. unmount takes it away again.
func MountSmall(dir string) (unmount func() error, err error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, smallSize); err != nil {
		return nil, fmt.Errorf("a small disk: %w", err)
	}
	return func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}

// disk fills the file system of the data until nothing goes in any more.
type disk struct {
	file string
	full int64
}

func (d *disk) Touches() string  { return "disk" }
func (d *disk) Describe() string { return "no room is left on the disk" }

func (d *disk) Inject(_ context.Context, f *Field) error {
	small, ok := f.System.(SmallDisk)
	if !ok {
		return errors.New("there is no disk here that may be filled")
	}
	d.file = filepath.Join(small.Dir, "ballast")
	file, err := os.OpenFile(d.file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(d.fill(file), file.Close())
}

// fill writes until nothing goes in any more.
func (d *disk) fill(file io.Writer) error {
	const most = 1 << 20
	for size := most; size > 0; {
		_, err := file.Write(make([]byte, size))
		switch {
		case err == nil:
		case errors.Is(err, syscall.ENOSPC):
			d.full++
			size /= 2
		default:
			return err
		}
	}
	return nil
}

func (d *disk) Heal(context.Context) error {
	if d.file == "" {
		return nil
	}
	if err := os.Remove(d.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Bites is how often the disk said that it is full.
func (d *disk) Bites() (int64, error) { return d.full, nil }
