package party

import "hash/maphash"

// Index finds places by name. It keeps hashes of 64 bits, and nothing that the garbage collector has to
// look at: some 25 bytes a name. That any two of a million names share a hash is a matter of one in
// thirty million. It is not safe for concurrent use.
type Index struct {
	seed   maphash.Seed
	places map[uint64]int64
}

// NewIndex returns an empty index.
func NewIndex() *Index { return &Index{seed: maphash.MakeSeed(), places: make(map[uint64]int64)} }

// Place returns where name was last put.
func (x *Index) Place(name string) (place int64, found bool) {
	place, found = x.places[maphash.String(x.seed, name)]
	return place, found
}

// Put sets the place of name.
func (x *Index) Put(name string, place int64) { x.places[maphash.String(x.seed, name)] = place }
