-- +goose Up
-- An order is written about eight times within seconds. With room for that in its page PostgreSQL need not enter each
-- new version of the row into all indexes.
{{if eq .Bytes "BYTEA"}}ALTER TABLE orders SET (fillfactor = 50);{{end}}

-- +goose Down
{{if eq .Bytes "BYTEA"}}ALTER TABLE orders RESET (fillfactor);{{end}}
