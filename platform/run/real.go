// Package run is where the program meets the machine: the real clock, randomness, ids, network and
// files, the group of components that start and stop together, and the lock on a data directory.
package run

import (
	"context"
	crand "crypto/rand"
	"encoding/base32"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"holdfast/shop"
)

// Real returns the dependencies of a program that runs for real.
func Real(log *slog.Logger) shop.Deps {
	return shop.Deps{Clock: clock{}, Rand: random{}, IDs: ids{}, Net: network{}, Files: files{}, Log: log}
}

type clock struct{}

func (clock) Now() time.Time { return time.Now() }

func (clock) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (clock) Timer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

type random struct{}

func (random) Uint64() uint64   { return rand.Uint64() }
func (random) Float64() float64 { return rand.Float64() }

type ids struct{}

// New uses UUIDs of version 7: 48 bits of milliseconds, then a counter, then randomness.
func (ids) New(prefix string) string {
	id := uuid.Must(uuid.NewV7())
	return prefix + "_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
}

func (ids) Secret(p []byte) { _, _ = crand.Read(p) } // it never fails: crypto/rand ends the program instead

type network struct{}

func (network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (network) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, network, address)
}

type files struct{}

func (files) Open(name string) (shop.File, error) { return file(os.Open(name)) }

func (files) Append(name string, mode fs.FileMode) (shop.File, error) {
	return file(os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, mode))
}

func (files) ReadFile(name string) ([]byte, error)         { return os.ReadFile(name) }
func (files) MkdirAll(name string, mode fs.FileMode) error { return os.MkdirAll(name, mode) }
func (files) Remove(name string) error                     { return os.Remove(name) }
func (files) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }

// WriteFile writes beside name and renames, with the file and its directory synced.
func (files) WriteFile(name string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// file keeps a nil *os.File from becoming a File that is not nil.
func file(f *os.File, err error) (shop.File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}
