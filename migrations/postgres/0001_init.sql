-- What it allows: a schema that was empty may be used by nodes; nothing older exists.
--
-- Times are milliseconds since 1970 by the database's clock. All integers are bigint, so that each is read
-- the same way. Texts of keys compare by their bytes, whatever the database's language: nodes sort rows that
-- way before they lock them. The table cluster_meta is made before the first migration, which locks its row.

-- The database's clock: one time for a whole transaction. A clock that moved inside one (clock_timestamp)
-- could not be looked up in an index, and a statement that waited would judge leases by another time than
-- the one before it. What waits judges with an old clock, and errs to the safe side by that: a lease it
-- renews ends earlier, a lease it wants to take over counts as held longer.
CREATE FUNCTION actor_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT floor(extract(epoch FROM now()) * 1000)::bigint $$;

-- One row a node name; the incarnation counts the lives of that name. `ended_at` is when a life was ended, in
-- order or not; `falls` how many short lives in a row ended without order; `member_of` the numbers of the groups
-- it is a member of; `ttl_ms` how long a lease of this life is: everybody judges it by that. Changed every few seconds
-- in place: there is room on the page and no index on what changes.
CREATE TABLE nodes (
    node        text COLLATE "C" NOT NULL PRIMARY KEY,
    incarnation bigint NOT NULL,
    address     text   NOT NULL,
    state       text   NOT NULL,
    expires_at  bigint NOT NULL,
    started_at  bigint NOT NULL,
    ttl_ms      bigint NOT NULL,
    ended_at    bigint NOT NULL DEFAULT 0,
    weight      bigint NOT NULL DEFAULT 1,
    falls       bigint NOT NULL DEFAULT 0,
    member_of   text   NOT NULL DEFAULT ''
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- The rows of nodes that are long gone are deleted; no name begins again at or below the highest incarnation
-- of those, so that none is ever used twice. One row, locked before any of nodes.
CREATE TABLE pruned_lives (
    highest bigint NOT NULL
);
INSERT INTO pruned_lives (highest) VALUES (0);

-- Groups of shards. Group `number` has the shards from number * count on, count of them, where count is in
-- cluster_meta. Rows are only ever added.
CREATE TABLE shard_groups (
    name   text COLLATE "C" NOT NULL PRIMARY KEY,
    number bigint NOT NULL UNIQUE
);
INSERT INTO shard_groups (name, number) VALUES ('default', 0);

-- Every kind that a node ever hosted. Its group never changes; the rest is what the node said that started
-- last. `receives` names events with a space between them.
CREATE TABLE kinds (
    kind        text COLLATE "C" NOT NULL PRIMARY KEY,
    shard_group text COLLATE "C" NOT NULL,
    role        text   NOT NULL,
    exposed     bigint NOT NULL,
    receives    text   NOT NULL
);

-- Which nodes host which kinds: a kind that nobody hosts any more receives nothing.
CREATE TABLE hosts (
    kind text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, node)
);

-- Ownership. A shard without an owner was released; its incarnation means nothing then. Until `quiet_until` a
-- former owner may not know that it lost it: singletons begin later.
CREATE TABLE shards (
    shard       bigint NOT NULL PRIMARY KEY,
    owner       text COLLATE "C",
    incarnation bigint NOT NULL,
    epoch       bigint NOT NULL,
    quiet_until bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Who makes ids under which of the 1024 numbers, and from when until when. A row is for ever, and changed in
-- place every half a minute while its node makes ids.
CREATE TABLE machine_ids (
    machine     bigint NOT NULL PRIMARY KEY,
    node        text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    from_ms     bigint NOT NULL,
    until_ms    bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX machine_ids_node ON machine_ids (node);
INSERT INTO machine_ids (machine, node, incarnation, from_ms, until_ms)
SELECT machine, '', 0, 0, 0 FROM generate_series(0::bigint, 1023) AS machine;

-- Who saw a node dead before its lease ran out, and who said so wrongly.
CREATE TABLE suspicions (
    node        text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    witness     text COLLATE "C" NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (node, incarnation, witness)
);
CREATE TABLE distrust (
    witness text COLLATE "C" NOT NULL PRIMARY KEY,
    until   bigint NOT NULL
);

-- Shards that a life of a node cannot serve: a newer program wrote something in them.
CREATE TABLE declined (
    shard       bigint NOT NULL,
    node        text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    PRIMARY KEY (shard, node)
);

-- One row a durable entity. `version` counts its writes, `base` is the version the last write was
-- made from, `shape` the version of the kind's state type. Room on the page, since states are replaced.
CREATE TABLE entities (
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    shard      bigint NOT NULL,
    version    bigint NOT NULL,
    base       bigint NOT NULL,
    shape      bigint NOT NULL,
    state      bytea  NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.05);

-- Outcomes of calls, kept so that a repeat finds them. `hash` is of method and arguments. The id comes
-- first in the key: ids made by a node count up, so its rows land side by side instead of one a page.
CREATE TABLE replies (
    kind       text COLLATE "C" NOT NULL,
    entity     text COLLATE "C" NOT NULL,
    id         bytea  NOT NULL,
    shard      bigint NOT NULL,
    hash       bigint NOT NULL,
    ok         bigint NOT NULL,
    outcome    bytea  NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (id, kind, entity)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX replies_expired ON replies (expires_at);

-- Stored messages. Without `due_at` a message is ready and handled in the order of `seq`; with it, it
-- is a timer. Numbers are never used twice; they may have gaps, and become visible out of order where
-- several lanes commit, but never within one shard.
CREATE TABLE mailbox (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard      bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    entity     text COLLATE "C" NOT NULL,
    id         bytea  NOT NULL UNIQUE,
    method     text   NOT NULL,
    codec      text   NOT NULL,
    args       bytea  NOT NULL,
    context    bytea  NOT NULL,
    due_at     bigint,
    expires_at bigint,
    attempts   bigint NOT NULL DEFAULT 0,
    last_error text,
    created_at bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX mailbox_due ON mailbox (due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX mailbox_entity ON mailbox (kind, entity, seq) WHERE due_at IS NULL;
-- Ready messages are read in order, past any number of timers; the shards that are another node's are
-- passed over inside the index.
CREATE INDEX mailbox_ready ON mailbox (seq, shard, created_at) WHERE due_at IS NULL;
CREATE INDEX mailbox_expired ON mailbox (expires_at) WHERE expires_at IS NOT NULL;

-- Messages that were given up, as they were, with what happened. `what` says which table they left.
CREATE TABLE dead_letters (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what       text   NOT NULL,
    shard      bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    entity     text COLLATE "C" NOT NULL,
    id         bytea  NOT NULL UNIQUE,
    method     text   NOT NULL,
    codec      text   NOT NULL,
    args       bytea  NOT NULL,
    context    bytea  NOT NULL,
    due_at     bigint,
    expires_at bigint,
    attempts   bigint NOT NULL,
    error      text   NOT NULL,
    created_at bigint NOT NULL,
    died_at    bigint NOT NULL
);
CREATE INDEX dead_letters_died ON dead_letters (died_at);

-- The counter of each topic: `last_offset` is its newest event's; `epoch` a random number that tells
-- this history from another one of the same name.
CREATE TABLE streams (
    topic       text COLLATE "C" NOT NULL PRIMARY KEY,
    epoch       bigint NOT NULL,
    last_offset bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The newest events of each topic.
CREATE TABLE events (
    topic        text COLLATE "C" NOT NULL,
    event_offset bigint NOT NULL,
    name         text   NOT NULL,
    key          text,
    data         bytea  NOT NULL,
    at           bigint NOT NULL,
    PRIMARY KEY (topic, event_offset)
);

-- Sagas. `state` is the word the outside sees; `reason` says what a suspended run waits for, `wake_at`
-- when it is woken at the latest.
CREATE TABLE runs (
    kind        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    shard       bigint NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    input       bytea  NOT NULL,
    context     bytea  NOT NULL,
    result      bytea,
    error       bytea,
    wake_at     bigint,
    reason      text,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    finished_at bigint,
    PRIMARY KEY (kind, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX runs_state ON runs (state, kind, id);
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- What runs did, append only; `seq` counts from 1 within a run.
CREATE TABLE journal (
    kind  text COLLATE "C" NOT NULL,
    run   text COLLATE "C" NOT NULL,
    seq   bigint NOT NULL,
    shard bigint NOT NULL,
    entry bytea  NOT NULL,
    at    bigint NOT NULL,
    PRIMARY KEY (kind, run, seq)
);
