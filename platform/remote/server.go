package remote

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"

	"holdfast/platform/httpx"
	"holdfast/platform/telemetry"
	"holdfast/resilience"
	"holdfast/shop"
)

// Server serves what the services of a process offer the others.
type Server struct {
	api       *httpx.API
	tokens    [][sha256.Size]byte
	admission *resilience.Admission
	deps      shop.Deps
}

// NewServer makes a server without operations. With tokens, only who sends one of them is answered. What is beyond the
// admission is refused at once, with 503 and Retry-After.
func NewServer(tokens []string, admission *resilience.Admission, deps shop.Deps, tel *telemetry.Telemetry) (*Server, error) {
	api, err := httpx.New(httpx.Config{Title: "Holdfast, inside"}, httpx.Parts{Deps: deps, Tel: tel})
	if err != nil {
		return nil, err
	}
	s := &Server{api: api, admission: admission, deps: deps}
	for _, t := range tokens {
		s.tokens = append(s.tokens, sha256.Sum256([]byte(t)))
	}
	return s, nil
}

// Handler serves the internal listener.
func (s *Server) Handler() http.Handler { return s.api }

// allowed compares in constant time, and all tokens whichever matches.
func (s *Server) allowed(r *http.Request) bool {
	sum, ok := sha256.Sum256([]byte(token(r))), len(s.tokens) == 0
	for i := range s.tokens {
		ok = subtle.ConstantTimeCompare(sum[:], s.tokens[i][:]) == 1 || ok
	}
	return ok
}

// handle adds an operation: In is the question, Out the answer.
func handle[In, Out any](s *Server, path string, c resilience.Criticality, do func(context.Context, In) (Out, error)) {
	s.api.Page(http.MethodPost, prefix+path, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := answer(s, r, c, do)
		if err != nil {
			f, status := faultOf(err)
			if status >= http.StatusInternalServerError {
				s.deps.Log.InfoContext(r.Context(), "a call from another service failed", "path", path, "err", err)
			}
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter))))
			}
			httpx.WriteJSON(w, status, f)
			return
		}
		httpx.WriteJSON(w, http.StatusOK, out)
	}))
}

func answer[In, Out any](s *Server, r *http.Request, c resilience.Criticality, do func(context.Context, In) (Out, error)) (out Out, err error) {
	if !s.allowed(r) {
		return out, shop.E(shop.Unauthenticated, "remote", "the internal token is missing or wrong: secrets.internal_tokens must be the same for all services")
	}
	ticket, err := s.admission.Admit(c)
	if err != nil {
		return out, shop.Wrap(shop.Overloaded, "remote", "There are too many calls from other services at once. Try again shortly.", err)
	}
	came := resilience.Neutral // where the handler panics
	defer func() { ticket.Done(came) }()
	out, err = ask(r, do)
	came = outcome(err)
	return out, err
}

// outcome is what an answer tells an adaptive limit.
func outcome(err error) resilience.Outcome {
	if err != nil && shop.KindOf(err).Retryable() {
		return resilience.Failure
	}
	return resilience.Success
}

// ask reads the question and has it answered.
func ask[In, Out any](r *http.Request, do func(context.Context, In) (Out, error)) (out Out, err error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return out, errors.Join(context.Canceled, err) // the other side is gone
	}
	if len(b) > maxBody {
		return out, shop.E(shop.TooLarge, "remote", "the question is too large")
	}
	var in In
	if err := json.Unmarshal(b, &in); err != nil {
		return out, shop.Wrap(shop.Invalid, "remote", "the question cannot be read", err)
	}
	return do(httpx.WithCaller(r.Context(), shop.Caller(r.Header.Get(callerHeader))), in)
}
