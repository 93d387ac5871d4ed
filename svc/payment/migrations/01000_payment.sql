-- +goose Up
-- One row per order, also for one that was closed before any money was asked for (a tombstone).
CREATE TABLE payments (
    order_id     TEXT    PRIMARY KEY,
    id           TEXT    NOT NULL,
    caller       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    decline_code TEXT    NOT NULL,
    currency     TEXT    NOT NULL,
    amount       BIGINT  NOT NULL CHECK (amount >= 0),
    authorised   BIGINT  NOT NULL CHECK (authorised >= 0 AND authorised <= amount),
    captured     BIGINT  NOT NULL CHECK (captured >= 0 AND captured <= authorised),
    refunded     BIGINT  NOT NULL CHECK (refunded >= 0 AND refunded <= captured),
    reference    TEXT    NOT NULL, -- the provider's id of the authorisation
    hold_until   BIGINT  NOT NULL,
    at_once      INTEGER NOT NULL, -- captured with the authorisation
    undo         INTEGER NOT NULL, -- the order is being undone: whatever succeeds is given back
    version      BIGINT  NOT NULL, -- of the last event
    rev          BIGINT  NOT NULL, -- of the row
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL
);

-- Double entry: per txn and currency the amounts sum to zero.
CREATE TABLE ledger (
    pos      {{.Serial}},
    at       BIGINT NOT NULL,
    txn      TEXT   NOT NULL,
    order_id TEXT   NOT NULL,
    account  TEXT   NOT NULL,
    amount   BIGINT NOT NULL,
    currency TEXT   NOT NULL
);
CREATE INDEX ledger_order ON ledger (order_id);

CREATE TABLE webhooks (
    id       TEXT   PRIMARY KEY,
    order_id TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    at       BIGINT NOT NULL
);
CREATE INDEX webhooks_order ON webhooks (order_id);

-- +goose Down
DROP TABLE webhooks;
DROP TABLE ledger;
DROP TABLE payments;
