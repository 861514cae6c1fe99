-- What it allows: a database that was empty may be used by nodes; nothing older exists.
--
-- Times are milliseconds since 1970 by the database's clock, given as parameters: no text calls
-- SQLite's time functions. Booleans are 0 or 1. Tables whose key is a text are WITHOUT ROWID, so a row
-- is one entry of one tree.

CREATE TABLE cluster_meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One row a node name; the incarnation counts the lives of that name. `ended_at` is when a life was ended, in
-- order or not; `falls` how many short lives in a row ended without order; `member_of` the numbers of the groups
-- it is a member of; `ttl_ms` how long a lease of this life is: everybody judges it by that.
CREATE TABLE nodes (
    node        TEXT    NOT NULL PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    address     TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ttl_ms      INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL DEFAULT 0,
    weight      INTEGER NOT NULL DEFAULT 1,
    falls       INTEGER NOT NULL DEFAULT 0,
    member_of   TEXT    NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- The rows of nodes that are long gone are deleted; no name begins again at or below the highest incarnation
-- of those, so that none is ever used twice. One row, locked before any of nodes.
CREATE TABLE pruned_lives (
    highest INTEGER NOT NULL
);
INSERT INTO pruned_lives (highest) VALUES (0);

-- Groups of shards. Group `number` has the shards from number * count on, count of them, where count is in
-- cluster_meta. Rows are only ever added.
CREATE TABLE shard_groups (
    name   TEXT    NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE
) WITHOUT ROWID;
INSERT INTO shard_groups (name, number) VALUES ('default', 0);

-- Every kind that a node ever hosted. Its group never changes; the rest is what the node said that started
-- last. `receives` names events with a space between them.
CREATE TABLE kinds (
    kind        TEXT    NOT NULL PRIMARY KEY,
    shard_group TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    exposed     INTEGER NOT NULL,
    receives    TEXT    NOT NULL
) WITHOUT ROWID;

-- Which nodes host which kinds: a kind that nobody hosts any more receives nothing.
CREATE TABLE hosts (
    kind TEXT NOT NULL,
    node TEXT NOT NULL,
    PRIMARY KEY (kind, node)
) WITHOUT ROWID;

-- Ownership. A shard without an owner was released; its incarnation means nothing then. Until `quiet_until` a
-- former owner may not know that it lost it: singletons begin later.
CREATE TABLE shards (
    shard       INTEGER NOT NULL PRIMARY KEY,
    owner       TEXT,
    incarnation INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    quiet_until INTEGER NOT NULL DEFAULT 0
);

-- Who makes ids under which of the 1024 numbers, and from when until when. A row is for ever.
CREATE TABLE machine_ids (
    machine     INTEGER NOT NULL PRIMARY KEY,
    node        TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    from_ms     INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL
);
CREATE INDEX machine_ids_node ON machine_ids (node);
INSERT INTO machine_ids (machine, node, incarnation, from_ms, until_ms)
WITH RECURSIVE numbers (machine) AS (SELECT 0 UNION ALL SELECT machine + 1 FROM numbers WHERE machine < 1023)
SELECT machine, '', 0, 0, 0 FROM numbers;

-- Who saw a node dead before its lease ran out, and who said so wrongly.
CREATE TABLE suspicions (
    node        TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    witness     TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (node, incarnation, witness)
) WITHOUT ROWID;
CREATE TABLE distrust (
    witness TEXT    NOT NULL PRIMARY KEY,
    until   INTEGER NOT NULL
) WITHOUT ROWID;

-- Shards that a life of a node cannot serve: a newer program wrote something in them.
CREATE TABLE declined (
    shard       INTEGER NOT NULL,
    node        TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    PRIMARY KEY (shard, node)
) WITHOUT ROWID;

-- One row a durable entity. `version` counts its writes, `base` is the version the last write was
-- made from, `shape` the version of the kind's state type.
CREATE TABLE entities (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    shard      INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    base       INTEGER NOT NULL,
    shape      INTEGER NOT NULL,
    state      BLOB    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

-- Outcomes of calls, kept so that a repeat finds them. `hash` is of method and arguments. The id comes
-- first in the key: ids made by a node count up, so its rows land side by side instead of one a page.
CREATE TABLE replies (
    kind       TEXT    NOT NULL,
    entity     TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    shard      INTEGER NOT NULL,
    hash       INTEGER NOT NULL,
    ok         INTEGER NOT NULL,
    outcome    BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (id, kind, entity)
) WITHOUT ROWID;
CREATE INDEX replies_expired ON replies (expires_at);

-- Stored messages. Without `due_at` a message is ready and handled in the order of `seq`; with it, it
-- is a timer. AUTOINCREMENT: a number is never used twice, not even after the newest row was deleted.
CREATE TABLE mailbox (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    shard      INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    entity     TEXT    NOT NULL,
    id         BLOB    NOT NULL UNIQUE,
    method     TEXT    NOT NULL,
    codec      TEXT    NOT NULL,
    args       BLOB    NOT NULL,
    context    BLOB    NOT NULL,
    due_at     INTEGER,
    expires_at INTEGER,
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    created_at INTEGER NOT NULL
);
CREATE INDEX mailbox_due ON mailbox (due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX mailbox_entity ON mailbox (kind, entity, seq) WHERE due_at IS NULL;
-- One node owns all shards of a SQLite database: ready messages are read in order, whatever their shard,
-- past any number of timers.
CREATE INDEX mailbox_ready ON mailbox (seq, shard, created_at) WHERE due_at IS NULL;
CREATE INDEX mailbox_expired ON mailbox (expires_at) WHERE expires_at IS NOT NULL;

-- Messages that were given up, as they were, with what happened. `what` says which table they left.
CREATE TABLE dead_letters (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    what       TEXT    NOT NULL,
    shard      INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    entity     TEXT    NOT NULL,
    id         BLOB    NOT NULL UNIQUE,
    method     TEXT    NOT NULL,
    codec      TEXT    NOT NULL,
    args       BLOB    NOT NULL,
    context    BLOB    NOT NULL,
    due_at     INTEGER,
    expires_at INTEGER,
    attempts   INTEGER NOT NULL,
    error      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    died_at    INTEGER NOT NULL
);
CREATE INDEX dead_letters_died ON dead_letters (died_at);

-- The counter of each topic: `last_offset` is its newest event's; `epoch` a random number that tells
-- this history from another one of the same name.
CREATE TABLE streams (
    topic       TEXT    NOT NULL PRIMARY KEY,
    epoch       INTEGER NOT NULL,
    last_offset INTEGER NOT NULL
) WITHOUT ROWID;

-- The newest events of each topic.
CREATE TABLE events (
    topic        TEXT    NOT NULL,
    event_offset INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    key          TEXT,
    data         BLOB    NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (topic, event_offset)
) WITHOUT ROWID;

-- Sagas. `state` is the word the outside sees; `reason` says what a suspended run waits for, `wake_at`
-- when it is woken at the latest.
CREATE TABLE runs (
    kind        TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    shard       INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    input       BLOB    NOT NULL,
    context     BLOB    NOT NULL,
    result      BLOB,
    error       BLOB,
    wake_at     INTEGER,
    reason      TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    finished_at INTEGER,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX runs_state ON runs (state, kind, id);
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- What runs did, append only; `seq` counts from 1 within a run.
CREATE TABLE journal (
    kind  TEXT    NOT NULL,
    run   TEXT    NOT NULL,
    seq   INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    entry BLOB    NOT NULL,
    at    INTEGER NOT NULL,
    PRIMARY KEY (kind, run, seq)
) WITHOUT ROWID;
