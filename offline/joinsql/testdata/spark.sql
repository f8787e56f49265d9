-- The point-in-time join of a training dataset, for spark.
-- spine is the table of the rows to enrich; ts is a timestamp in UTC, id is int64, name is string.
-- Catalog forebay: spark.sql.catalog.forebay=org.apache.iceberg.spark.SparkCatalog, .type=hadoop, .warehouse=<the offline url>.
WITH s AS (
  SELECT `label`, `name`, `ts`, `id`, monotonically_increasing_id() AS fb_row, unix_micros(`ts`) AS fb_at, 1 AS fb_one
  FROM spine
),
u0 AS (
  SELECT `label` AS `label`, `name` AS `name`, `ts` AS `ts`, `id` AS `id`, fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, `id` AS fb_k0, fb_at AS fb_t, 1 AS fb_side, NULL AS fb_i, NULL AS fb_major, NULL AS fb_minor, NULL AS fb_v
  FROM s
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, `id`, unix_micros(event_timestamp), 0, _ingested_at, _sequence_major, _sequence_minor, named_struct('c0', unix_micros(event_timestamp), 'c1', `v_i`)
  FROM forebay.`sqltest`.views.`by_id@1` VERSION AS OF 11
    WHERE unix_micros(_ingested_at) <= 5
),
m0 AS (
  SELECT *, last(fb_v, true) OVER (PARTITION BY fb_k0 ORDER BY fb_t NULLS FIRST, fb_side, fb_i, fb_major, fb_minor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fb_m
  FROM u0
),
j0 AS (
  SELECT `label` AS `label`, `name` AS `name`, `ts` AS `ts`, `id` AS `id`, fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_m.c0 AS fb_r0_at, fb_m.c1 AS fb_r0_0
  FROM m0 WHERE fb_side = 1
),
u1 AS (
  SELECT `label` AS `label`, `name` AS `name`, `ts` AS `ts`, `id` AS `id`, fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_r0_at AS fb_r0_at, fb_r0_0 AS fb_r0_0, `name` AS fb_k0, `id` AS fb_k1, fb_at AS fb_t, 1 AS fb_side, NULL AS fb_i, NULL AS fb_major, NULL AS fb_minor, NULL AS fb_v
  FROM j0
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, `name`, `id`, unix_micros(event_timestamp), 0, _ingested_at, _sequence_major, _sequence_minor, named_struct('c0', unix_micros(event_timestamp), 'c1', `v_s`)
  FROM forebay.`sqltest`.views.`both@1` VERSION AS OF 12
    WHERE unix_micros(_ingested_at) <= 5
),
m1 AS (
  SELECT *, last(fb_v, true) OVER (PARTITION BY fb_k0, fb_k1 ORDER BY fb_t NULLS FIRST, fb_side, fb_i, fb_major, fb_minor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fb_m
  FROM u1
),
j1 AS (
  SELECT `label` AS `label`, `name` AS `name`, `ts` AS `ts`, `id` AS `id`, fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_r0_at AS fb_r0_at, fb_r0_0 AS fb_r0_0, fb_m.c0 AS fb_r1_at, fb_m.c1 AS fb_r1_0
  FROM m1 WHERE fb_side = 1
),
j2 AS (
  SELECT j1.*, CAST(NULL AS BIGINT) AS fb_r2_at, CAST(NULL AS BIGINT) AS fb_r2_0
  FROM j1
)
SELECT `label`, `name`, `ts`, `id`,
  CASE WHEN fb_r0_at >= fb_at - 4 THEN fb_r0_0 END AS `by_id__v_i`,
  CASE WHEN fb_r1_at >= fb_at - 7 THEN fb_r1_0 END AS `both__v_s`,
  fb_r2_0 AS `empty__v_i`
FROM j2
ORDER BY fb_row;
