package party

import "sync"

// seeded is the generator splitmix64 of G. Steele, D. Lea and C. Flood, "Fast Splittable Pseudorandom
// Number Generators", 2014: small, and the same on every machine.
type seeded struct {
	mu    sync.Mutex
	state uint64
}

// Uint64 returns the next number.
func (s *seeded) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Float64 returns the next number in [0,1).
func (s *seeded) Float64() float64 { return float64(s.Uint64()>>11) / (1 << 53) }
