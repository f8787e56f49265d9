#!/usr/bin/env python3
"""A training dataset from 2M rows of 8 float64 features with a spine of 200k rows, Parquet to Parquet: forebay dataset build,
DuckDB's ASOF JOIN as anyone writes it, and the floor (read the columns, write the result), in one run.

    benches/pit.py FOREBAY [ROWS] [SPINE]      needs duckdb and pyarrow: make test-setup, then .cache/venv/bin/python
"""
import os, shutil, subprocess, sys, tempfile, time

import duckdb
import pyarrow.parquet as pq

forebay = os.path.abspath(sys.argv[1])
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
spine = int(sys.argv[3]) if len(sys.argv) > 3 else 200_000
work = tempfile.mkdtemp()
os.chdir(work)
try:
    names = [f"f{i}" for i in range(8)]
    db = duckdb.connect(config={"threads": 2})
    db.execute("select setseed(0.5)")
    db.execute(f"""copy (select (random() * {rows} / 20)::bigint as user_id,
        timestamp '2026-01-01' + to_microseconds((random() * 90 * 86400e6)::bigint) as at, {', '.join(f'random() as {n}' for n in names)}
        from range({rows})) to 'rows.parquet' (format parquet, compression snappy)""")
    db.execute(f"""copy (select (random() * {rows} / 20)::bigint as user_id,
        timestamp '2026-01-31' + to_microseconds((random() * 60 * 86400e6)::bigint) as event_timestamp from range({spine})) to 'spine.parquet' (format parquet, compression snappy)""")
    open("forebay.yaml", "w").write("version: 1\nproject: bench\n")
    open("features.yaml", "w").write("kind: Entity\nname: user\njoin_keys: [{name: user_id, type: int64}]\n---\nkind: Source\nname: rows\ntimestamp: at\n"
        "columns: {user_id: int64, at: timestamp, " + ", ".join(f"{n}: float64" for n in names) + "}\nfiles: {glob: rows.parquet}\n---\n"
        "kind: FeatureView\nname: stats\nentities: [user]\nsource: rows\nttl: 30d\nfeatures:\n" + "".join(f"  - {{name: {n}, type: float64, expr: {n}}}\n" for n in names))

    def timed(what, run):
        start, cpu = time.monotonic(), os.times()
        run()
        wall, after = time.monotonic() - start, os.times()
        used = sum(after[i] - cpu[i] for i in range(4))
        print(f"{what:58} {wall:6.2f} s wall {used:6.2f} s CPU", flush=True)

    call = lambda *args: subprocess.run([forebay, *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    build = lambda: call("dataset", "build", "--features", "stats", "--spine", "spine.parquet", "--out", "train.parquet")
    call("apply", "--auto-approve")
    timed(f"forebay ingest, {rows:,} rows x 10 columns", lambda: call("ingest", "rows"))
    timed("forebay dataset build, first (derives the sorted table)", build)
    timed(f"forebay dataset build, spine of {spine:,}", build)
    asof = f"""copy (select s.*, {', '.join(f"case when r.at >= s.event_timestamp - interval 30 day then r.{n} end as {n}" for n in names)}
        from 'spine.parquet' s asof left join 'rows.parquet' r on s.user_id = r.user_id and s.event_timestamp >= r.at) to 'duck.parquet' (format parquet, compression snappy)"""
    timed("DuckDB ASOF LEFT JOIN, 2 threads, files as they came", lambda: db.execute(asof))

    def floor():
        pq.read_table("rows.parquet")
        pq.write_table(pq.read_table("train.parquet"), "floor.parquet")
    timed("floor, pyarrow: read the columns, write the result", floor)
    same = db.execute(f"""select (select count(*) from 'train.parquet') = (select count(*) from 'duck.parquet'),
        (select count(*) from ((select * replace (event_timestamp::timestamp as event_timestamp) from 'train.parquet') except all (select * from 'duck.parquet')))""").fetchall()[0]
    print(f"rows agree: {same[0]}; rows that differ from DuckDB's: {same[1]}")
finally:
    shutil.rmtree(work)
