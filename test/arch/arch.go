// Package arch checks the source itself: who may import whom, what may be called where, and how large
// files and functions may be. It parses in this process, so that no cache can hide a change.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	module      = "holdfast"
	maxFile     = 500 // lines
	maxFunction = 70
	maxTest     = 100 // a table is long and simple
)

// file is a parsed source file. Its folder is relative to the module's root.
type file struct {
	name   string // with the folder
	folder string
	test   bool
	lines  int
	set    *token.FileSet
	ast    *ast.File
	made   bool // generated
}

// load parses every source file below fsys.
func load(fsys fs.FS) ([]file, error) {
	var files []file
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || name == "tools" || name == "bench" || name == "bin" || name == "data") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		f, err := parse(name, string(b))
		files = append(files, f)
		return err
	})
	return files, err
}

func parse(name, source string) (file, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	return file{name: name, folder: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: strings.Count(source, "\n"), set: set, ast: tree,
		made: ast.IsGenerated(tree)}, nil
}

// rule says which of our own folders a folder may import; "*" stands for all. The first that matches
// counts.
type rule struct {
	folder string
	may    []string
}

var rules = []rule{
	{"shop", nil},
	{"resilience", nil},
	{"svc", []string{"shop", "platform", "resilience"}},
	{"platform", []string{"shop", "platform", "resilience"}},
	{"embedded", []string{"shop", "platform"}},
	{"client", []string{"shop", "client"}},
	{"sim", []string{"shop", "sim"}},
	{"check/audit", []string{"shop"}},
	{"check", []string{"shop", "client", "check"}},
	{"app/verify", []string{"app", "shop", "svc", "platform", "check/audit"}},
	{"app/local", []string{"app", "shop", "svc", "platform", "embedded", "sim", "client", "check/audit"}},
	{"app", []string{"shop", "svc", "platform", "resilience", "client"}},
	{"cli", []string{"app", "check", "client", "shop", "platform/run", "platform/telemetry", "platform/policy"}},
	{"cmd", []string{"app", "cli", "check", "client", "shop"}},
	{"api", []string{"shop"}},
	{"engines", nil}, // a module of its own
	{"test", []string{"*"}},
}

// bare are the folders that stand on the standard library alone.
var bare = []string{"shop", "resilience"}

// imports checks who imports whom. Tests may import the harness and the embedded bus, besides.
func imports(files []file) (found []string) {
	for _, f := range files {
		may, known := allowed(f.folder)
		if !known {
			found = append(found, f.name+": its folder has no rule for its imports; add one, or put it elsewhere")
			continue
		}
		for _, spec := range f.ast.Imports {
			target, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				found = append(found, f.name+": "+err.Error())
				continue
			}
			rest, ours := strings.CutPrefix(target, module+"/")
			switch {
			case !ours:
				if slices.Contains(bare, f.folder) && !f.test && strings.Contains(strings.Split(target, "/")[0], ".") {
					found = append(found, f.name+" imports "+target+": "+f.folder+" has the standard library only")
				}
			case rest == f.folder || f.test && (under(rest, "test") || under(rest, "embedded")):
			case !slices.ContainsFunc(may, func(m string) bool { return m == "*" || under(rest, m) }):
				found = append(found, f.name+" imports "+rest+": "+f.folder+" may import "+strings.Join(may, ", "))
			}
		}
	}
	return found
}

func allowed(folder string) ([]string, bool) {
	for _, r := range rules {
		if under(folder, r.folder) {
			return r.may, true
		}
	}
	return nil, false
}

func under(folder, top string) bool { return folder == top || strings.HasPrefix(folder, top+"/") }

// comments checks that each package has exactly one comment.
func comments(files []file) (found []string) {
	has := map[string][]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		has[f.folder] = append(has[f.folder], "")
		if f.ast.Doc != nil {
			has[f.folder][len(has[f.folder])-1] = f.name
		}
	}
	for folder, names := range has {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
		if len(names) != 1 {
			found = append(found, fmt.Sprintf("package %s has %d comments, want one: %v", folder, len(names), names))
		}
	}
	slices.Sort(found)
	return found
}

// sizes checks the lengths of files and functions.
func sizes(files []file) (found []string) {
	for _, f := range files {
		if f.made {
			continue
		}
		if f.lines > maxFile {
			found = append(found, fmt.Sprintf("%s has %d lines, want at most %d", f.name, f.lines, maxFile))
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			limit := maxFunction
			if f.test {
				limit = maxTest
			}
			if n > limit {
				found = append(found, fmt.Sprintf("%s: %s has %d lines, want at most %d", f.name, fn.Name.Name, n, limit))
			}
			if fn.Name.Name == "init" && fn.Recv == nil {
				found = append(found, f.name+" has an init function: construct it in app")
			}
		}
	}
	return found
}

// banned are the calls that go through shop.Deps instead.
var banned = regexp.MustCompile(`^(time\.(Now|Sleep|After|AfterFunc|NewTimer|NewTicker|Tick|Since|Until)|rand\..*|net\.(Dial|DialTimeout|Listen|ListenPacket)|net\.(Dialer|ListenConfig)|` +
	`os\.(Open|OpenFile|Create|CreateTemp|ReadFile|WriteFile|Mkdir|MkdirAll|MkdirTemp|Remove|RemoveAll|Rename|ReadDir|Truncate))$`)

// seams are where the banned calls are at home, or have a reason to be.
var seams = map[string]string{
	"platform/run": "it is where the program meets the machine",
	"cmd":          "the program itself",
	"cli":          "the person's machine: their files and their ports",
	"check":        "it stands outside, in real time",
	"test":         "the harness",
	"engines":      "programs of their own",
	"client":       "it runs in other people's programs",
	"resilience":   "the same; its clock is the monotonic one, which testing/synctest makes virtual",
}

// exceptions are single calls elsewhere.
var exceptions = map[string]string{
	"platform/sqldb/sqlite.go os.OpenFile":     "SQLite opens its file by itself; this makes it with the right mode first",
	"platform/sqldb/sqlite.go os.MkdirAll":     "the same",
	"platform/temporal/temporald.go rand.IntN": "ports must differ where seeds do not",
	"platform/sqldb/openerror.go os.OpenFile":  "it finds out why SQLite could not",
}

// calls checks that nobody goes around the seams.
func calls(files []file) (found []string) {
	for _, f := range files {
		if f.test || inSeam(f.folder) {
			continue
		}
		names := imported(f)
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || names[pkg.Name] == "" {
				return true
			}
			call := path.Base(names[pkg.Name]) + "." + sel.Sel.Name
			if strings.HasPrefix(names[pkg.Name], "math/rand") {
				call = "rand." + sel.Sel.Name
			}
			if banned.MatchString(call) && exceptions[f.name+" "+call] == "" {
				found = append(found, fmt.Sprintf("%s:%d uses %s: take it from shop.Deps", f.name, f.set.Position(n.Pos()).Line, call))
			}
			return true
		})
	}
	return found
}

func inSeam(folder string) bool {
	for seam := range seams {
		if under(folder, seam) {
			return true
		}
	}
	return false
}

// imported maps the names in a file to the packages that matter here.
func imported(f file) map[string]string {
	names := map[string]string{}
	for _, spec := range f.ast.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		switch target {
		case "time", "net", "os", "math/rand", "math/rand/v2":
			name := path.Base(target)
			if target == "math/rand/v2" {
				name = "rand"
			}
			if spec.Name != nil {
				name = spec.Name.Name
			}
			names[name] = target
		}
	}
	return names
}
