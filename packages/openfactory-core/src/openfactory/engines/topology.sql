-- The tables of the ksqlDB topology with the same names and columns; every value is text. They need a table or view
-- `last` with the last event of each attribute: asset, attr, value (JSON), type, tag, ts, id (its position).
-- The script can run again: a database of an earlier version keeps its tables, and gets the present views.

-- Events of an asset up to this position no longer register it.
CREATE TABLE IF NOT EXISTS deregistered (
    asset TEXT PRIMARY KEY,
    id    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS uns (
    asset_uuid TEXT PRIMARY KEY,
    uns_id     TEXT,
    uns_levels TEXT,            -- a JSON object: level to name
    updated_at INTEGER NOT NULL -- milliseconds since 1970
) WITHOUT ROWID;

DROP VIEW IF EXISTS assets;
CREATE VIEW assets AS
SELECT asset || '|' || attr AS key, asset AS asset_uuid, attr AS id,
       CASE json_type(value)
           WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN NULL
           WHEN 'text' THEN value ->> '$'
           ELSE value
       END AS value,
       type, tag, ts AS timestamp
FROM last;

DROP VIEW IF EXISTS stated;
CREATE VIEW stated AS  -- type, availability and container, as registered assets have published them
SELECT last.asset AS asset_uuid, last.attr AS id, assets.value AS value, last.type AS type, last.id AS position
FROM last JOIN assets ON assets.asset_uuid = last.asset AND assets.id = last.attr
LEFT JOIN deregistered ON deregistered.asset = last.asset
WHERE last.attr IN ('AssetType', 'avail', 'agent_avail', 'DockerService') AND last.id > coalesce(deregistered.id, 0);

DROP VIEW IF EXISTS assets_type;
CREATE VIEW assets_type AS
SELECT asset_uuid, value AS type FROM stated WHERE id = 'AssetType' AND type = 'OpenFactory' AND value IS NOT 'delete';

DROP VIEW IF EXISTS assets_avail;
CREATE VIEW assets_avail AS  -- a bare column beside max() comes from the row that has the maximum
SELECT asset_uuid, availability FROM (
    SELECT asset_uuid, value AS availability, max(position) FROM stated WHERE id IN ('avail', 'agent_avail') GROUP BY asset_uuid
) WHERE availability IS NOT 'delete';

DROP VIEW IF EXISTS docker_services;
CREATE VIEW docker_services AS
SELECT asset_uuid, value AS docker_service FROM stated WHERE id = 'DockerService' AND type = 'OpenFactory';

DROP VIEW IF EXISTS asset_to_uns_map;
CREATE VIEW asset_to_uns_map AS  -- with the time as ksqlDB returns a TIMESTAMP: 2026-11-29T14:53:03.256
SELECT asset_uuid, uns_id, uns_levels,
       strftime('%Y-%m-%dT%H:%M:%S', updated_at / 1000, 'unixepoch') || printf('.%03d', updated_at % 1000) AS updated_at
FROM uns;

DROP VIEW IF EXISTS assets_uns;
CREATE VIEW assets_uns AS
SELECT assets.key AS asset_uuid_key, uns.uns_id || '|' || assets.id AS key, uns.uns_id AS uns_id,
       assets.asset_uuid AS asset_uuid, assets.id AS id, assets.value AS value, assets.type AS type, assets.tag AS tag,
       assets.timestamp AS timestamp
FROM assets JOIN uns ON uns.asset_uuid = assets.asset_uuid
WHERE uns.uns_id IS NOT NULL;
