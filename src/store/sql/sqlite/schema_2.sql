ALTER TABLE punctual_jobs ADD COLUMN rescheduled_at INTEGER;
-- Whether it is remembered when the job is over.
ALTER TABLE punctual_jobs ADD COLUMN remember INTEGER NOT NULL DEFAULT 0;

-- Jobs that are over and may be declared again; the record as JSON.
CREATE TABLE punctual_ended (
    id       TEXT    PRIMARY KEY,
    ended_at INTEGER NOT NULL,
    record   TEXT    NOT NULL
) STRICT;

CREATE INDEX punctual_ended_at ON punctual_ended (ended_at);
