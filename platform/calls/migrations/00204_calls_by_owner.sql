-- +goose Up
CREATE INDEX calls_owner ON calls (owner, lease_until) WHERE lease_until > 0;

-- +goose Down
DROP INDEX calls_owner;
