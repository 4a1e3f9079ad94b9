-- The oldest version whose programs may use this file.
ALTER TABLE punctual_meta ADD COLUMN min_version INTEGER NOT NULL DEFAULT 1;

-- The tokens of the writes before the last, in hexadecimal digits, the latest first.
ALTER TABLE punctual_jobs ADD COLUMN earlier_tokens TEXT NOT NULL DEFAULT '';

-- How often a run is run again whose node died, and how often that may still be done.
ALTER TABLE punctual_jobs ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;
ALTER TABLE punctual_ledger ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 3;
