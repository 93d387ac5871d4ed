// Package postgres starts a throwaway PostgreSQL for the tests of one process, from the binaries that are
// installed. It dies with the process.
package postgres
