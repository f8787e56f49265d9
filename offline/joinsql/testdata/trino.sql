-- The point-in-time join of a training dataset, for trino.
-- spine is the table of the rows to enrich; ts is a timestamp in UTC, id is int64, name is string.
-- CALL iceberg.system.register_table('sqltest', 'by_id@1', 'file:///data/sqltest/views/by_id@1');
-- CALL iceberg.system.register_table('sqltest', 'both@1', 'file:///data/sqltest/views/both@1');
WITH s AS (
  SELECT "label", "name", "ts", "id", row_number() OVER () AS fb_row, date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', "ts")) * 1000 + CAST(date_format("ts", '%f') AS BIGINT) AS fb_at, 1 AS fb_one
  FROM spine
),
u0 AS (
  SELECT "label" AS "label", "name" AS "name", "ts" AS "ts", "id" AS "id", fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, "id" AS fb_k0, fb_at AS fb_t, 1 AS fb_side, NULL AS fb_i, NULL AS fb_major, NULL AS fb_minor, NULL AS fb_v
  FROM s
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, "id", date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', event_timestamp)) * 1000 + CAST(date_format(event_timestamp, '%f') AS BIGINT), 0, _ingested_at, _sequence_major, _sequence_minor, ROW(date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', event_timestamp)) * 1000 + CAST(date_format(event_timestamp, '%f') AS BIGINT), "v_i")
  FROM iceberg."sqltest"."by_id@1" FOR VERSION AS OF 11
    WHERE date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', _ingested_at)) * 1000 + CAST(date_format(_ingested_at, '%f') AS BIGINT) <= 5
),
m0 AS (
  SELECT *, last_value(fb_v) IGNORE NULLS OVER (PARTITION BY fb_k0 ORDER BY fb_t NULLS FIRST, fb_side, fb_i, fb_major, fb_minor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fb_m
  FROM u0
),
j0 AS (
  SELECT "label" AS "label", "name" AS "name", "ts" AS "ts", "id" AS "id", fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_m[1] AS fb_r0_at, fb_m[2] AS fb_r0_0
  FROM m0 WHERE fb_side = 1
),
u1 AS (
  SELECT "label" AS "label", "name" AS "name", "ts" AS "ts", "id" AS "id", fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_r0_at AS fb_r0_at, fb_r0_0 AS fb_r0_0, "name" AS fb_k0, "id" AS fb_k1, fb_at AS fb_t, 1 AS fb_side, NULL AS fb_i, NULL AS fb_major, NULL AS fb_minor, NULL AS fb_v
  FROM j0
  UNION ALL
  SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "name", "id", date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', event_timestamp)) * 1000 + CAST(date_format(event_timestamp, '%f') AS BIGINT), 0, _ingested_at, _sequence_major, _sequence_minor, ROW(date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', event_timestamp)) * 1000 + CAST(date_format(event_timestamp, '%f') AS BIGINT), "v_s")
  FROM iceberg."sqltest"."both@1" FOR VERSION AS OF 12
    WHERE date_diff('millisecond', TIMESTAMP '1970-01-01 00:00:00 UTC', date_trunc('second', _ingested_at)) * 1000 + CAST(date_format(_ingested_at, '%f') AS BIGINT) <= 5
),
m1 AS (
  SELECT *, last_value(fb_v) IGNORE NULLS OVER (PARTITION BY fb_k0, fb_k1 ORDER BY fb_t NULLS FIRST, fb_side, fb_i, fb_major, fb_minor ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS fb_m
  FROM u1
),
j1 AS (
  SELECT "label" AS "label", "name" AS "name", "ts" AS "ts", "id" AS "id", fb_row AS fb_row, fb_at AS fb_at, fb_one AS fb_one, fb_r0_at AS fb_r0_at, fb_r0_0 AS fb_r0_0, fb_m[1] AS fb_r1_at, fb_m[2] AS fb_r1_0
  FROM m1 WHERE fb_side = 1
),
j2 AS (
  SELECT j1.*, CAST(NULL AS BIGINT) AS fb_r2_at, CAST(NULL AS BIGINT) AS fb_r2_0
  FROM j1
)
SELECT "label", "name", "ts", "id",
  CASE WHEN fb_r0_at >= fb_at - 4 THEN fb_r0_0 END AS "by_id__v_i",
  CASE WHEN fb_r1_at >= fb_at - 7 THEN fb_r1_0 END AS "both__v_s",
  fb_r2_0 AS "empty__v_i"
FROM j2
ORDER BY fb_row;
