package points

import (
	"path/filepath"
	"strings"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// logSuffix ends the name of a write-ahead log.
const logSuffix = "-wal"

// vfs stands between SQLite and its files, and sees the commits: what is written to a write-ahead log up to
// the sync that makes it durable.
type vfs struct {
	trap *trap
	open openFunc // SQLite's own

	mu      sync.Mutex
	methods map[uintptr]uintptr // ours, by SQLite's own
	write   writeFunc           // SQLite's own
	sync    syncFunc

	ours struct { // what C memory points to, and the garbage collector would not know of
		open  openFunc
		write writeFunc
		sync  syncFunc
	}
	commits map[uintptr]*commit // by the file of the log
}

// The functions of sqlite3_vfs and sqlite3_io_methods that are replaced.
type (
	openFunc  func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	writeFunc func(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32
	syncFunc  func(tls *libc.TLS, file uintptr, flags int32) int32
)

// commit is the one that is being written to a log.
type commit struct {
	effect string
	begun  bool
	n      int
	halved bool // the half of it has passed
}

// headerBytes is where a log's frames begin. The header alone is no commit.
const headerBytes = 32

// watchCommits puts a vfs before the one that SQLite uses. The caller keeps it as long as SQLite is used.
func watchCommits(t *trap) *vfs {
	tls := libc.NewTLS()
	own := sqlite3.Xsqlite3_vfs_find(tls, 0)
	v := &vfs{trap: t, methods: map[uintptr]uintptr{}, commits: map[uintptr]*commit{}}
	v.open = *(*openFunc)(function(load(own, unsafe.Offsetof(sqlite3.Tsqlite3_vfs{}.FxOpen))))
	ours := copied(tls, own, unsafe.Sizeof(sqlite3.Tsqlite3_vfs{}))
	v.ours.open, v.ours.write, v.ours.sync = v.opened, v.written, v.synced
	store(ours, unsafe.Offsetof(sqlite3.Tsqlite3_vfs{}.FxOpen), *(*uintptr)(unsafe.Pointer(&v.ours.open)))
	name, err := libc.CString("points")
	if err != nil {
		panic(err)
	}
	store(ours, unsafe.Offsetof(sqlite3.Tsqlite3_vfs{}.FzName), name)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, ours, 1); rc != sqlite3.SQLITE_OK {
		panic("SQLite does not take another VFS")
	}
	return v
}

// function makes what a C function pointer stands for assignable to a Go function.
func function(p uintptr) unsafe.Pointer { return unsafe.Pointer(&struct{ f uintptr }{p}) }

func load(at, offset uintptr) uintptr         { return libc.AtomicLoadPUintptr(at + offset) }
func store(at, offset uintptr, value uintptr) { libc.AtomicStorePUintptr(at+offset, value) }

// copied is a copy of a C structure, for ever.
func copied(tls *libc.TLS, from, size uintptr) uintptr {
	to := libc.Xmalloc(tls, libc.Tsize_t(size))
	libc.Xmemcpy(tls, to, from, libc.Tsize_t(size))
	return to
}

// opened replaces xOpen.
func (v *vfs) opened(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	rc := v.open(tls, vfs, name, file, flags, out)
	if rc != sqlite3.SQLITE_OK || name == 0 {
		return rc
	}
	path := libc.GoString(name)
	if !strings.HasSuffix(path, logSuffix) {
		return rc
	}
	database := strings.TrimSuffix(filepath.Base(path), ".db"+logSuffix)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.commits[file] = &commit{effect: "commit:" + database}
	at := unsafe.Offsetof(sqlite3.Tsqlite3_file{}.FpMethods)
	store(file, at, v.watched(tls, load(file, at)))
	return rc
}

// watched is a table of methods with ours in it.
func (v *vfs) watched(tls *libc.TLS, own uintptr) uintptr {
	if ours, ok := v.methods[own]; ok {
		return ours
	}
	var m sqlite3.Tsqlite3_io_methods
	v.write = *(*writeFunc)(function(load(own, unsafe.Offsetof(m.FxWrite))))
	v.sync = *(*syncFunc)(function(load(own, unsafe.Offsetof(m.FxSync))))
	ours := copied(tls, own, unsafe.Sizeof(m))
	store(ours, unsafe.Offsetof(m.FxWrite), *(*uintptr)(unsafe.Pointer(&v.ours.write)))
	store(ours, unsafe.Offsetof(m.FxSync), *(*uintptr)(unsafe.Pointer(&v.ours.sync)))
	v.methods[own] = ours
	return ours
}

func (v *vfs) of(file uintptr) *commit {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.commits[file]
}

// written replaces xWrite of logs. The first write of a commit is its beginning, and its half is that of
// the first page.
func (v *vfs) written(tls *libc.TLS, file, data uintptr, n int32, offset int64) int32 {
	c := v.of(file)
	if offset < headerBytes {
		return v.write(tls, file, data, n, offset)
	}
	if !c.begun {
		c.begun, c.halved, c.n = true, false, v.trap.begin(c.effect)
	}
	if page := n >= 512; page && !c.halved {
		c.halved = true
		if v.trap.is(c.effect, c.n, Half) {
			v.write(tls, file, data, n/2, offset)
			die()
		}
	}
	return v.write(tls, file, data, n, offset)
}

// synced replaces xSync of logs.
func (v *vfs) synced(tls *libc.TLS, file uintptr, flags int32) int32 {
	rc := v.sync(tls, file, flags)
	if c := v.of(file); c.begun {
		c.begun = false
		v.trap.meet(c.effect, c.n, After)
	}
	return rc
}
