-- +goose Up
-- The events that took effect, or became dead letters. On SQLite the primary key is the table.
CREATE TABLE inbox (
    consumer TEXT   NOT NULL,
    event_id {{.Text}} NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (consumer, event_id)
){{if eq .Bytes "BLOB"}} WITHOUT ROWID{{end}};

-- Keys that have a dead letter: what comes behind it for them becomes one too.
CREATE TABLE parked_keys (
    consumer TEXT   NOT NULL,
    key      TEXT   NOT NULL,
    event_id TEXT   NOT NULL, -- the dead letter
    at       BIGINT NOT NULL,
    PRIMARY KEY (consumer, key)
);

-- +goose Down
DROP TABLE parked_keys;
DROP TABLE inbox;
