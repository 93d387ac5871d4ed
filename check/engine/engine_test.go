package engine

import "testing"

// TestAddress: each address is given away once, also when more are asked for than a process's own block has.
func TestAddress(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range block + block/2 {
		addr, err := Address()
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if seen[addr] {
			t.Fatalf("%s is given away twice", addr)
		}
		seen[addr] = true
	}
}
