-- +goose Up
CREATE INDEX calls_due_order ON calls (kind, order_id) WHERE parked = 0;

-- +goose Down
DROP INDEX calls_due_order;
