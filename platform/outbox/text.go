package outbox

// padded returns values as arguments for IN, none for none. Statements with lists of every length would be many texts,
// and each has to be prepared anew: so the last value is repeated up to a power of two.
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
