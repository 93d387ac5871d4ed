// Package httpx is the thin layer over Huma and http.ServeMux on which every HTTP interface of
// Holdfast stands. Huma derives the OpenAPI document from Go types, reads parameters and writes
// answers; this package closes what Huma leaves open: bodies are checked strictly against the same
// schemas with a JSON pointer for each field at fault, every failure is one problem+json without
// the rejected value in it, and authentication, idempotency keys, deadlines, request ids, traces,
// metrics and panics are dealt with once, before a handler runs.
package httpx
