-- The tables of version 3 for histories and for the retention. A file of an earlier version gets them empty; the upkeep
-- fills them.

-- The positions of the events of each attribute: a row for each part of the log in which the attribute has events. An
-- index with a row for each event would take half of the speed of writing.
CREATE TABLE IF NOT EXISTS positions (
    asset     TEXT NOT NULL,
    attr      TEXT NOT NULL,
    last      INTEGER NOT NULL, -- the newest of the positions
    first     INTEGER NOT NULL, -- the oldest
    count     INTEGER NOT NULL,
    sample    INTEGER NOT NULL, -- 1 if the newest event is a sample
    since     TEXT,             -- the earliest timestamp, or NULL if not all are in the format of the wire
    until     TEXT,             -- the latest timestamp
    distances TEXT NOT NULL,    -- JSON: how far each position is before `last`, the newest first
    PRIMARY KEY (asset, attr, last)
) STRICT, WITHOUT ROWID;

-- The position up to which `positions` has the log, and the newest position when the bounds were last applied in full;
-- it is -1 after a change of the bounds.
CREATE TABLE IF NOT EXISTS indexed (up_to INTEGER NOT NULL, applied INTEGER NOT NULL) STRICT;
INSERT INTO indexed SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM indexed);

-- The bounds of the log, in one row, from the process that has opened the file last with bounds in its URL.
CREATE TABLE IF NOT EXISTS bounds (
    events       INTEGER NOT NULL,
    days         REAL,          -- NULL for no limit
    samples      INTEGER NOT NULL,
    samples_days REAL,
    pid          INTEGER NOT NULL,
    host         TEXT NOT NULL,
    at           REAL NOT NULL  -- seconds since 1970
) STRICT;

-- The time at which some positions were committed.
CREATE TABLE IF NOT EXISTS committed (id INTEGER PRIMARY KEY, at REAL NOT NULL);

DROP TRIGGER IF EXISTS drop_superseded;
