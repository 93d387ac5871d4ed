package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/shop"
)

// stateFile names the log in use. A damaged log is left behind by naming another one.
const stateFile = "broker.json"

// logPrefix begins the name of a log's folder.
const logPrefix = "log"

type state struct {
	Log   string `json:"log"`
	Clean bool   `json:"clean"` // written last at an orderly stop, and taken away before the next start
}

// takeState reads the state and marks the log as in use.
func (b *Broker) takeState() error {
	if err := b.deps.Files.MkdirAll(b.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("embedded bus: make the data directory: %w", err)
	}
	data, err := b.deps.Files.ReadFile(filepath.Join(b.cfg.Dir, stateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("embedded bus: read its state: %w", err)
	}
	if err == nil && (json.Unmarshal(data, &b.state) != nil || !strings.HasPrefix(b.state.Log, logPrefix)) {
		b.deps.Log.Warn("the embedded bus cannot read its state and starts an empty log", "file", stateFile)
		b.state = state{}
	}
	if b.state.Log == "" {
		return b.newLog()
	}
	b.clean, b.state.Clean = b.state.Clean, false
	return b.writeState()
}

// newLog changes to an empty log.
func (b *Broker) newLog() error {
	b.clean = false
	b.state = state{Log: b.deps.IDs.New(logPrefix)}
	return b.writeState()
}

func (b *Broker) writeState() error {
	data, err := json.Marshal(b.state)
	if err != nil {
		return err
	}
	if err := b.deps.Files.WriteFile(filepath.Join(b.cfg.Dir, stateFile), data, 0o600); err != nil {
		return fmt.Errorf("embedded bus: write its state: %w", err)
	}
	return nil
}

// removeOldLogs keeps the current log and the youngest of those left behind, for whoever wants to
// know what happened to it.
func (b *Broker) removeOldLogs() {
	entries, err := b.deps.Files.ReadDir(b.cfg.Dir)
	if err != nil {
		b.deps.Log.Warn("looking for old logs of the embedded bus failed", "err", err)
		return
	}
	var old []string // ids sort by time
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), logPrefix) && e.Name() != b.state.Log {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for i := 0; i < len(old)-1; i++ {
		if err := b.removeTree(filepath.Join(b.cfg.Dir, old[i])); err != nil {
			b.deps.Log.Warn("removing an old log of the embedded bus failed", "err", err)
		}
	}
}

func (b *Broker) removeTree(dir string) error {
	entries, err := b.deps.Files.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = b.removeTree(path)
		} else {
			err = b.deps.Files.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return b.deps.Files.Remove(dir)
}

// Sync makes everything that was taken in before it durable. The indexes and the committed offsets
// are left out: kfake does without the first, and older offsets only bring records again.
func (b *Broker) Sync() error {
	if b.cfg.Dir == "" {
		return nil
	}
	b.syncing.Lock()
	defer b.syncing.Unlock()
	parts, err := b.partitions()
	if err != nil {
		return fmt.Errorf("embedded bus: sync: %w", err)
	}
	known, fresh := make(map[string]int64, len(b.synced)), false
	for _, p := range parts {
		changed := false
		for _, s := range p.segments {
			path := filepath.Join(p.dir, s.name())
			size, seen := b.synced[path]
			if !seen || size != s.size {
				if err := b.syncPath(path); err != nil {
					return err
				}
			}
			known[path], changed = s.size, changed || !seen
		}
		if changed {
			fresh = true
			if err := b.syncPath(p.dir); err != nil {
				return err
			}
		}
	}
	if fresh { // partitions and topics may be new as well
		for _, dir := range []string{filepath.Join(b.logDir(), partitionsDir), b.logDir(), b.cfg.Dir} {
			if err := b.syncPath(dir); err != nil {
				return err
			}
		}
	}
	b.synced = known
	return nil
}

func (b *Broker) syncPath(path string) error {
	f, err := b.deps.Files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // trimmed meanwhile
	}
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return shop.Wrap(shop.Unavailable, "embedded bus", "a file cannot be made durable", err)
	}
	return nil
}

// partitionsDir is where kfake keeps a folder per partition, "orders-3", with a file per segment
// named for its first offset, "1200.dat".
const (
	partitionsDir = "partitions"
	segmentSuffix = ".dat"
)

type partitionFiles struct {
	topic    string
	id       int32
	dir      string
	segments []segment // by offset
}

type segment struct{ base, size int64 }

func (s segment) name() string { return strconv.FormatInt(s.base, 10) + segmentSuffix }

func (p partitionFiles) bytes() (n int64) {
	for _, s := range p.segments {
		n += s.size
	}
	return n
}

// partitions looks at what is on the disk.
func (b *Broker) partitions() ([]partitionFiles, error) {
	root := filepath.Join(b.logDir(), partitionsDir)
	entries, err := b.deps.Files.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	parts := make([]partitionFiles, 0, len(entries))
	for _, e := range entries {
		dash := strings.LastIndexByte(e.Name(), '-')
		id, err := strconv.ParseInt(e.Name()[dash+1:], 10, 32)
		if dash < 1 || err != nil {
			continue
		}
		p := partitionFiles{topic: e.Name()[:dash], id: int32(id), dir: filepath.Join(root, e.Name())}
		if p.segments, err = b.segments(p.dir); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (b *Broker) segments(dir string) ([]segment, error) {
	entries, err := b.deps.Files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		base, err := strconv.ParseInt(name, 10, 64)
		if !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // trimmed meanwhile
		}
		if err != nil {
			return nil, err
		}
		found = append(found, segment{base, info.Size()})
	}
	slices.SortFunc(found, func(a, b segment) int { return int(a.base - b.base) })
	return found, nil
}
