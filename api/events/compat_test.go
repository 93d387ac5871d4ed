package events_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// node is a schema with its references resolved.
type node = map[string]any

// library is a folder of schemas.
type library struct{ fsys fs.FS }

// load reads a schema and puts what it refers to in place.
func (l library) load(name string) (node, error) {
	data, err := fs.ReadFile(l.fsys, name)
	if err != nil {
		return nil, err
	}
	var n node
	if err := json.Unmarshal(data, &n); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l.resolve(n, path.Dir(name))
}

// resolve replaces $ref by what it names: properties and required are joined, other keywords beside
// the reference win.
func (l library) resolve(n node, dir string) (node, error) {
	out := node{}
	if ref, ok := n["$ref"].(string); ok {
		base, err := l.load(path.Join(dir, ref))
		if err != nil {
			return nil, err
		}
		out = base
	}
	for k, v := range n {
		switch k {
		case "$ref":
		case "required":
			out[k] = append(asList(out[k]), asList(v)...)
		case "properties":
			props := node{}
			maps.Copy(props, asNode(out[k]))
			for name, p := range asNode(v) {
				resolved, err := l.resolve(asNode(p), dir)
				if err != nil {
					return nil, err
				}
				props[name] = resolved
			}
			out[k] = props
		case "items":
			resolved, err := l.resolve(asNode(v), dir)
			if err != nil {
				return nil, err
			}
			out[k] = resolved
		default:
			out[k] = v
		}
	}
	return out, nil
}

// breaks lists how the new schema would hurt those who rely on the old one: consumers that are not
// changed yet, and new ones that read events of before.
func breaks(at string, before, after node) []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, at+": "+fmt.Sprintf(format, args...)) }
	if b, a := types(before), types(after); !slices.Equal(b, a) {
		add("type changed from %v to %v", b, a)
	}
	if lost := minus(enum(before), enum(after)); len(lost) > 0 && after["enum"] != nil {
		add("values removed: %v", lost)
	}
	if before["enum"] == nil && after["enum"] != nil {
		add("limited to %v", enum(after))
	}
	for _, keyword := range []string{"pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "const"} {
		if b, a := fmt.Sprint(before[keyword]), fmt.Sprint(after[keyword]); a != b && after[keyword] != nil {
			add("%s changed from %s to %s", keyword, b, a)
		}
	}
	if after["additionalProperties"] == false && before["additionalProperties"] != false {
		add("closed to further properties")
	}
	if gone := minus(strs(before["required"]), strs(after["required"])); len(gone) > 0 {
		add("no longer certain: %v", gone)
	}
	if more := minus(strs(after["required"]), strs(before["required"])); len(more) > 0 {
		add("newly required, which events of before lack: %v", more)
	}
	old, fresh := asNode(before["properties"]), asNode(after["properties"])
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if fresh[name] == nil {
			add("property %q removed", name)
			continue
		}
		found = append(found, breaks(at+"/"+name, asNode(old[name]), asNode(fresh[name]))...)
	}
	if before["items"] != nil || after["items"] != nil {
		found = append(found, breaks(at+"/items", asNode(before["items"]), asNode(after["items"]))...)
	}
	return found
}

// compare compares all event types of two libraries.
func compare(before, after library) ([]string, error) {
	names, err := eventTypes(before.fsys)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		old, err := before.load(name + ".json")
		if err != nil {
			return nil, err
		}
		if _, err := fs.Stat(after.fsys, name+".json"); err != nil {
			found = append(found, name+": event type removed")
			continue
		}
		fresh, err := after.load(name + ".json")
		if err != nil {
			return nil, err
		}
		found = append(found, breaks(name, old, fresh)...)
	}
	return found, nil
}

// eventTypes lists the types that a folder has schemas for.
func eventTypes(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, "*.json")
	for i := range files {
		files[i] = strings.TrimSuffix(files[i], ".json")
	}
	return files, err
}

func asNode(v any) node { n, _ := v.(node); return n }

func asList(v any) []any { l, _ := v.([]any); return l }

func strs(v any) []string {
	var out []string
	for _, x := range asList(v) {
		out = append(out, fmt.Sprint(x))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func types(n node) []string {
	if s, ok := n["type"].(string); ok {
		return []string{s}
	}
	return strs(n["type"])
}

func enum(n node) []string { return strs(n["enum"]) }

func minus(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
