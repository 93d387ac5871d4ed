-- +goose Up
-- Every event of the service, never changed: the replay source.
CREATE TABLE outbox (
    pos         {{.Serial}},
    event_id    {{.Text}} NOT NULL UNIQUE,
    slot        INTEGER NOT NULL,
    topic       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    version     BIGINT  NOT NULL,
    type        TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    time        BIGINT  NOT NULL,
    traceparent TEXT    NOT NULL,
    headers     TEXT    NOT NULL, -- JSON, or empty
    data        {{.Bytes}} NOT NULL
);

-- What the bus has not acknowledged yet. A lane is what keeps its order: topic/key. SQLite numbers rows
-- by a column only if it is called INTEGER, which is too small for PostgreSQL.
CREATE TABLE outbox_unsent (
    pos  {{if eq .Bytes "BLOB"}}INTEGER{{else}}BIGINT{{end}} PRIMARY KEY,
    slot INTEGER NOT NULL,
    lane TEXT    NOT NULL
);

-- Lanes whose oldest event could not be sent while others could.
CREATE TABLE outbox_blocked (
    lane       TEXT    PRIMARY KEY,
    slot       INTEGER NOT NULL,
    pos        BIGINT  NOT NULL, -- of that event
    attempts   INTEGER NOT NULL,
    refused    INTEGER NOT NULL, -- 1: for what it is
    parked     INTEGER NOT NULL, -- 1: not tried any more
    retry_at   BIGINT  NOT NULL,
    last_error TEXT    NOT NULL
);

-- The keys are divided into slots, each held by one relay until its lease runs out.
CREATE TABLE outbox_slots (
    slot  INTEGER PRIMARY KEY,
    owner TEXT    NOT NULL,
    until BIGINT  NOT NULL
);
INSERT INTO outbox_slots (slot, owner, until) VALUES
    (0, '', 0), (1, '', 0), (2, '', 0), (3, '', 0), (4, '', 0), (5, '', 0), (6, '', 0), (7, '', 0),
    (8, '', 0), (9, '', 0), (10, '', 0), (11, '', 0), (12, '', 0), (13, '', 0), (14, '', 0), (15, '', 0);

CREATE TABLE outbox_relays (
    owner TEXT   PRIMARY KEY,
    until BIGINT NOT NULL
);

-- Up to where the embedded bus has everything on its disk.
CREATE TABLE outbox_checkpoint (
    id        INTEGER PRIMARY KEY,
    log       TEXT    NOT NULL,
    pos       BIGINT  NOT NULL,
    replaying INTEGER NOT NULL
);

-- +goose Down
DROP TABLE outbox_checkpoint;
DROP TABLE outbox_relays;
DROP TABLE outbox_slots;
DROP TABLE outbox_blocked;
DROP TABLE outbox_unsent;
DROP TABLE outbox;
