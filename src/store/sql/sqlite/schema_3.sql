-- The oldest version whose programs may use this file.
ALTER TABLE punctual_meta ADD COLUMN min_version INTEGER NOT NULL DEFAULT 1;

-- The tokens of the writes before the last, in hexadecimal digits, the latest first.
ALTER TABLE punctual_jobs ADD COLUMN earlier_tokens TEXT NOT NULL DEFAULT '';

-- How many signs of life a node has given. They are counted here, since programs of an older version
-- give them, too, and know nothing of it.
ALTER TABLE punctual_nodes ADD COLUMN beats INTEGER NOT NULL DEFAULT 1;
CREATE TRIGGER punctual_nodes_beat AFTER UPDATE OF lease_until ON punctual_nodes BEGIN
    UPDATE punctual_nodes SET beats = beats + 1 WHERE node = new.node;
END;

-- How often a run is run again whose node died, and how often that may still be done.
ALTER TABLE punctual_jobs ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;
ALTER TABLE punctual_ledger ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;

-- The ledger in order of what ended first, for what need not be kept. What has ended says when.
UPDATE punctual_ledger SET ended_at = last WHERE fate IS NOT NULL AND ended_at IS NULL;
CREATE INDEX punctual_ledger_closed ON punctual_ledger (kind, ended_at, incarnation, number)
    WHERE fate IS NOT NULL;

-- Up to where, of each kind, it was looked for jobs that have too many rows.
CREATE TABLE punctual_pruned (
    kind        INTEGER PRIMARY KEY,
    ended_at    INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    number      INTEGER NOT NULL
) STRICT;

-- The node that has taken rows of the job: others pass over it without a look at the ledger. Triggers
-- keep it, and `waiting`, so that they are right also where a program writes that knows nothing of it.
ALTER TABLE punctual_jobs ADD COLUMN holder INTEGER;

UPDATE punctual_jobs SET
    holder = (SELECT max(node) FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = punctual_jobs.incarnation AND l.fate IS NULL),
    waiting = EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
        WHERE l.incarnation = punctual_jobs.incarnation AND l.fate IS NULL AND l.node IS NULL);

-- Older programs name these indexes, and still find in them what they look for.
DROP INDEX punctual_jobs_due;
CREATE INDEX punctual_jobs_due ON punctual_jobs (task, holder, next_fire)
    WHERE paused = 0 AND next_fire IS NOT NULL;
DROP INDEX punctual_jobs_waiting;
CREATE INDEX punctual_jobs_waiting ON punctual_jobs (task, holder) WHERE waiting = 1;

CREATE TRIGGER punctual_row_is_put_taken AFTER INSERT ON punctual_ledger
WHEN NEW.node IS NOT NULL BEGIN
    UPDATE punctual_jobs SET holder = NEW.node
        WHERE incarnation = NEW.incarnation AND holder IS NOT NEW.node;
END;

CREATE TRIGGER punctual_row_is_put_waiting AFTER INSERT ON punctual_ledger
WHEN NEW.node IS NULL AND NEW.fate IS NULL BEGIN
    UPDATE punctual_jobs SET waiting = 1 WHERE incarnation = NEW.incarnation AND waiting = 0;
END;

CREATE TRIGGER punctual_row_is_taken AFTER UPDATE OF node ON punctual_ledger
WHEN NEW.node IS NOT NULL AND NEW.node IS NOT OLD.node BEGIN
    UPDATE punctual_jobs SET holder = NEW.node
        WHERE incarnation = NEW.incarnation AND holder IS NOT NEW.node;
END;

CREATE TRIGGER punctual_row_is_taken_no_more AFTER UPDATE OF node ON punctual_ledger
WHEN OLD.node IS NOT NULL AND NEW.node IS NULL BEGIN
    UPDATE punctual_jobs SET holder = NULL
        WHERE incarnation = NEW.incarnation AND holder = OLD.node
        AND NOT EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
            WHERE l.incarnation = NEW.incarnation AND l.fate IS NULL AND l.node = OLD.node);
END;

CREATE TRIGGER punctual_row_waits AFTER UPDATE OF node, fate ON punctual_ledger
WHEN NEW.node IS NULL AND NEW.fate IS NULL BEGIN
    UPDATE punctual_jobs SET waiting = 1 WHERE incarnation = NEW.incarnation AND waiting = 0;
END;

CREATE TRIGGER punctual_row_waits_no_more AFTER UPDATE OF node, fate ON punctual_ledger
WHEN OLD.node IS NULL AND OLD.fate IS NULL AND (NEW.node IS NOT NULL OR NEW.fate IS NOT NULL) BEGIN
    UPDATE punctual_jobs SET waiting = 0
        WHERE incarnation = NEW.incarnation AND waiting = 1
        AND NOT EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open
            WHERE l.incarnation = NEW.incarnation AND l.fate IS NULL AND l.node IS NULL);
END;
