-- +goose Up
-- Ids and keys compare by their bytes, as they do in Go and in SQLite, and not by the rules of a language.
{{if eq .Bytes "BYTEA"}}
ALTER TABLE orders ALTER COLUMN caller TYPE {{.Text}}, ALTER COLUMN customer_id TYPE {{.Text}}, ALTER COLUMN external_id TYPE {{.Text}}, ALTER COLUMN status TYPE {{.Text}};
ALTER TABLE timeline ALTER COLUMN order_id TYPE {{.Text}};
{{end}}

-- +goose Down
{{if eq .Bytes "BYTEA"}}
ALTER TABLE orders ALTER COLUMN caller TYPE TEXT COLLATE "default", ALTER COLUMN customer_id TYPE TEXT COLLATE "default", ALTER COLUMN external_id TYPE TEXT COLLATE "default", ALTER COLUMN status TYPE TEXT COLLATE "default";
ALTER TABLE timeline ALTER COLUMN order_id TYPE TEXT COLLATE "default";
{{end}}
