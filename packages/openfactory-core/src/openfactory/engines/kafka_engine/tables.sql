-- Version 3: the state computed from the log, for queries and for the next start. topology.sql runs after this script.

CREATE TABLE last (
    asset TEXT NOT NULL,
    attr  TEXT NOT NULL,
    value TEXT NOT NULL,    -- JSON
    type  TEXT NOT NULL,
    tag   TEXT NOT NULL,
    ts    TEXT NOT NULL,
    id    INTEGER NOT NULL, -- the position: the offset in the asset's partition plus one
    attributes TEXT,        -- JSON: what travels with the event beside its time
    PRIMARY KEY (asset, attr)
) WITHOUT ROWID;

CREATE TABLE command (
    asset TEXT NOT NULL,
    tag   TEXT NOT NULL,
    id    INTEGER NOT NULL,
    event TEXT NOT NULL,    -- JSON
    PRIMARY KEY (asset, tag, id)
) WITHOUT ROWID;

CREATE TABLE folded (       -- by partition, the offset up to which these tables contain the log
    topic     TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    last_offset       INTEGER,  -- the last record of the partition in these tables, with its time,
    last_milliseconds INTEGER,  -- by which the log is recognised
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE log (id TEXT NOT NULL); -- the cluster, and the ids and numbers of partitions of the topics
