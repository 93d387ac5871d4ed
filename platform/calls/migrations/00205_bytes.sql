-- +goose Up
-- Ids and keys compare by their bytes, as they do in Go and in SQLite, and not by the rules of a language.
{{if eq .Bytes "BYTEA"}}
ALTER TABLE calls ALTER COLUMN key TYPE {{.Text}}, ALTER COLUMN order_id TYPE {{.Text}}, ALTER COLUMN kind TYPE {{.Text}};
ALTER TABLE call_attempts ALTER COLUMN order_id TYPE {{.Text}};
{{end}}

-- +goose Down
{{if eq .Bytes "BYTEA"}}
ALTER TABLE calls ALTER COLUMN key TYPE TEXT COLLATE "default", ALTER COLUMN order_id TYPE TEXT COLLATE "default", ALTER COLUMN kind TYPE TEXT COLLATE "default";
ALTER TABLE call_attempts ALTER COLUMN order_id TYPE TEXT COLLATE "default";
{{end}}
