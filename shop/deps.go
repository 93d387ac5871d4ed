package shop

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"time"
)

// Deps are the ways in which a component touches the world. They come in through constructors, and a
// test bans the direct calls elsewhere, so that simulations and crash tests can put their own in.
// Every field must be set; platform/run.Real returns the real ones.
type Deps struct {
	Clock Clock
	Rand  Rand
	IDs   IDs
	Net   Net
	Files Files
	Log   *slog.Logger
}

// Clock tells the time and waits.
type Clock interface {
	// Now returns the current instant, with a monotonic reading where the clock has one.
	Now() time.Time
	// Sleep returns after d or when ctx ends, then with ctx's error.
	Sleep(ctx context.Context, d time.Duration) error
	// Timer sends one value after d. Stop releases it; the channel is never closed.
	Timer(d time.Duration) (c <-chan time.Time, stop func())
}

// Rand is a source of randomness that is safe for concurrent use. It serves jitter and sampling,
// never secrets.
type Rand interface {
	Uint64() uint64
	// Float64 is in [0,1).
	Float64() float64
}

// IDs makes identifiers and secrets.
type IDs interface {
	// New returns prefix, an underscore and 26 characters [0-9a-v] that sort by time of creation.
	New(prefix string) string
	// Secret fills p with unpredictable bytes.
	Secret(p []byte)
}

// Net dials and listens. Addresses are those of package net.
type Net interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}

// File is an open file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
}

// Files is the file system. Paths and errors are those of package os.
type Files interface {
	Open(name string) (File, error)
	// Append opens name for reading and appending, and makes it with mode if it is missing.
	Append(name string, mode fs.FileMode) (File, error)
	ReadFile(name string) ([]byte, error)
	// WriteFile replaces name as a whole: a crash leaves the old content or the new.
	WriteFile(name string, data []byte, mode fs.FileMode) error
	MkdirAll(name string, mode fs.FileMode) error
	Remove(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
}
