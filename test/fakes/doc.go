// Package fakes makes shop.Deps for tests: the real clock, network and files, randomness from a seed that
// is logged, and a clock that a test moves by hand.
package fakes
