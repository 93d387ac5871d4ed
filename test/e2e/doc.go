// Package e2e holds the tests that drive a whole Holdfast through its public API, on every kind of store.
package e2e
