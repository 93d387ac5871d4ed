package party

import (
	"encoding/json"
	"net/http"
)

// Problem is a refusal.
type Problem struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Failed is the answer to a call that was not done and may be repeated.
func Failed() *Problem {
	return &Problem{http.StatusInternalServerError, "internal", "Something failed here, and nothing was done."}
}

// Unavailable is the answer where the party cannot tell whether it has done what was asked.
func Unavailable() *Problem {
	return &Problem{http.StatusServiceUnavailable, "unavailable", "The ledger cannot be used right now; ask what became of this."}
}

// KeyReused is the answer to a key that came with another request before.
func KeyReused() *Problem {
	return &Problem{http.StatusUnprocessableEntity, "key_reused", "This idempotency key was used for something else."}
}

// NotFound is the answer about what does not exist.
func NotFound(what string) *Problem {
	return &Problem{http.StatusNotFound, "not_found", "There is no such thing here: " + what + "."}
}

// Invalid is the answer to a request that can never be done.
func Invalid(message string) *Problem {
	return &Problem{http.StatusBadRequest, "invalid_request", message}
}

// Conflict is the answer to a request that comes too late or too early.
func Conflict(code, message string) *Problem { return &Problem{http.StatusConflict, code, message} }

// ServeHTTP answers with the refusal.
func (p *Problem) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // two strings
	}
	Answer(w, p.Status, b)
}
