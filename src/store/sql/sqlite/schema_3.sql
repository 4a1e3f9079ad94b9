-- The oldest version whose programs may use this file.
ALTER TABLE punctual_meta ADD COLUMN min_version INTEGER NOT NULL DEFAULT 1;

-- The tokens of the writes before the last, in hexadecimal digits, the latest first.
ALTER TABLE punctual_jobs ADD COLUMN earlier_tokens TEXT NOT NULL DEFAULT '';

-- The number of heartbeats of a node. A trigger counts them, since programs of an older version send
-- heartbeats without counting.
ALTER TABLE punctual_nodes ADD COLUMN beats INTEGER NOT NULL DEFAULT 1;
CREATE TRIGGER punctual_nodes_beat AFTER UPDATE OF lease_until ON punctual_nodes BEGIN
    UPDATE punctual_nodes SET beats = beats + 1 WHERE node = new.node;
END;

-- How often a run whose node died is run again, and how many of these recoveries are left.
ALTER TABLE punctual_jobs ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;
ALTER TABLE punctual_ledger ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;

-- The closed rows of the ledger in order of their ends, for pruning. Every closed row has its end, unless it
-- was closed by hand: those come first.
UPDATE punctual_ledger SET ended_at = last WHERE fate IS NOT NULL AND ended_at IS NULL;
CREATE INDEX punctual_ledger_closed ON punctual_ledger (kind, ended_at, incarnation, number)
    WHERE ended_at IS NOT NULL OR fate IS NOT NULL;

-- For each kind, the position up to which the jobs were checked for too many rows.
CREATE TABLE punctual_pruned (
    kind        INTEGER PRIMARY KEY,
    ended_at    INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    number      INTEGER NOT NULL
) STRICT;

-- The node that claimed a row last, when the row was due, who requested it, and its trace.
ALTER TABLE punctual_ledger ADD COLUMN last_node INTEGER;
ALTER TABLE punctual_ledger ADD COLUMN due INTEGER;
ALTER TABLE punctual_ledger ADD COLUMN requested_by TEXT;
ALTER TABLE punctual_ledger ADD COLUMN trace_id TEXT;

-- The node that has claimed rows of the job: other nodes skip the job without reading the ledger.
ALTER TABLE punctual_jobs ADD COLUMN holder INTEGER;
-- Whether the job has waiting rows of requested runs, which count while the job is paused, too.
ALTER TABLE punctual_jobs ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;

UPDATE punctual_jobs SET
    holder = (SELECT max(node) FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = punctual_jobs.incarnation AND l.fate IS NULL),
    waiting = EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = punctual_jobs.incarnation AND l.fate IS NULL AND l.node IS NULL),
    asked = EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = punctual_jobs.incarnation AND l.fate IS NULL AND l.node IS NULL AND l.kind = 1);

-- Older programs name this index, and it still serves their statements.
DROP INDEX punctual_jobs_due;
CREATE INDEX punctual_jobs_due ON punctual_jobs (task, holder, next_fire)
    WHERE paused = 0 AND next_fire IS NOT NULL;

-- Jobs with waiting rows that count.
CREATE INDEX punctual_jobs_ready ON punctual_jobs (task, holder)
    WHERE waiting = 1 AND (paused = 0 OR asked = 1);

-- The claimed rows of each node, and the waiting rows. Older programs use punctual_ledger_open and
-- punctual_ledger_taken for them, which a file that no older program has opened does not have.
CREATE INDEX punctual_ledger_by_node ON punctual_ledger (node, incarnation, kind, number)
    WHERE fate IS NULL;

-- Updates the columns of a job to its open rows, of which `node` has just claimed one unless it is NULL.
-- The triggers below insert into this view rather than update the job: the start of a trigger costs time
-- for each column that it writes, even if its condition is false.
CREATE VIEW punctual_recount AS SELECT incarnation, holder AS node FROM punctual_jobs;
CREATE TRIGGER punctual_job_is_recounted INSTEAD OF INSERT ON punctual_recount BEGIN
    UPDATE punctual_jobs SET
        holder = coalesce(NEW.node, (SELECT l.node
            FROM punctual_ledger AS l INDEXED BY punctual_ledger_by_node
            WHERE l.fate IS NULL AND l.node = punctual_jobs.holder AND l.incarnation = NEW.incarnation
            LIMIT 1)),
        waiting = EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_by_node
            WHERE l.fate IS NULL AND l.node IS NULL AND l.incarnation = NEW.incarnation),
        asked = EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_by_node
            WHERE l.fate IS NULL AND l.node IS NULL AND l.incarnation = NEW.incarnation AND l.kind = 1)
        WHERE incarnation = NEW.incarnation;
END;

-- Older programs, and people who repair the file, write rows without updating these columns, so triggers
-- do. When this program claims a new row, or closes a claimed one, it updates the columns itself, and marks
-- the row: a claimed row has its last node, which older programs do not write, and a closed row has `take` 0,
-- which nobody else writes, since the numbers of claims start at 1.
CREATE TRIGGER punctual_open_row_is_put AFTER INSERT ON punctual_ledger
WHEN (NEW.node IS NULL OR NEW.node IS NOT NEW.last_node) AND NEW.take IS NOT 0 BEGIN
    INSERT INTO punctual_recount VALUES (NEW.incarnation, NEW.node);
END;

CREATE TRIGGER punctual_open_row_is_changed AFTER UPDATE OF node, fate ON punctual_ledger
WHEN (NEW.take IS NOT 0 OR OLD.take IS 0)
    AND (NEW.node IS NOT OLD.node OR (NEW.fate IS NULL) <> (OLD.fate IS NULL)) BEGIN
    INSERT INTO punctual_recount VALUES (NEW.incarnation, NEW.node);
END;

-- This program never deletes open rows; people who repair the file may.
CREATE TRIGGER punctual_open_row_is_deleted AFTER DELETE ON punctual_ledger
WHEN OLD.fate IS NULL BEGIN
    INSERT INTO punctual_recount VALUES (OLD.incarnation, NULL);
END;

-- A record that is replaced or put back by hand keeps its open rows. A new record has no rows yet.
CREATE VIEW punctual_put_back AS SELECT incarnation FROM punctual_jobs;
CREATE TRIGGER punctual_job_is_put_back INSTEAD OF INSERT ON punctual_put_back BEGIN
    INSERT INTO punctual_recount SELECT NEW.incarnation, max(node)
        FROM punctual_ledger WHERE incarnation = NEW.incarnation AND fate IS NULL;
END;
CREATE TRIGGER punctual_job_is_put AFTER INSERT ON punctual_jobs
WHEN NEW.holder IS NOT NULL OR NEW.waiting <> 0
    OR EXISTS (SELECT 1 FROM punctual_ledger WHERE incarnation = NEW.incarnation) BEGIN
    INSERT INTO punctual_put_back VALUES (NEW.incarnation);
END;

-- Who paused a job, and the fields of later versions.
ALTER TABLE punctual_jobs ADD COLUMN paused_by TEXT;
ALTER TABLE punctual_jobs ADD COLUMN paused_because TEXT;
ALTER TABLE punctual_jobs ADD COLUMN extra TEXT NOT NULL DEFAULT '{}';

ALTER TABLE punctual_nodes ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE punctual_nodes ADD COLUMN clock_offset INTEGER; -- in milliseconds

-- The action log.
CREATE TABLE punctual_actions (
    at          INTEGER NOT NULL,
    token       INTEGER NOT NULL, -- that of the write
    job         TEXT    NOT NULL,
    incarnation INTEGER NOT NULL,
    what        TEXT    NOT NULL,
    by          TEXT    NOT NULL,
    because     TEXT,
    PRIMARY KEY (at, token)
) STRICT, WITHOUT ROWID;

DROP VIEW punctual_jobs_view;
CREATE VIEW punctual_jobs_view AS
SELECT id, task, args, trigger, options, name, tags,
    strftime('%Y-%m-%dT%H:%M:%fZ', next_fire / 1000.0, 'unixepoch') AS next_fire,
    paused, paused_by, paused_because, recover,
    (SELECT count(*) FROM punctual_ledger AS l INDEXED BY punctual_ledger_by_node
        WHERE l.fate IS NULL AND l.node = j.holder AND l.incarnation = j.incarnation) AS taken,
    strftime('%Y-%m-%dT%H:%M:%fZ', added_at / 1000.0, 'unixepoch') AS added_at,
    version, fence, format('%016x', incarnation) AS incarnation
FROM punctual_jobs AS j;

DROP VIEW punctual_ledger_view;
CREATE VIEW punctual_ledger_view AS
SELECT job,
    CASE kind WHEN 0 THEN 'scheduled' WHEN 1 THEN 'requested' ELSE 'ended' END AS kind,
    strftime('%Y-%m-%dT%H:%M:%fZ', fire_time / 1000.0, 'unixepoch') AS fire_time,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(due, fire_time) / 1000.0, 'unixepoch') AS due,
    strftime('%Y-%m-%dT%H:%M:%fZ', last / 1000.0, 'unixepoch') AS last,
    count, coalesced,
    CASE WHEN fate IS NOT NULL THEN fate WHEN node IS NULL THEN 'waiting' ELSE 'taken' END AS state,
    CASE WHEN coalesce(node, last_node) IS NOT NULL
        THEN format('%016x', coalesce(node, last_node)) END AS node,
    attempt, requested_by,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', ended_at / 1000.0, 'unixepoch') AS ended_at,
    message, trace_id, fence, format('%016x', incarnation) AS incarnation
FROM punctual_ledger;

CREATE VIEW punctual_nodes_view AS
SELECT format('%016x', node) AS node, name, version, clock_offset / 1000.0 AS clock_offset,
    strftime('%Y-%m-%dT%H:%M:%fZ', lease_until / 1000.0, 'unixepoch') AS lease_until
FROM punctual_nodes;

CREATE VIEW punctual_actions_view AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch') AS at, job, what, by, because,
    format('%016x', incarnation) AS incarnation
FROM punctual_actions;
