package temporal

import (
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"holdfast/shop"
)

// names are the kinds as Temporal knows them: the type of a failure. They are in histories, so they are
// append-only. A workflow asks this table, so it is none whose order changes.
var names = [...]string{
	shop.Internal: "internal", shop.Invalid: "invalid", shop.KeyMissing: "key_missing", shop.KeyInProgress: "key_in_progress",
	shop.KeyReused: "key_reused", shop.Unauthenticated: "unauthenticated", shop.NotFound: "not_found", shop.PriceChanged: "price_changed",
	shop.UnknownSKU: "unknown_sku", shop.OrderDispatched: "order_dispatched", shop.VersionConflict: "version_conflict",
	shop.RateLimited: "rate_limited", shop.Overloaded: "overloaded", shop.Unavailable: "unavailable",
	shop.DeadlineExceeded: "deadline_exceeded", shop.TooLarge: "too_large", shop.Conflict: "conflict", shop.NotYet: "not_yet",
}

// Failure tells an error of a service as Temporal keeps it: its kind and its message, which hold no
// personal data, and not its cause, which may.
func Failure(err error) error {
	if err == nil {
		return nil
	}
	kind, msg := shop.KindOf(err), "an internal error; the log has its cause"
	var own *shop.Error
	if errors.As(err, &own) {
		msg = own.Msg
	}
	return temporal.NewApplicationErrorWithOptions(msg, names[kind], temporal.ApplicationErrorOptions{NonRetryable: !kind.Retryable()})
}

// KindOf returns the kind of a failure that Temporal handed back; Unavailable for its own timeouts, which
// say that nobody knows.
func KindOf(err error) shop.Kind {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		for kind, name := range names {
			if name == app.Type() {
				return shop.Kind(kind)
			}
		}
		return shop.Internal
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) || temporal.IsCanceledError(err) {
		return shop.Unavailable
	}
	return shop.KindOf(err)
}

// told names the setting that an error of the cluster is about. Only what may pass by itself is Unavailable.
func (c Config) told(err error) error {
	if err == nil {
		return nil
	}
	const op = "temporal"
	text := err.Error()
	var unknown *serviceerror.NamespaceNotFound
	var denied *serviceerror.PermissionDenied
	switch {
	case errors.As(err, &unknown):
		return shop.Wrap(shop.Invalid, op, fmt.Sprintf("temporal.namespace: the Temporal at %s has no namespace %q; make it there, or name one that it has", c.Address, c.Namespace), err)
	case errors.As(err, &denied) || strings.Contains(text, "Unauthenticated"):
		return shop.Wrap(shop.Invalid, op, fmt.Sprintf("temporal.api_key_file or temporal.tls.cert_file: the Temporal at %s does not let us in", c.Address), err)
	case insecure(text) != "":
		return shop.Wrap(shop.Invalid, op, fmt.Sprintf("temporal.tls: there is no secure connection to the Temporal at %s: %s", c.Address, insecure(text)), err)
	case !c.secured() && strings.Contains(text, "server preface"):
		return shop.Wrap(shop.Unavailable, op, fmt.Sprintf("temporal.address: who answers at %s does not speak as a Temporal: does it want temporal.tls?", c.Address), err)
	default:
		return shop.Wrap(shop.Unavailable, op, fmt.Sprintf("temporal.address: the Temporal at %s does not answer", c.Address), err)
	}
}

// handshakes are what an error of gRPC, which keeps no more than its text, has in it where there is no connection by
// TLS, and what to do then. The first that is met counts.
var handshakes = [...]struct{ text, do string }{
	{"unknown authority", "its certificate is of an authority that is not known: set temporal.tls.ca_file"},
	{"certificate has expired", "its certificate is out of its time: renew it, or set this machine's clock right"},
	{"x509:", "its certificate is for another host: set temporal.tls.server_name, or use the name that it is for"},
	{"first record does not look like a TLS handshake", "it speaks no TLS on that port: set no temporal.tls, or use its TLS port"},
	{"remote error: tls:", "it does not take our certificate, or wants one: see temporal.tls.cert_file"},
	{"authentication handshake failed", "see the cause"},
}

// insecure tells what to do about an error of a connection by TLS; "" where it is none.
func insecure(text string) string {
	for _, h := range handshakes {
		if strings.Contains(text, h.text) {
			return h.do
		}
	}
	return ""
}
