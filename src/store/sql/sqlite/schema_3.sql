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
