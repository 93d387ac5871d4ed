package sqldb

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"
	"text/template"

	"github.com/pressly/goose/v3"
)

// Types are the words that differ between the dialects, for use in migrations: {{.Serial}}.
type Types struct {
	Serial string // a column that numbers its rows, as INTEGER PRIMARY KEY or its like
	Bytes  string // the type of []byte
	Text   string // TEXT that sorts by its bytes on both, for ids and whatever a page is cut by
	Now    string // the time in microseconds, for DEFAULT
}

func types(d Dialect) Types {
	if d == SQLite {
		return Types{
			Serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
			Bytes:  "BLOB",
			Text:   "TEXT",
			Now:    "(CAST(unixepoch('now','subsec') * 1000000 AS INTEGER))",
		}
	}
	return Types{
		Serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		Bytes:  "BYTEA",
		Text:   `TEXT COLLATE "C"`,
		Now:    "(CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT))",
	}
}

// render fills in the templates at the root of fsys. The result is in memory.
func render(fsys fs.FS, d Dialect) (fs.FS, error) {
	files, err := read(fsys)
	if err != nil {
		return nil, err
	}
	for name, f := range files {
		t, err := template.New(name).Parse(string(f.Data))
		if err != nil {
			return nil, fmt.Errorf("migration %w", err) // which names the file and the line
		}
		var b bytes.Buffer
		if err := t.Execute(&b, types(d)); err != nil {
			return nil, fmt.Errorf("migration %w", err)
		}
		f.Data = b.Bytes()
	}
	return files, nil
}

// Merge lays folders of migrations over one another, such as those of the outbox and a service's own. Two
// files of one version are an error.
func Merge(folders ...fs.FS) (fs.FS, error) {
	all := make(fstest.MapFS)
	versions := make(map[int64]string)
	for _, folder := range folders {
		files, err := read(folder)
		if err != nil {
			return nil, err
		}
		for name, f := range files {
			version, _ := goose.NumericComponent(name)
			if other, ok := versions[version]; ok {
				return nil, fmt.Errorf("migrations %s and %s have the same version", other, name)
			}
			versions[version] = name
			all[name] = f
		}
	}
	return all, nil
}

// read returns the *.sql files at the root of fsys. A name without a version is an error, since goose
// would pass over it in silence.
func read(fsys fs.FS) (fstest.MapFS, error) {
	files := make(fstest.MapFS)
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || path.Ext(e.Name()) != ".sql" {
			continue
		}
		if _, err := goose.NumericComponent(e.Name()); err != nil {
			return nil, fmt.Errorf("migration %s: its name must begin with a version, as in 1000_orders.sql: %w", e.Name(), err)
		}
		data, err := fs.ReadFile(fsys, e.Name())
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", e.Name(), err)
		}
		if strings.TrimSpace(string(data)) == "" {
			return nil, fmt.Errorf("migration %s is empty", e.Name())
		}
		files[e.Name()] = &fstest.MapFile{Data: data, Mode: 0o444}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("migrations: there is no *.sql file")
	}
	return files, nil
}
