-- The streams and tables of a factory; each reads from the ones above it. `topology.py` parses this file: a semicolon
-- ends a statement, and ${prefix} is the prefix of all topic names.

-- All events, as their writers produce them: one record per event, with the UUID of the asset as its key.
CREATE STREAM IF NOT EXISTS assets_stream (
  asset_uuid VARCHAR KEY,
  id VARCHAR,
  value VARCHAR,
  tag VARCHAR,
  type VARCHAR,
  attributes MAP<VARCHAR, VARCHAR>
) WITH (KAFKA_TOPIC = '${prefix}ofa_assets', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON');

-- The same events by attribute, because a table needs a key for each row.
CREATE STREAM IF NOT EXISTS enriched_assets_stream
WITH (KAFKA_TOPIC = '${prefix}enriched_assets_stream_topic', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON') AS
SELECT
  asset_uuid + '|' + id AS key,
  AS_VALUE(asset_uuid) AS asset_uuid,
  id,
  value,
  type,
  tag,
  COALESCE(attributes['timestamp'], 'UNAVAILABLE') AS timestamp
FROM assets_stream
WHERE asset_uuid IS NOT NULL AND id IS NOT NULL
PARTITION BY asset_uuid + '|' + id
EMIT CHANGES;

-- The last value of each attribute. Without `false`, LATEST_BY_OFFSET ignores nulls and keeps the value before them.
CREATE TABLE IF NOT EXISTS assets WITH (KAFKA_TOPIC = '${prefix}ASSETS') AS
SELECT
  key,
  LATEST_BY_OFFSET(asset_uuid) AS asset_uuid,
  LATEST_BY_OFFSET(id) AS id,
  LATEST_BY_OFFSET(value, false) AS value,
  LATEST_BY_OFFSET(type, false) AS type,
  LATEST_BY_OFFSET(tag, false) AS tag,
  LATEST_BY_OFFSET(timestamp) AS timestamp
FROM enriched_assets_stream
GROUP BY key
EMIT CHANGES;

-- The type of each registered asset. One query writes both types and tombstones, so that they stay in order. Only an
-- unwrapped value can become a tombstone. A deregistration has the type UNAVAILABLE, or OpenFactory from other programs.
CREATE STREAM IF NOT EXISTS assets_type_stream
WITH (KAFKA_TOPIC = '${prefix}assets_types_topic', VALUE_FORMAT = 'JSON', WRAP_SINGLE_VALUE = false) AS
SELECT asset_uuid, CASE WHEN value = 'delete' THEN CAST(NULL AS VARCHAR) ELSE value END AS type
FROM assets_stream
WHERE id = 'AssetType' AND (type = 'OpenFactory' OR (type = 'UNAVAILABLE' AND value = 'delete'))
PARTITION BY asset_uuid
EMIT CHANGES;

-- A source table has the content of its topic, so the tombstones of other programs delete rows as well.
CREATE SOURCE TABLE IF NOT EXISTS assets_type (asset_uuid VARCHAR PRIMARY KEY, type VARCHAR)
WITH (KAFKA_TOPIC = '${prefix}assets_types_topic', VALUE_FORMAT = 'JSON', WRAP_SINGLE_VALUE = false);

CREATE STREAM IF NOT EXISTS assets_avail_stream
WITH (KAFKA_TOPIC = '${prefix}assets_avail_topic', VALUE_FORMAT = 'JSON', WRAP_SINGLE_VALUE = false) AS
SELECT asset_uuid, CASE WHEN value = 'delete' THEN CAST(NULL AS VARCHAR) ELSE value END AS availability
FROM assets_stream
WHERE id = 'avail' OR id = 'agent_avail'
  OR (id = 'AssetType' AND value = 'delete' AND (type = 'OpenFactory' OR type = 'UNAVAILABLE'))
PARTITION BY asset_uuid
EMIT CHANGES;

CREATE SOURCE TABLE IF NOT EXISTS assets_avail (asset_uuid VARCHAR PRIMARY KEY, availability VARCHAR)
WITH (KAFKA_TOPIC = '${prefix}assets_avail_topic', VALUE_FORMAT = 'JSON', WRAP_SINGLE_VALUE = false);

-- The container in which an asset runs.
CREATE STREAM IF NOT EXISTS docker_services_stream
WITH (KAFKA_TOPIC = '${prefix}docker_services_topic', VALUE_FORMAT = 'JSON') AS
SELECT asset_uuid, value AS docker_service
FROM assets_stream
WHERE id = 'DockerService' AND type = 'OpenFactory'
PARTITION BY asset_uuid
EMIT CHANGES;

CREATE SOURCE TABLE IF NOT EXISTS docker_services (asset_uuid VARCHAR PRIMARY KEY, docker_service VARCHAR)
WITH (KAFKA_TOPIC = '${prefix}docker_services_topic', VALUE_FORMAT = 'JSON');

-- The place of each asset in the unified namespace. In the topic, the time is a number of milliseconds since 1970.
CREATE TABLE IF NOT EXISTS asset_to_uns_map_raw (
  asset_uuid VARCHAR PRIMARY KEY,
  uns_id VARCHAR,
  uns_levels MAP<VARCHAR, VARCHAR>,
  updated_at TIMESTAMP
) WITH (KAFKA_TOPIC = '${prefix}asset_to_uns_map_topic', VALUE_FORMAT = 'JSON');

CREATE TABLE IF NOT EXISTS asset_to_uns_map WITH (KAFKA_TOPIC = '${prefix}ASSET_TO_UNS_MAP') AS
SELECT asset_uuid, uns_id, uns_levels, updated_at
FROM asset_to_uns_map_raw
EMIT CHANGES;

-- The events with the UNS id as their key, without those from before the asset had a UNS id.
CREATE STREAM IF NOT EXISTS assets_stream_uns
WITH (KAFKA_TOPIC = '${prefix}ofa_assets_uns', VALUE_FORMAT = 'JSON') AS
SELECT
  place.uns_id AS uns_id,
  AS_VALUE(event.asset_uuid) AS asset_uuid,
  event.id AS id,
  event.value AS value,
  event.tag AS tag,
  event.type AS type,
  event.attributes AS attributes
FROM assets_stream event
JOIN asset_to_uns_map place ON event.asset_uuid = place.asset_uuid
WHERE place.uns_id IS NOT NULL
PARTITION BY place.uns_id
EMIT CHANGES;

-- The last values by UNS id. The join of two tables also updates the rows of an asset that gets another place.
CREATE TABLE IF NOT EXISTS assets_uns WITH (KAFKA_TOPIC = '${prefix}ASSETS_UNS') AS
SELECT
  state.key AS asset_uuid_key,
  place.uns_id + '|' + state.id AS key,
  place.uns_id AS uns_id,
  state.asset_uuid AS asset_uuid,
  state.id AS id,
  state.value AS value,
  state.type AS type,
  state.tag AS tag,
  state.timestamp AS timestamp
FROM assets state
LEFT JOIN asset_to_uns_map place ON state.asset_uuid = place.asset_uuid
WHERE place.uns_id IS NOT NULL
EMIT CHANGES;

-- The configuration of device connectors and the targets for metrics, which other programs write and read.
CREATE TABLE IF NOT EXISTS device_connector_source (asset_uuid VARCHAR PRIMARY KEY, connector_config VARCHAR)
WITH (KAFKA_TOPIC = '${prefix}device_connector_topic', VALUE_FORMAT = 'JSON');

CREATE TABLE IF NOT EXISTS device_connector WITH (KAFKA_TOPIC = '${prefix}DEVICE_CONNECTOR') AS
SELECT asset_uuid, connector_config
FROM device_connector_source
EMIT CHANGES;

CREATE TABLE IF NOT EXISTS metrics_targets_source (
  application_uuid VARCHAR PRIMARY KEY,
  host VARCHAR,
  port INTEGER,
  path VARCHAR
) WITH (KAFKA_TOPIC = '${prefix}metrics_targets_topic', VALUE_FORMAT = 'JSON');

CREATE TABLE IF NOT EXISTS metrics_targets WITH (KAFKA_TOPIC = '${prefix}METRICS_TARGETS') AS
SELECT application_uuid, host, port, path
FROM metrics_targets_source
EMIT CHANGES;

-- One row per asset, with all of its values.
CREATE TABLE IF NOT EXISTS assets_aggregated_by_asset_uuid
WITH (KAFKA_TOPIC = '${prefix}ASSETS_AGGREGATED_BY_ASSET_UUID') AS
SELECT
  asset_uuid,
  COLLECT_LIST(STRUCT(id := id, value := value, type := type, tag := tag, timestamp := timestamp)) AS readings
FROM assets
GROUP BY asset_uuid
EMIT CHANGES;
