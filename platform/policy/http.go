package policy

import (
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what another party can make us wait.
const maxRetryAfter = time.Minute

// RetryAfter returns how long an answer's Retry-After asks to wait, where it is given in seconds; 0 where
// it is not. A date is not looked at: it would compare two clocks.
func RetryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}
