// Package crash holds the test that kills a whole Holdfast at random instants under load, starts it again,
// and compares everything that it says with what its customers and the outside parties have seen.
package crash
