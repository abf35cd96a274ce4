-- Version 3 of the schema. `log` has the events of all writers in one order; the other tables are derived from it.
-- `database.py` adds the tables of retention.sql, and the view `last`, from which topology.sql builds the tables that
-- users query.

CREATE TABLE log (
    id    INTEGER PRIMARY KEY,  -- the position; never used again, because the newest row is never removed
    asset TEXT NOT NULL,
    attr  TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)), -- JSON, which keeps 1, 1.0, true and "1" apart
    type  TEXT NOT NULL,
    tag   TEXT NOT NULL,
    ts    TEXT NOT NULL,
    attributes TEXT CHECK (attributes IS NULL OR json_valid(attributes)) -- JSON: the properties beside the timestamp
) STRICT; -- strict and checked, so that a foreign tool cannot write rows that stop every reader

-- The position of the last event of each attribute. A position is cheaper to update than a copy of the value.
CREATE TABLE latest (
    asset TEXT NOT NULL,
    attr  TEXT NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (asset, attr)
) WITHOUT ROWID;

CREATE TRIGGER keep_latest AFTER INSERT ON log BEGIN
    INSERT INTO latest VALUES (new.asset, new.attr, new.id) ON CONFLICT (asset, attr) DO UPDATE SET id = excluded.id;
END;

-- An app that starts reads the commands and replies of its past. Events of other tags do not update this index.
CREATE INDEX commands ON log (asset) WHERE tag IN ('Method.Command', 'Method.Reply');

-- The newest position of a removed event: a reader behind it may have missed events. Others below it are still there.
CREATE TABLE trimmed (up_to INTEGER NOT NULL);
INSERT INTO trimmed VALUES (0);
