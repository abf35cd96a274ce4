-- Version 1 of the schema. `log` is what was said, in the one order of all writers; the rest is derived from it.
-- The tables that users query are made of `last` by topology.sql.

CREATE TABLE log (
    id    INTEGER PRIMARY KEY,  -- the position; never used twice, because the newest row is never trimmed
    asset TEXT NOT NULL,
    attr  TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)), -- JSON: 1, 1.0, true and "1" stay what they are
    type  TEXT NOT NULL,
    tag   TEXT NOT NULL,
    ts    TEXT NOT NULL
) STRICT; -- strict and checked, so that no foreign tool can write what stops every reader

-- A pointer to the last event of each attribute: cheaper to keep than a second copy of the value.
CREATE TABLE latest (
    asset TEXT NOT NULL,
    attr  TEXT NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (asset, attr)
) WITHOUT ROWID;

CREATE TRIGGER keep_latest AFTER INSERT ON log BEGIN
    INSERT INTO latest VALUES (new.asset, new.attr, new.id) ON CONFLICT (asset, attr) DO UPDATE SET id = excluded.id;
END;

CREATE TRIGGER drop_superseded AFTER UPDATE ON latest WHEN old.id <= (SELECT up_to FROM trimmed) BEGIN
    DELETE FROM log WHERE id = old.id;  -- it was kept beyond its time, because it was the last
END;

-- An app that starts asks which commands were sent and answered before; all other events cost this index nothing.
CREATE INDEX commands ON log (asset) WHERE tag IN ('Method.Command', 'Method.Reply');

-- Up to where the log is trimmed; the last events of attributes stay, wherever they stand.
CREATE TABLE trimmed (up_to INTEGER NOT NULL);
INSERT INTO trimmed VALUES (0);

CREATE VIEW last AS
SELECT log.asset, log.attr, log.value, log.type, log.tag, log.ts, log.id FROM latest JOIN log ON log.id = latest.id;
