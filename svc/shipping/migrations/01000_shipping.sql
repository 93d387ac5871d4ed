-- +goose Up
-- One row per order, also for one that was closed before a parcel was asked for (a tombstone).
CREATE TABLE shipments (
    order_id      TEXT    PRIMARY KEY,
    id            TEXT    NOT NULL,
    caller        TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    reference     TEXT    NOT NULL, -- the carrier's id of the parcel
    tracking      TEXT    NOT NULL,
    lines         TEXT    NOT NULL,
    undo          INTEGER NOT NULL, -- the order is being undone: a parcel that is scheduled late is cancelled
    version       BIGINT  NOT NULL, -- of the last event
    rev           BIGINT  NOT NULL, -- of the row
    dispatched_at BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);

CREATE TABLE webhooks (
    id       TEXT   PRIMARY KEY,
    order_id TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    at       BIGINT NOT NULL
);
CREATE INDEX webhooks_order ON webhooks (order_id);

-- +goose Down
DROP TABLE webhooks;
DROP TABLE shipments;
