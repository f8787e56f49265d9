#!/usr/bin/env python3
"""Windows (count, sum, mean and max over 1h, 24h, 7d and 30d) of 20M events for a spine of 200k rows, Parquet to Parquet: forebay dataset build
beside DuckDB: the range join as anyone writes it, and the best formulation found (keys semi-joined first, each window cut
from the next larger one, files sorted by key and time). In the end the values are compared.
Of each join the least times of five turns are printed: forebay's are processes of their own, DuckDB's run in this one unless it says so.

    benches/windows.py FOREBAY [ROWS] [SPINE] [FOLDER]      needs duckdb and pyarrow: make test-setup, then .cache/venv/bin/python

With a FOLDER the data and tables stay there, and are used again.
"""
import os, shutil, subprocess, sys, tempfile, time

import duckdb
import pyarrow.parquet as pq

forebay = os.path.abspath(sys.argv[1])
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000
spine = int(sys.argv[3]) if len(sys.argv) > 3 else 200_000
work = sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp()
os.makedirs(work, exist_ok=True)
os.chdir(work)
windows = {"1h": (3600, 60), "24h": (86400, 3600), "7d": (7 * 86400, 3600), "30d": (30 * 86400, 86400)}  # length and hop, seconds
try:
    db = duckdb.connect(config={"threads": 2})

    def once(run, args):
        start, cpu = time.monotonic(), os.times()
        run(*args)
        wall, after = time.monotonic() - start, os.times()
        return wall, sum(after[i] - cpu[i] for i in range(4))

    def timed(what, run, *args, turns=1):
        """Prints the least times of some turns."""
        walls, cpus = zip(*[once(run, args) for _ in range(turns)])
        print(f"{what:75} {min(walls):6.2f} s wall {min(cpus):6.2f} s CPU", flush=True)

    call = lambda *args: subprocess.run([forebay, *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def peak(*args):
        """Runs forebay and returns the most memory it had, in MB."""
        p = subprocess.Popen([forebay, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        most = 0
        while p.poll() is None:  # what wait4 tells begins with what this process has
            try:
                most = max([most] + [int(l.split()[1]) for l in open(f"/proc/{p.pid}/status") if l.startswith("VmHWM") and "forebay" in os.readlink(f"/proc/{p.pid}/exe")])
            except OSError:
                pass
            time.sleep(0.01)
        assert p.returncode == 0
        return most / 1024
    if not os.path.exists("done"):
        db.execute("select setseed(0.5)")
        db.execute(f"""copy (select (random() * {rows} / 20)::bigint as user_id,
            timestamp '2026-01-01' + to_microseconds((random() * 90 * 86400e6)::bigint) as seen, random() as x
            from range({rows})) to 'events.parquet' (format parquet, compression snappy)""")
        db.execute("copy (select * from 'events.parquet' order by user_id, seen) to 'sorted.parquet' (format parquet, compression snappy)")
        db.execute(f"""copy (select (random() * {rows} / 20)::bigint as user_id,
            timestamp '2026-01-31' + to_microseconds((random() * 60 * 86400e6)::bigint) as event_timestamp from range({spine})) to 'spine.parquet' (format parquet, compression snappy)""")
        open("forebay.yaml", "w").write("version: 1\nproject: bench\n")
        open("features.yaml", "w").write("""kind: Entity
name: user
join_keys: [{name: user_id, type: int64}]
---
kind: Source
name: events
timestamp: seen
columns: {user_id: int64, seen: timestamp, x: float64}
files: {glob: events.parquet}
---
kind: FeatureView
name: stats
entities: [user]
source: events
aggregations:
  - {function: count, windows: [1h, 24h, 7d, 30d]}
""" + "".join(f"  - {{function: {f}, column: x, windows: [1h, 24h, 7d, 30d]}}\n" for f in ("sum", "mean", "max")))
        call("apply", "--auto-approve")
        timed(f"forebay ingest, {rows:,} rows x 3 columns", call, "ingest", "events")
        timed("forebay dataset build, first (derives the sorted table)", call, "dataset", "build", "--features", "stats", "--spine", "spine.parquet", "--out", "train.parquet")
        open("done", "w").close()
    build = ["dataset", "build", "--features", "stats", "--spine", "spine.parquet", "--out", "train.parquet"]
    db.execute("select sum(user_id), max(seen), sum(x) from 'events.parquet'").fetchall()  # into the page cache
    turns = 5
    for memory in ("1GB", "32MB"):
        mb = []
        timed(f"forebay dataset build, spine of {spine:,}, --memory {memory}", lambda: mb.append(peak(*build, "--memory", memory)), turns=turns)
        print(f"    at most {max(mb):.0f} MB")

    tail = lambda w: f"time_bucket(interval {windows[w][1]} second, s.event_timestamp - interval {windows[w][0]} second, timestamp '1970-01-01')"
    aggregates = lambda w, t: f"count(*) filter (e.seen > {t}) as count_{w}, sum(e.x) filter (e.seen > {t}) as x_sum_{w}, avg(e.x) filter (e.seen > {t}) as x_mean_{w}, max(e.x) filter (e.seen > {t}) as x_max_{w}"

    def plain(source, out):
        db.execute(f"""copy (with s as (select *, row_number() over () as n from 'spine.parquet' s)
            select s.user_id, s.event_timestamp, {', '.join(aggregates(w, tail(w)) for w in windows)}
            from s left join '{source}' e on e.user_id = s.user_id and e.seen <= s.event_timestamp and e.seen > {tail('30d')}
            group by s.n, s.user_id, s.event_timestamp order by s.n) to '{out}' (format parquet, compression snappy)""")

    def best(source, out, execute=db.execute):
        """The keys first; then each window from the rows of the next larger one."""
        execute(f"""create or replace temp table s as select *, row_number() over () as n, {', '.join(f"{tail(w)} as t_{w}" for w in windows)} from 'spine.parquet' s""")
        execute(f"""create or replace temp table e as select user_id, seen, x from '{source}' where user_id in (select user_id from s)""")
        execute("create or replace temp table m_30d as select s.n, s.t_1h, s.t_24h, s.t_7d, e.seen, e.x from s join e on e.user_id = s.user_id and e.seen <= s.event_timestamp and e.seen > s.t_30d")
        for w, larger in (("7d", "30d"), ("24h", "7d"), ("1h", "24h")):
            execute(f"create or replace temp table m_{w} as select * from m_{larger} where seen > t_{w}")
        for w in windows:
            execute(f"create or replace temp table a_{w} as select n, count(*) as c, sum(x) as s, avg(x) as m, max(x) as h from m_{w} group by n")
        execute(f"""copy (select s.user_id, s.event_timestamp, {', '.join(f"coalesce(a_{w}.c, 0) as count_{w}, a_{w}.s as x_sum_{w}, a_{w}.m as x_mean_{w}, a_{w}.h as x_max_{w}" for w in windows)}
            from s {' '.join(f"left join a_{w} on a_{w}.n = s.n" for w in windows)} order by s.n) to '{out}' (format parquet, compression snappy)""")

    def process(source, out):
        """best in a process of its own, as forebay's are."""
        statements = []
        best(source, out, statements.append)
        subprocess.run([sys.executable, "-c", "import duckdb, sys; db = duckdb.connect(config={'threads': 2}); [db.execute(s) for s in sys.argv[1:]]", *statements], check=True)
    timed("DuckDB range join, 2 threads, files as they came", plain, "events.parquet", "duck.parquet", turns=turns)
    timed("DuckDB range join, 2 threads, files sorted", plain, "sorted.parquet", "duck.parquet", turns=turns)
    timed("DuckDB, keys first, windows cut from larger ones, files as they came", best, "events.parquet", "duck.parquet", turns=turns)
    timed("DuckDB, keys first, windows cut from larger ones, files sorted", best, "sorted.parquet", "duck.parquet", turns=turns)
    timed("the same, each a process of its own", process, "sorted.parquet", "duck.parquet", turns=turns)
    timed("floor, pyarrow: read key and time", lambda: pq.read_table("sorted.parquet", columns=["user_id", "seen"]), turns=turns)
    timed("floor, pyarrow: read the columns, write the result", lambda: (pq.read_table("sorted.parquet"), pq.write_table(pq.read_table("train.parquet"), "floor.parquet")), turns=turns)
    # DuckDB's sums are rounded at every addition, ours once.
    differ = " or ".join([f"t.count_{w} <> d.count_{w} or t.x_max_{w} is distinct from d.x_max_{w} or abs(t.x_sum_{w} - d.x_sum_{w}) > 1e-12 * d.x_sum_{w} or abs(t.x_mean_{w} - d.x_mean_{w}) > 1e-12 * d.x_mean_{w}"
        for w in windows])
    same = db.execute(f"""select count(*), count(*) filter ({differ}) from (select *, row_number() over () as n from 'train.parquet') t
        join (select *, row_number() over () as n from 'duck.parquet') d on t.n = d.n and t.user_id = d.user_id and t.event_timestamp = d.event_timestamp::timestamptz""").fetchall()[0]
    print(f"rows compared: {same[0]}; rows that differ from DuckDB's: {same[1]}")
finally:
    if len(sys.argv) <= 4:
        shutil.rmtree(work)
