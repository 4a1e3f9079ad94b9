-- Times are milliseconds since 1970 by the server's clock. Numbers that use all 64 bits are stored as
-- signed ones. Texts that are compared are bytes, since collations ignore spaces at their ends.

CREATE TABLE IF NOT EXISTS punctual_jobs (
    incarnation    BIGINT           NOT NULL PRIMARY KEY,
    id             VARBINARY(1024)  NOT NULL,
    version        BIGINT           NOT NULL,
    fence          BIGINT           NOT NULL, -- that of the last claim
    requests       BIGINT           NOT NULL, -- how many runs were requested
    token          BIGINT           NOT NULL, -- that of the last write
    task           VARBINARY(1024)  NOT NULL,
    args           LONGTEXT         NOT NULL,
    `trigger`      LONGTEXT         NOT NULL,
    options        LONGTEXT         NOT NULL,
    name           LONGTEXT,
    tags           LONGTEXT         NOT NULL, -- as JSON
    declared       LONGTEXT,
    added_at       BIGINT           NOT NULL,
    next_fire      BIGINT,
    paused         BOOLEAN          NOT NULL,
    resumed_at     BIGINT,
    taken_to       BIGINT,
    recover        BOOLEAN          NOT NULL,
    rescheduled_at BIGINT,
    remember       BOOLEAN          NOT NULL,
    earlier_tokens TEXT             NOT NULL, -- those of the writes before, in hexadecimal digits, the latest first
    recoveries     INT              NOT NULL,
    paused_by      LONGTEXT,
    paused_because LONGTEXT,
    extra          LONGTEXT         NOT NULL,
    -- When the job ended, if only its end is remembered.
    ended_at       BIGINT,
    -- The node that has claimed rows of the job. No index has it: the end of a run changes none.
    holder         BIGINT,
    -- How many rows of the job are open: claimed, waiting, and waiting for a requested run.
    claimed        INT              NOT NULL DEFAULT 0,
    waiting        INT              NOT NULL DEFAULT 0,
    asked          INT              NOT NULL DEFAULT 0,
    ready          BOOLEAN AS (waiting > 0 AND (NOT paused OR asked > 0)) STORED,
    UNIQUE KEY punctual_jobs_id (id),
    -- A claim asks for the jobs of each task that its node knows.
    KEY punctual_jobs_due (task, paused, next_fire, incarnation),
    KEY punctual_jobs_ready (task, ready, incarnation),
    KEY punctual_jobs_ended (ended_at, incarnation)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The rows of the ledger without a fate: claimed, or waiting without a node. The row of their job is
-- locked before they change.
CREATE TABLE IF NOT EXISTS punctual_open (
    incarnation  BIGINT          NOT NULL,
    kind         TINYINT         NOT NULL CHECK (kind BETWEEN 0 AND 2), -- scheduled, requested, ended
    number       BIGINT          NOT NULL,
    job          VARBINARY(1024) NOT NULL,
    fire_time    BIGINT          NOT NULL,
    last         BIGINT          NOT NULL,
    count        BIGINT          NOT NULL,
    coalesced    BIGINT          NOT NULL,
    fence        BIGINT          NOT NULL,
    attempt      INT             NOT NULL,
    recover      BOOLEAN         NOT NULL,
    started_at   BIGINT,
    ended_at     BIGINT,
    message      LONGTEXT,
    recoveries   INT             NOT NULL,
    last_node    BIGINT,
    due          BIGINT,
    requested_by LONGTEXT,
    trace_id     LONGTEXT,
    node         BIGINT,
    claim        BIGINT, -- the number of the node's claim
    PRIMARY KEY (incarnation, kind, number),
    KEY punctual_open_by_node (node, incarnation, kind, number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The rows with a fate. A key is either here or among the open rows.
CREATE TABLE IF NOT EXISTS punctual_ledger (
    incarnation  BIGINT          NOT NULL,
    kind         TINYINT         NOT NULL CHECK (kind BETWEEN 0 AND 2),
    number       BIGINT          NOT NULL,
    job          VARBINARY(1024) NOT NULL,
    fire_time    BIGINT          NOT NULL,
    last         BIGINT          NOT NULL,
    count        BIGINT          NOT NULL,
    coalesced    BIGINT          NOT NULL,
    fence        BIGINT          NOT NULL,
    attempt      INT             NOT NULL,
    recover      BOOLEAN         NOT NULL,
    started_at   BIGINT,
    ended_at     BIGINT,
    message      LONGTEXT,
    recoveries   INT             NOT NULL,
    last_node    BIGINT,
    due          BIGINT,
    requested_by LONGTEXT,
    trace_id     LONGTEXT,
    fate         LONGTEXT        NOT NULL,
    PRIMARY KEY (incarnation, kind, number),
    KEY punctual_ledger_closed (kind, ended_at, incarnation, number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS punctual_nodes (
    node         BIGINT   NOT NULL PRIMARY KEY,
    name         LONGTEXT NOT NULL,
    lease_until  BIGINT   NOT NULL,
    lease        BIGINT   NOT NULL, -- how long it is
    version      LONGTEXT NOT NULL,
    clock_offset BIGINT,            -- in milliseconds
    heartbeats   BIGINT   NOT NULL DEFAULT 1,
    claim        BIGINT   NOT NULL DEFAULT 0 -- the number of its last
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who did what to which job.
CREATE TABLE IF NOT EXISTS punctual_actions (
    at          BIGINT          NOT NULL,
    token       BIGINT          NOT NULL, -- that of the write
    job         VARBINARY(1024) NOT NULL,
    incarnation BIGINT          NOT NULL,
    what        LONGTEXT        NOT NULL,
    `by`        LONGTEXT        NOT NULL,
    because     LONGTEXT,
    PRIMARY KEY (at, token)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Up to where, of each kind, it was looked for jobs that have too many rows.
CREATE TABLE IF NOT EXISTS punctual_pruned (
    kind        TINYINT NOT NULL PRIMARY KEY,
    ended_at    BIGINT  NOT NULL,
    incarnation BIGINT  NOT NULL,
    number      BIGINT  NOT NULL
) ENGINE = InnoDB;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW punctual_jobs_view AS
SELECT CONVERT(id USING utf8mb4) AS id, CONVERT(task USING utf8mb4) AS task, args, `trigger`, options, name, tags,
    TIMESTAMP('1970-01-01') + INTERVAL next_fire DIV 1000 SECOND
        + INTERVAL (next_fire MOD 1000) * 1000 MICROSECOND AS next_fire,
    paused, paused_by, paused_because, recover, claimed, waiting,
    TIMESTAMP('1970-01-01') + INTERVAL added_at DIV 1000 SECOND
        + INTERVAL (added_at MOD 1000) * 1000 MICROSECOND AS added_at,
    TIMESTAMP('1970-01-01') + INTERVAL ended_at DIV 1000 SECOND
        + INTERVAL (ended_at MOD 1000) * 1000 MICROSECOND AS ended_at,
    version, fence, LOWER(LPAD(HEX(incarnation), 16, '0')) AS incarnation
FROM punctual_jobs;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW punctual_ledger_view AS
SELECT CONVERT(job USING utf8mb4) AS job, ELT(kind + 1, 'scheduled', 'requested', 'ended') AS kind,
    TIMESTAMP('1970-01-01') + INTERVAL fire_time DIV 1000 SECOND
        + INTERVAL (fire_time MOD 1000) * 1000 MICROSECOND AS fire_time,
    TIMESTAMP('1970-01-01') + INTERVAL COALESCE(due, fire_time) DIV 1000 SECOND
        + INTERVAL (COALESCE(due, fire_time) MOD 1000) * 1000 MICROSECOND AS due,
    TIMESTAMP('1970-01-01') + INTERVAL last DIV 1000 SECOND
        + INTERVAL (last MOD 1000) * 1000 MICROSECOND AS last,
    count, coalesced, CASE WHEN node IS NULL THEN 'waiting' ELSE 'claimed' END AS state,
    LOWER(LPAD(HEX(last_node), 16, '0')) AS node, attempt, requested_by,
    TIMESTAMP('1970-01-01') + INTERVAL started_at DIV 1000 SECOND
        + INTERVAL (started_at MOD 1000) * 1000 MICROSECOND AS started_at,
    CAST(NULL AS DATETIME(6)) AS ended_at,
    message, trace_id, fence, LOWER(LPAD(HEX(incarnation), 16, '0')) AS incarnation
FROM punctual_open
UNION ALL
SELECT CONVERT(job USING utf8mb4), ELT(kind + 1, 'scheduled', 'requested', 'ended'),
    TIMESTAMP('1970-01-01') + INTERVAL fire_time DIV 1000 SECOND
        + INTERVAL (fire_time MOD 1000) * 1000 MICROSECOND,
    TIMESTAMP('1970-01-01') + INTERVAL COALESCE(due, fire_time) DIV 1000 SECOND
        + INTERVAL (COALESCE(due, fire_time) MOD 1000) * 1000 MICROSECOND,
    TIMESTAMP('1970-01-01') + INTERVAL last DIV 1000 SECOND
        + INTERVAL (last MOD 1000) * 1000 MICROSECOND,
    count, coalesced, fate, LOWER(LPAD(HEX(last_node), 16, '0')), attempt, requested_by,
    TIMESTAMP('1970-01-01') + INTERVAL started_at DIV 1000 SECOND
        + INTERVAL (started_at MOD 1000) * 1000 MICROSECOND,
    TIMESTAMP('1970-01-01') + INTERVAL ended_at DIV 1000 SECOND
        + INTERVAL (ended_at MOD 1000) * 1000 MICROSECOND,
    message, trace_id, fence, LOWER(LPAD(HEX(incarnation), 16, '0'))
FROM punctual_ledger;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW punctual_nodes_view AS
SELECT LOWER(LPAD(HEX(node), 16, '0')) AS node, name, version, clock_offset / 1000 AS clock_offset,
    TIMESTAMP('1970-01-01') + INTERVAL lease_until DIV 1000 SECOND
        + INTERVAL (lease_until MOD 1000) * 1000 MICROSECOND AS lease_until, heartbeats
FROM punctual_nodes;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW punctual_actions_view AS
SELECT TIMESTAMP('1970-01-01') + INTERVAL at DIV 1000 SECOND
        + INTERVAL (at MOD 1000) * 1000 MICROSECOND AS at,
    CONVERT(job USING utf8mb4) AS job, what, `by`, because,
    LOWER(LPAD(HEX(incarnation), 16, '0')) AS incarnation
FROM punctual_actions;

-- Last, so that what ended half way begins anew.
CREATE TABLE IF NOT EXISTS punctual_meta (
    id          TINYINT NOT NULL PRIMARY KEY,
    version     INT     NOT NULL,
    min_version INT     NOT NULL
) ENGINE = InnoDB;
