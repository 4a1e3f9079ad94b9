CREATE TABLE punctual_meta (version integer NOT NULL, min_version integer NOT NULL);
INSERT INTO punctual_meta VALUES (0, 0);

-- Instants are milliseconds since 1970; the views show them as timestamps. Numbers of 64 bits are
-- signed. Texts that are compared or ordered are so by their bytes.
CREATE TABLE punctual_jobs (
    incarnation    bigint PRIMARY KEY,
    id             text COLLATE "C" NOT NULL UNIQUE,
    version        bigint  NOT NULL,
    fence          bigint  NOT NULL,
    requests       bigint  NOT NULL,
    token          bigint  NOT NULL, -- that of the latest write
    task           text COLLATE "C" NOT NULL,
    args           text    NOT NULL,
    trigger        text    NOT NULL,
    options        text    NOT NULL,
    name           text,
    tags           text    NOT NULL, -- as JSON
    declared       text,
    added_at       bigint  NOT NULL,
    next_fire      bigint,
    paused         boolean NOT NULL,
    resumed_at     bigint,
    taken_to       bigint,
    recover        boolean NOT NULL,
    rescheduled_at bigint,
    remember       boolean NOT NULL,
    earlier_tokens text    NOT NULL, -- those of the writes before, in hexadecimal digits, the latest first
    recoveries     integer NOT NULL,
    paused_by      text,
    paused_because text,
    extra          text    NOT NULL,
    -- When the job ended, if only its end is remembered.
    ended_at       bigint,
    -- The node that has claimed rows of the job. No index has it: the end of a run changes none.
    holder         bigint,
    -- How many rows of the job are open: claimed, waiting, and waiting for a requested run.
    claimed        integer NOT NULL DEFAULT 0,
    waiting        integer NOT NULL DEFAULT 0,
    asked          integer NOT NULL DEFAULT 0,
    -- Raised whenever the record or a waiting row changes: what a claim compares.
    rev            bigint  NOT NULL DEFAULT 0
) WITH (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
    -- A table that has once grown is not made small again: plans for a small one would scan it.
    vacuum_truncate = false
);

-- A claim asks for the jobs of each task that its node knows.
CREATE INDEX punctual_jobs_due ON punctual_jobs (task, next_fire, incarnation)
    WHERE NOT paused AND next_fire IS NOT NULL;
CREATE INDEX punctual_jobs_ready ON punctual_jobs (task, incarnation)
    WHERE waiting > 0 AND (NOT paused OR asked > 0);
CREATE INDEX punctual_jobs_ended ON punctual_jobs (ended_at) WHERE ended_at IS NOT NULL;

-- The rows of the ledger without a fate: claimed, or waiting without a node. The row of their job is
-- locked before they change.
CREATE TABLE punctual_open (
    incarnation  bigint   NOT NULL,
    kind         smallint NOT NULL CHECK (kind BETWEEN 0 AND 2), -- scheduled, requested, ended
    number       bigint   NOT NULL,
    job          text COLLATE "C" NOT NULL,
    fire_time    bigint   NOT NULL,
    last         bigint   NOT NULL,
    count        bigint   NOT NULL,
    coalesced    bigint   NOT NULL,
    fence        bigint   NOT NULL,
    attempt      integer  NOT NULL,
    recover      boolean  NOT NULL,
    started_at   bigint,
    ended_at     bigint,
    message      text,
    recoveries   integer  NOT NULL,
    last_node    bigint,
    due          bigint,
    requested_by text,
    trace_id     text,
    node         bigint,
    claim        bigint, -- the number of the node's claim
    PRIMARY KEY (incarnation, kind, number)
) WITH (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000,
    -- A table that has once grown is not made small again: plans for a small one would scan it.
    vacuum_truncate = false
);

CREATE INDEX punctual_open_by_node ON punctual_open (node, incarnation, kind, number)
    WHERE node IS NOT NULL;

-- The rows with a fate. A key is either here or among the open rows.
CREATE TABLE punctual_ledger (
    incarnation  bigint   NOT NULL,
    kind         smallint NOT NULL CHECK (kind BETWEEN 0 AND 2),
    number       bigint   NOT NULL,
    job          text COLLATE "C" NOT NULL,
    fire_time    bigint   NOT NULL,
    last         bigint   NOT NULL,
    count        bigint   NOT NULL,
    coalesced    bigint   NOT NULL,
    fence        bigint   NOT NULL,
    attempt      integer  NOT NULL,
    recover      boolean  NOT NULL,
    started_at   bigint,
    ended_at     bigint,
    message      text,
    recoveries   integer  NOT NULL,
    last_node    bigint,
    due          bigint,
    requested_by text,
    trace_id     text,
    fate         text     NOT NULL,
    PRIMARY KEY (incarnation, kind, number)
) WITH (vacuum_truncate = false);

CREATE INDEX punctual_ledger_closed ON punctual_ledger (kind, ended_at, incarnation, number)
    WHERE ended_at IS NOT NULL;

CREATE TABLE punctual_nodes (
    node         bigint PRIMARY KEY,
    name         text   NOT NULL,
    lease_until  bigint NOT NULL,
    lease        bigint NOT NULL, -- how long it is
    version      text   NOT NULL,
    clock_offset bigint,          -- in milliseconds
    heartbeats   bigint NOT NULL DEFAULT 1,
    claim        bigint NOT NULL DEFAULT 0 -- the number of its last
) WITH (fillfactor = 50);

-- Who did what to which job.
CREATE TABLE punctual_actions (
    at          bigint NOT NULL,
    token       bigint NOT NULL, -- that of the write
    job         text   NOT NULL,
    incarnation bigint NOT NULL,
    what        text   NOT NULL,
    by          text   NOT NULL,
    because     text,
    PRIMARY KEY (at, token)
);

-- Up to where, of each kind, it was looked for jobs that have too many rows.
CREATE TABLE punctual_pruned (
    kind        smallint PRIMARY KEY,
    ended_at    bigint NOT NULL,
    incarnation bigint NOT NULL,
    number      bigint NOT NULL
);

-- A table of few pages is scanned rather than looked up by its index, and connections keep their plans
-- while it grows. So each begins with some pages, which stay.
INSERT INTO punctual_jobs (incarnation, id, version, fence, requests, token, task, args, trigger, options,
    tags, added_at, paused, recover, remember, earlier_tokens, recoveries, extra)
SELECT i, i, 0, 0, 0, 0, '', repeat('x', 1800), '', '', '', 0, true, false, false, '', 0, ''
FROM generate_series(1, 200) AS i;
INSERT INTO punctual_open (incarnation, kind, number, job, fire_time, last, count, coalesced, fence, attempt,
    recover, recoveries, message)
SELECT i, 0, 0, '', 0, 0, 0, 0, 0, 0, false, 0, repeat('x', 1800) FROM generate_series(1, 200) AS i;
INSERT INTO punctual_ledger (incarnation, kind, number, job, fire_time, last, count, coalesced, fence, attempt,
    recover, recoveries, message, fate)
SELECT i, 0, 0, '', 0, 0, 0, 0, 0, 0, false, 0, repeat('x', 1800), '' FROM generate_series(1, 200) AS i;
DELETE FROM punctual_jobs;
DELETE FROM punctual_open;
DELETE FROM punctual_ledger;

CREATE VIEW punctual_jobs_view AS
SELECT id, task, args, trigger, options, name, tags,
    to_timestamp(greatest(next_fire, -62135596800000) / 1000.0) AS next_fire,
    paused, paused_by, paused_because, recover, claimed, waiting,
    to_timestamp(greatest(added_at, -62135596800000) / 1000.0) AS added_at,
    to_timestamp(greatest(ended_at, -62135596800000) / 1000.0) AS ended_at,
    version, fence, lpad(to_hex(incarnation), 16, '0') AS incarnation
FROM punctual_jobs;

CREATE VIEW punctual_ledger_view AS
SELECT job,
    CASE kind WHEN 0 THEN 'scheduled' WHEN 1 THEN 'requested' ELSE 'ended' END AS kind,
    to_timestamp(greatest(fire_time, -62135596800000) / 1000.0) AS fire_time,
    to_timestamp(greatest(coalesce(due, fire_time), -62135596800000) / 1000.0) AS due,
    to_timestamp(greatest(last, -62135596800000) / 1000.0) AS last,
    count, coalesced, state, lpad(to_hex(last_node), 16, '0') AS node, attempt, requested_by,
    to_timestamp(greatest(started_at, -62135596800000) / 1000.0) AS started_at,
    to_timestamp(greatest(ended_at, -62135596800000) / 1000.0) AS ended_at,
    message, trace_id, fence, lpad(to_hex(incarnation), 16, '0') AS incarnation
FROM (
    SELECT job, kind, fire_time, due, last, count, coalesced,
        CASE WHEN node IS NULL THEN 'waiting' ELSE 'claimed' END AS state, last_node, attempt,
        requested_by, started_at, ended_at, message, trace_id, fence, incarnation
    FROM punctual_open
    UNION ALL
    SELECT job, kind, fire_time, due, last, count, coalesced, fate, last_node, attempt,
        requested_by, started_at, ended_at, message, trace_id, fence, incarnation
    FROM punctual_ledger
) AS every_row;

CREATE VIEW punctual_nodes_view AS
SELECT lpad(to_hex(node), 16, '0') AS node, name, version, clock_offset / 1000.0 AS clock_offset,
    to_timestamp(least(lease_until, 9000000000000000) / 1000.0) AS lease_until, heartbeats
FROM punctual_nodes;

CREATE VIEW punctual_actions_view AS
SELECT to_timestamp(at / 1000.0) AS at, job, what, by, because,
    lpad(to_hex(incarnation), 16, '0') AS incarnation
FROM punctual_actions;
