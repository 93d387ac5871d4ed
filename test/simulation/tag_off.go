//go:build !synctests

package simulation

// tagged tells whether franz-go waits for its locks by channels, see TestSeeds.
const tagged = false
