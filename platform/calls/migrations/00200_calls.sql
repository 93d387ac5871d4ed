-- +goose Up
CREATE TABLE calls (
    key         TEXT    PRIMARY KEY,
    order_id    TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    traceparent TEXT    NOT NULL,
    parked      INTEGER NOT NULL DEFAULT 0,
    begun       INTEGER NOT NULL DEFAULT 0,
    attempts    INTEGER NOT NULL DEFAULT 0,
    failures    INTEGER NOT NULL DEFAULT 0,
    owner       TEXT    NOT NULL,
    lease_until BIGINT  NOT NULL,
    next_at     BIGINT  NOT NULL,
    first_at    BIGINT  NOT NULL
);
CREATE INDEX calls_due ON calls (next_at) WHERE parked = 0;
CREATE INDEX calls_order ON calls (order_id);

CREATE TABLE call_attempts (
    pos       {{.Serial}},
    order_id  TEXT    NOT NULL,
    at        BIGINT  NOT NULL,
    operation TEXT    NOT NULL,
    number    INTEGER NOT NULL,
    outcome   TEXT    NOT NULL,
    code      TEXT    NOT NULL,
    reference TEXT    NOT NULL,
    trace_id  TEXT    NOT NULL
);
CREATE INDEX call_attempts_order ON call_attempts (order_id);

-- +goose Down
DROP TABLE call_attempts;
DROP TABLE calls;
