-- +goose Up
-- doc holds the order and what its saga needs; the other columns are what rows are looked up by.
CREATE TABLE orders (
    order_id    {{.Text}} PRIMARY KEY, -- sorts by time
    caller      TEXT    NOT NULL,
    customer_id TEXT    NOT NULL,
    external_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    stuck       INTEGER NOT NULL, -- it needs an operator, or was driven again and has not moved since
    deadline    BIGINT  NOT NULL, -- when the watchdog looks at it, at its deadline or earlier; 0: it has ended
    rev         BIGINT  NOT NULL, -- of the row
    doc         TEXT    NOT NULL
);
CREATE INDEX orders_caller ON orders (caller, order_id);
CREATE INDEX orders_customer ON orders (caller, customer_id, order_id);
CREATE INDEX orders_status ON orders (caller, status, order_id);
CREATE INDEX orders_external ON orders (caller, external_id, order_id) WHERE external_id <> '';
CREATE INDEX orders_stuck ON orders (order_id) WHERE stuck = 1;
CREATE INDEX orders_deadline ON orders (deadline) WHERE deadline > 0;

CREATE TABLE timeline (
    pos      {{.Serial}},
    order_id TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    service  TEXT   NOT NULL,
    what     TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    trace_id TEXT   NOT NULL
);
CREATE INDEX timeline_order ON timeline (order_id);

-- +goose Down
DROP TABLE timeline;
DROP TABLE orders;
