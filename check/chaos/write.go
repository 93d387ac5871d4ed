package chaos

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// The files of a report.
const (
	JSONFile = "report.json"
	PageFile = "report.html"
)

// Write writes the report into a directory, which is made if need be.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, JSONFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	page, err := r.page()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, PageFile), page, 0o644)
}
