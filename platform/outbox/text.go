package outbox

import "iter"

// Statements with lists of every length would be many texts, and each has to be prepared anew. So lists
// come in powers of two: a list for IN repeats its last value, and rows are inserted piece by piece.

// padded returns values as arguments for IN, none for none.
func padded(values []int64) []any {
	if len(values) == 0 {
		return nil
	}
	n := 1
	for n < len(values) {
		n *= 2
	}
	args := make([]any, n)
	for i := range args {
		args[i] = values[min(i, len(values)-1)]
	}
	return args
}

// pieces divides n rows into [from, to) of at most limit, a power of two.
func pieces(n, limit int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		for from, size := 0, limit; from < n; {
			for size > n-from {
				size /= 2
			}
			if !yield(from, from+size) {
				return
			}
			from += size
		}
	}
}

// short cuts s to n bytes at most.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 { // not within a character
		n--
	}
	return s[:n]
}
