-- +goose Up
CREATE TABLE idempotency (
    pos        {{.Serial}},
    caller     TEXT   NOT NULL,
    route      TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    hash       TEXT   NOT NULL,
    answer     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (caller, route, key)
);

-- +goose Down
DROP TABLE idempotency;
