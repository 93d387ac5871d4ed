package simulation

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"holdfast/shop"
	"holdfast/test/fakes"
)

// machine returns the dependencies of a process: its clock, the network of the world, and
// randomness from the seed and the process's name.
func (w *World) machine(h *host, incarnation int) shop.Deps {
	seed := rand.New(rand.NewPCG(w.plan.Seed, nameSeed(h.name)+uint64(incarnation)))
	clock := &clock{wrong: &w.rightly, host: h}
	if h.name == "holdfast" {
		clock.wrong = &w.wrong
	}
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelInfo})).With("process", h.name, "incarnation", incarnation)
	return shop.Deps{Clock: clock, Rand: fakes.SeededRand(seed.Uint64()), IDs: &ids{clock: clock, rand: rand.New(rand.NewPCG(seed.Uint64(), 1))}, Net: h, Files: fakes.Files{}, Log: log}
}

func nameSeed(name string) (n uint64) {
	for _, b := range []byte(name) {
		n = n*131 + uint64(b)
	}
	return n << 16
}

// ids makes ids of the form of UUIDs of version 7, from the process's time and the seed.
type ids struct {
	clock *clock

	mu   sync.Mutex
	rand *rand.Rand
	last uint64
}

// New implements shop.IDs.
func (g *ids) New(prefix string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = max(g.last+1, uint64(g.clock.Now().UnixMilli())<<12)
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], g.last>>12<<16|7<<12|g.last&0xfff)
	binary.BigEndian.PutUint64(id[8:], g.rand.Uint64()&(1<<62-1)|1<<63)
	return prefix + "_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
}

// Secret implements shop.IDs.
func (g *ids) Secret(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range p {
		p[i] = byte(g.rand.Uint32())
	}
}

// logBuffer keeps what all processes log, for a run that fails.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// copyTree copies a data directory as a dead process would have left it. SQLite's shared memory is made
// anew at the next start, and skip names a folder to leave out.
func copyTree(from, to, skip string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && skip != "" && rest == skip:
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rest), 0o700)
		case strings.HasSuffix(rest, "-shm"):
			return nil
		}
		return copyFile(path, filepath.Join(to, rest))
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	_, err = io.Copy(out, in)
	return err
}
