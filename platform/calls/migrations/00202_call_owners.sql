-- +goose Up
CREATE TABLE call_owners (
    owner TEXT   PRIMARY KEY,
    until BIGINT NOT NULL
);

-- +goose Down
DROP TABLE call_owners;
