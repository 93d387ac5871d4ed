package httpx

import "strings"

const (
	// maxName is how much of a name that a caller made up is repeated to it.
	maxName = 200
	// cardDigits is the fewest digits of a card number. A run of as many in a name is not repeated,
	// whatever stands between them.
	cardDigits = 13
)

// maskName makes the name of a field fit to be repeated. Names are repeated where values are not, and
// a caller may have put a value where a name belongs.
func maskName(name string) string {
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "") + "…"
	}
	if !looksLikeCard(name) {
		return name
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '*'
		}
		return r
	}, name)
}

// looksLikeCard tells whether s has a run of digits as long as a card number, with separators
// between them or not.
func looksLikeCard(s string) bool {
	run := 0
	for i := range len(s) {
		switch b := s[i]; {
		case b >= '0' && b <= '9':
			if run++; run >= cardDigits {
				return true
			}
		case b == ' ' || b == '-' || b == '.' || b == '_':
		default:
			run = 0
		}
	}
	return false
}
