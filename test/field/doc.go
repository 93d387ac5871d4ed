// Package field holds what went wrong in other order systems, each as a test of a whole Holdfast. The rows
// are in rows_test.go; docs/field-bugs.md is written from them and from what the tests have shown.
package field
