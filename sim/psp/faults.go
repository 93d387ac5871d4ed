package psp

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// firstLimit bounds how long an answer waits for its webhook to be taken first.
	firstLimit = 2 * time.Second
	// maxUndoFails is the largest N of tok_void_fails_N.
	maxUndoFails = 1_000_000
)

// How often a webhook is delivered, as it stands in the ledger.
const (
	hookOnce  = "once"
	hookTwice = "twice"
)

// behaviour is what a payment method makes the provider do.
type behaviour struct {
	decline    string // the code to decline with
	failOnce   bool   // the authorisation fails at first
	failAlways bool
	never      bool // the authorisation is not done and never will be, and the call is not answered
	silent     bool // the authorisation is done, and the call is not answered
	slow       bool // the authorisation's answer takes a while
	undoFails  int  // voids and refunds that fail
	hook       string
	hookFirst  bool // before the answer
}

// behaviourOf returns what a payment method asks for. One that is not listed behaves as tok_ok.
func behaviourOf(method string) behaviour {
	switch method {
	case "tok_declined":
		return behaviour{decline: "card_declined"}
	case "tok_insufficient_funds":
		return behaviour{decline: "insufficient_funds"}
	case "tok_slow":
		return behaviour{slow: true, hook: hookOnce}
	case "tok_error_once":
		return behaviour{failOnce: true}
	case "tok_error":
		return behaviour{failAlways: true}
	case "tok_timeout_ok":
		return behaviour{silent: true, hook: hookOnce}
	case "tok_timeout_fail":
		return behaviour{never: true}
	case "tok_void_fails":
		return behaviour{undoFails: math.MaxInt}
	case "tok_webhook_twice":
		return behaviour{hook: hookTwice}
	case "tok_webhook_first":
		return behaviour{hook: hookOnce, hookFirst: true}
	}
	if digits, ok := strings.CutPrefix(method, "tok_void_fails_"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= maxUndoFails {
			return behaviour{undoFails: n}
		}
	}
	return behaviour{}
}
