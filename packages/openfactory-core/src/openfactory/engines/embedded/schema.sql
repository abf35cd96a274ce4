-- Version 1 of the schema. `log` is what was said, in the one order of all writers; the rest is derived from it or
-- holds what only a deregistration or the UNS map can decide.

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

-- What an asset said of itself up to this position no longer registers it.
CREATE TABLE deregistered (
    asset TEXT PRIMARY KEY,
    id    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE uns (
    asset_uuid TEXT PRIMARY KEY,
    uns_id     TEXT,
    uns_levels TEXT,            -- a JSON object: level to name
    updated_at INTEGER NOT NULL -- milliseconds since 1970
) WITHOUT ROWID;

-- The tables of the ksqlDB topology, under their names, with their columns, every value as text.

CREATE VIEW assets AS
SELECT log.asset || '|' || log.attr AS key, log.asset AS asset_uuid, log.attr AS id,
       CASE json_type(log.value)
           WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN NULL
           WHEN 'text' THEN log.value ->> '$'
           ELSE log.value
       END AS value,
       log.type AS type, log.tag AS tag, log.ts AS timestamp
FROM latest JOIN log ON log.id = latest.id;

CREATE VIEW stated AS  -- what registered assets say of themselves
SELECT assets.asset_uuid, assets.id, assets.value, assets.type, latest.id AS position
FROM latest JOIN assets ON assets.asset_uuid = latest.asset AND assets.id = latest.attr
LEFT JOIN deregistered ON deregistered.asset = latest.asset
WHERE latest.attr IN ('AssetType', 'avail', 'agent_avail', 'DockerService')
  AND latest.id > coalesce(deregistered.id, 0);

CREATE VIEW assets_type AS
SELECT asset_uuid, value AS type FROM stated WHERE id = 'AssetType' AND type = 'OpenFactory' AND value IS NOT 'delete';

CREATE VIEW assets_avail AS  -- a bare column beside max() comes from the row that has the maximum
SELECT asset_uuid, availability FROM (
    SELECT asset_uuid, value AS availability, max(position) FROM stated WHERE id IN ('avail', 'agent_avail') GROUP BY asset_uuid
) WHERE availability IS NOT 'delete';

CREATE VIEW docker_services AS
SELECT asset_uuid, value AS docker_service FROM stated WHERE id = 'DockerService' AND type = 'OpenFactory';

CREATE VIEW asset_to_uns_map AS SELECT asset_uuid, uns_id, uns_levels, updated_at FROM uns;

CREATE VIEW assets_uns AS
SELECT assets.key AS asset_uuid_key, uns.uns_id || '|' || assets.id AS uns_key, uns.uns_id AS uns_id,
       assets.asset_uuid AS asset_uuid, assets.id AS id, assets.value AS value, assets.type AS type, assets.tag AS tag,
       assets.timestamp AS timestamp
FROM assets JOIN uns ON uns.asset_uuid = assets.asset_uuid
WHERE uns.uns_id IS NOT NULL;
