-- +goose Up
CREATE TABLE items (
    sku        {{.Text}} PRIMARY KEY,
    name       TEXT   NOT NULL,
    unit_price BIGINT NOT NULL CHECK (unit_price >= 0),
    currency   TEXT   NOT NULL,
    on_hand    BIGINT NOT NULL DEFAULT 0,
    reserved   BIGINT NOT NULL DEFAULT 0,
    version    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CHECK (reserved >= 0 AND reserved <= on_hand)
);

-- The stock is this ledger; items holds its sums.
CREATE TABLE movements (
    pos            {{.Serial}},
    sku            TEXT   NOT NULL,
    at             BIGINT NOT NULL,
    kind           TEXT   NOT NULL, -- receipt, adjustment, reserve, release, ship
    on_hand_delta  BIGINT NOT NULL,
    reserved_delta BIGINT NOT NULL,
    order_id       TEXT   NOT NULL,
    reference      TEXT   NOT NULL
);

-- One row per order, also for one that was released before it was reserved (a tombstone).
CREATE TABLE reservations (
    order_id   TEXT    PRIMARY KEY,
    id         TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    lines      TEXT    NOT NULL,
    expires_at BIGINT  NOT NULL,
    kept       INTEGER NOT NULL, -- the order is confirmed: it no longer expires
    version    BIGINT  NOT NULL, -- of the last event
    rev        BIGINT  NOT NULL, -- of the row
    updated_at BIGINT  NOT NULL
);
CREATE INDEX reservations_expiry ON reservations (expires_at) WHERE status = 'reserved' AND kept = 0;

-- +goose Down
DROP TABLE reservations;
DROP TABLE movements;
DROP TABLE items;
