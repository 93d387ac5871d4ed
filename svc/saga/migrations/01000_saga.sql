-- +goose Up
-- What the steps of an order's saga need to know of it. It holds an address and a payment token, which is why
-- it is here and not in Temporal; it goes when the order has ended.
CREATE TABLE briefs (
    order_id {{.Text}} PRIMARY KEY,
    at       BIGINT NOT NULL,
    doc      TEXT   NOT NULL
);

-- +goose Down
DROP TABLE briefs;
