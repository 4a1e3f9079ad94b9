CREATE TABLE punctual_meta (version INTEGER NOT NULL) STRICT;
INSERT INTO punctual_meta VALUES (0);

-- Instants are milliseconds since 1970; the views show them as texts.
CREATE TABLE punctual_jobs (
    incarnation INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    version     INTEGER NOT NULL,
    fence       INTEGER NOT NULL,
    requests    INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    task        TEXT    NOT NULL,
    args        TEXT    NOT NULL,
    trigger     TEXT    NOT NULL,
    options     TEXT    NOT NULL,
    name        TEXT,
    tags        TEXT    NOT NULL,
    declared    TEXT,
    added_at    INTEGER NOT NULL,
    next_fire   INTEGER,
    paused      INTEGER NOT NULL,
    resumed_at  INTEGER,
    taken_to    INTEGER,
    recover     INTEGER NOT NULL,
    -- Whether it may have waiting rows in the ledger.
    waiting     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A take asks for each task that its node knows: jobs of others cost it nothing.
CREATE INDEX punctual_jobs_due ON punctual_jobs (task, next_fire)
    WHERE paused = 0 AND next_fire IS NOT NULL;
CREATE INDEX punctual_jobs_waiting ON punctual_jobs (task) WHERE waiting = 1;

CREATE TABLE punctual_ledger (
    incarnation INTEGER NOT NULL,
    kind        INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2), -- scheduled, requested, ended
    number      INTEGER NOT NULL,
    job         TEXT    NOT NULL,
    fire_time   INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    coalesced   INTEGER NOT NULL,
    node        INTEGER, -- who has taken it
    fate        TEXT,    -- what became of it; waiting if it has neither
    fence       INTEGER NOT NULL,
    take        INTEGER,
    attempt     INTEGER NOT NULL,
    recover     INTEGER NOT NULL,
    started_at  INTEGER,
    ended_at    INTEGER,
    message     TEXT,
    PRIMARY KEY (incarnation, kind, number),
    CHECK (node IS NULL OR fate IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX punctual_ledger_open ON punctual_ledger (incarnation, node) WHERE fate IS NULL;
CREATE INDEX punctual_ledger_taken ON punctual_ledger (node) WHERE node IS NOT NULL;

CREATE TABLE punctual_nodes (
    node        INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL,
    lease_until INTEGER NOT NULL,
    lease       INTEGER NOT NULL, -- how long it is
    take        INTEGER -- the number of its last
) STRICT;

CREATE VIEW punctual_jobs_view AS
SELECT id, task, args, trigger, options, name, tags,
    strftime('%Y-%m-%dT%H:%M:%fZ', next_fire / 1000.0, 'unixepoch') AS next_fire,
    paused, recover,
    (SELECT count(*) FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = j.incarnation AND l.fate IS NULL AND l.node IS NOT NULL) AS taken,
    strftime('%Y-%m-%dT%H:%M:%fZ', added_at / 1000.0, 'unixepoch') AS added_at,
    version, fence, format('%016x', incarnation) AS incarnation
FROM punctual_jobs AS j;

CREATE VIEW punctual_ledger_view AS
SELECT job,
    CASE kind WHEN 0 THEN 'scheduled' WHEN 1 THEN 'requested' ELSE 'ended' END AS kind,
    strftime('%Y-%m-%dT%H:%M:%fZ', fire_time / 1000.0, 'unixepoch') AS fire_time,
    strftime('%Y-%m-%dT%H:%M:%fZ', last / 1000.0, 'unixepoch') AS last,
    count, coalesced,
    CASE WHEN fate IS NOT NULL THEN fate WHEN node IS NULL THEN 'waiting' ELSE 'taken' END AS state,
    format('%016x', node) AS node,
    attempt,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', ended_at / 1000.0, 'unixepoch') AS ended_at,
    message, fence, format('%016x', incarnation) AS incarnation
FROM punctual_ledger;
