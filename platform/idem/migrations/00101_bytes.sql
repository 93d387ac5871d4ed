-- +goose Up
-- Ids and keys compare by their bytes, as they do in Go and in SQLite, and not by the rules of a language.
{{if eq .Bytes "BYTEA"}}
ALTER TABLE idempotency ALTER COLUMN caller TYPE {{.Text}}, ALTER COLUMN route TYPE {{.Text}}, ALTER COLUMN key TYPE {{.Text}};
{{end}}

-- +goose Down
{{if eq .Bytes "BYTEA"}}
ALTER TABLE idempotency ALTER COLUMN caller TYPE TEXT COLLATE "default", ALTER COLUMN route TYPE TEXT COLLATE "default", ALTER COLUMN key TYPE TEXT COLLATE "default";
{{end}}
