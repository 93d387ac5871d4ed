-- +goose Up
-- The order's saga style; empty on rows of before it was kept, which are choreographed.
ALTER TABLE payments ADD COLUMN saga TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE payments DROP COLUMN saga;
