-- The point-in-time join of a training dataset, for clickhouse.
-- spine is the table of the rows to enrich; ts is a timestamp in UTC, id is int64, name is string.
WITH s AS (
  SELECT `label`, `name`, `ts`, `id`, rowNumberInAllBlocks() AS fb_row, ifNull(toUnixTimestamp64Micro(toDateTime64(`ts`, 6, 'UTC')), -9223372036854775808) AS fb_at, 1 AS fb_one
  FROM spine
),
r0 AS ( -- by_id@1: of each entity and event time the newest row
  SELECT * FROM (
    SELECT toUnixTimestamp64Micro(toDateTime64(event_timestamp, 6, 'UTC')) AS fb_r0_at, `id` AS fb_k0, `v_i` AS fb_r0_0, 1 AS fb_k,
      row_number() OVER (PARTITION BY `id`, event_timestamp ORDER BY _ingested_at DESC, _sequence_major DESC, _sequence_minor DESC) AS fb_n
    FROM (SELECT * FROM file('/data/it''s.parquet', Parquet) UNION ALL SELECT * FROM file('/data/sqltest/views/by_id@1/data/a.parquet', Parquet))
    WHERE toUnixTimestamp64Micro(toDateTime64(_ingested_at, 6, 'UTC')) <= 5
  ) AS versions WHERE fb_n = 1
),
j0 AS (
  SELECT l.`label` AS `label`, l.`name` AS `name`, l.`ts` AS `ts`, l.`id` AS `id`, l.fb_row AS fb_row, l.fb_at AS fb_at, l.fb_one AS fb_one, r.fb_r0_at AS fb_r0_at, r.fb_r0_0 AS fb_r0_0
  FROM s AS l ASOF LEFT JOIN r0 AS r ON l.fb_one = r.fb_k AND l.`id` = r.fb_k0 AND l.fb_at >= r.fb_r0_at
),
r1 AS ( -- both@1: of each entity and event time the newest row
  SELECT * FROM (
    SELECT toUnixTimestamp64Micro(toDateTime64(event_timestamp, 6, 'UTC')) AS fb_r1_at, `name` AS fb_k0, `id` AS fb_k1, `v_s` AS fb_r1_0, 1 AS fb_k,
      row_number() OVER (PARTITION BY `name`, `id`, event_timestamp ORDER BY _ingested_at DESC, _sequence_major DESC, _sequence_minor DESC) AS fb_n
    FROM file('/data/b.parquet', Parquet)
    WHERE toUnixTimestamp64Micro(toDateTime64(_ingested_at, 6, 'UTC')) <= 5
  ) AS versions WHERE fb_n = 1
),
j1 AS (
  SELECT l.`label` AS `label`, l.`name` AS `name`, l.`ts` AS `ts`, l.`id` AS `id`, l.fb_row AS fb_row, l.fb_at AS fb_at, l.fb_one AS fb_one, l.fb_r0_at AS fb_r0_at, l.fb_r0_0 AS fb_r0_0, r.fb_r1_at AS fb_r1_at, r.fb_r1_0 AS fb_r1_0
  FROM j0 AS l ASOF LEFT JOIN r1 AS r ON l.fb_one = r.fb_k AND l.`name` = r.fb_k0 AND l.`id` = r.fb_k1 AND l.fb_at >= r.fb_r1_at
),
j2 AS (
  SELECT j1.*, CAST(NULL AS Nullable(Int64)) AS fb_r2_at, CAST(NULL AS Nullable(Int64)) AS fb_r2_0
  FROM j1
)
SELECT `label`, `name`, `ts`, `id`,
  CASE WHEN fb_r0_at >= fb_at - 4 THEN fb_r0_0 END AS `by_id__v_i`,
  CASE WHEN fb_r1_at >= fb_at - 7 THEN fb_r1_0 END AS `both__v_s`,
  fb_r2_0 AS `empty__v_i`
FROM j2
ORDER BY fb_row
SETTINGS join_use_nulls = 1;
