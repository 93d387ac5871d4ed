-- +goose Up
CREATE INDEX calls_due_kind ON calls (kind, next_at) WHERE parked = 0;
DROP INDEX calls_due;

-- +goose Down
CREATE INDEX calls_due ON calls (next_at) WHERE parked = 0;
DROP INDEX calls_due_kind;
