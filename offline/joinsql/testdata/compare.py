"""Runs a query in an engine over a spine, and compares what comes out with a dataset, value for value and in
order: compare.py duckdb|spark|clickhouse QUERY.sql SPINE.parquet DATASET.parquet OFFLINE_FOLDER [COLUMN…]. Floats of the columns named may differ
by 1e-12, relatively: those that are sums."""
import math
import sys

import pyarrow as pa
import pyarrow.parquet as pq

engine, query, spine, dataset, folder = sys.argv[1:6]
near = set(sys.argv[6:])
query = open(query).read()


def duckdb():
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE VIEW spine AS SELECT * FROM read_parquet('{spine}')")
    return con.execute(query).to_arrow_table()


def spark():
    import os
    import tempfile

    from pyspark.sql import SparkSession

    conf = {
        "spark.jars": os.environ["ICEBERG_JAR"],
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.forebay": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.forebay.type": "hadoop",
        "spark.sql.catalog.forebay.warehouse": "file://" + folder,
    }
    builder = SparkSession.builder.master("local[2]")
    for k, v in conf.items():
        builder = builder.config(k, v)
    session = builder.getOrCreate()
    session.read.parquet(spine).createOrReplaceTempView("spine")
    with tempfile.TemporaryDirectory() as out:
        session.sql(query.rstrip().rstrip(";")).coalesce(1).write.mode("overwrite").parquet(out)
        table = pq.read_table(out)
    session.stop()
    return table


def clickhouse():
    import os
    import urllib.request

    def ask(text):
        url = os.environ["CLICKHOUSE_URL"] + "/?default_format=Parquet&output_format_parquet_string_as_string=1&session_timezone=UTC"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=text.encode())) as answer:
                return answer.read()
        except urllib.error.HTTPError as e:
            raise SystemExit(e.read().decode())

    name = f"spine_{os.getpid()}"
    ask(f"CREATE TABLE {name} ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM file('{spine}', Parquet) SETTINGS schema_inference_make_columns_nullable = 1")
    try:
        return pq.read_table(pa.BufferReader(ask(query.replace("FROM spine", f"FROM {name}").rstrip().rstrip(";"))))
    finally:
        ask(f"DROP TABLE {name}")


def plain(col):
    if pa.types.is_timestamp(col.type):
        col = col.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return col.to_pylist()


def same(a, b, name):
    if isinstance(a, float) and isinstance(b, float):
        if a != a or b != b:
            return a != a and b != b
        return a == b and math.copysign(1, a) == math.copysign(1, b) or name in near and math.isclose(a, b, rel_tol=1e-12)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y, name) for x, y in zip(a, b))
    return a == b or engine == "clickhouse" and a == [] and b is None  # it has no null arrays


got, want = {"duckdb": duckdb, "spark": spark, "clickhouse": clickhouse}[engine](), pq.read_table(dataset)
if got.column_names != want.column_names:
    raise SystemExit(f"columns {got.column_names}, want {want.column_names}")
if got.num_rows != want.num_rows:
    raise SystemExit(f"{got.num_rows} rows, want {want.num_rows}")
found = 0
for name in want.column_names:
    for i, (g, w) in enumerate(zip(plain(got.column(name)), plain(want.column(name)))):
        if not same(g, w, name):
            raise SystemExit(f"row {i}, column {name}: {g!r}, want {w!r}\n{want.slice(i, 1).to_pylist()}")
        found += w is not None
print(want.num_rows, "rows,", found, "values")
