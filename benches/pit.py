#!/usr/bin/env python3
"""Training datasets of 8 float64 features, Parquet to Parquet, Forebay beside its peers in one run: ingest and derive beside
DuckDB writing the same rows sorted by (key, time); a dense spine and a sparse one beside DuckDB's ASOF JOIN as anyone
writes it and its best formulations, and beside the floor (read the columns, write the result). Each is a process of its own;
its peak memory is the kernel's. Every row of Forebay's result is compared with DuckDB's.

    benches/pit.py FOREBAY [ROWS [SPINE]] [--entities N] [--sparse N] [--hot] [--memory SIZE] [--views] [--repeat N] [--no-peers]

needs duckdb and pyarrow: make test-setup, then .cache/venv/bin/python. ROWS is 2,000,000 and SPINE a tenth of it unless given;
--hot gives 1 % of the entities half of the rows, of the history and of the spines alike.
"""
import argparse, os, shutil, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("forebay")
parser.add_argument("rows", nargs="?", type=int, default=2_000_000)
parser.add_argument("spine", nargs="?", type=int)
parser.add_argument("--entities", type=int, help="default: a twentieth of ROWS")
parser.add_argument("--sparse", type=int, default=20_000, help="rows of the sparse spine")
parser.add_argument("--hot", action="store_true", help="1 %% of the entities have half of the rows")
parser.add_argument("--memory", help="budget of dataset build")
parser.add_argument("--views", action="store_true", help="also two more views of two features each, and all three in one dataset")
parser.add_argument("--repeat", type=int, default=1, help="the fastest of so many runs counts")
parser.add_argument("--no-peers", action="store_true", help="Forebay alone")
a = parser.parse_args()
a.spine = a.spine or a.rows // 10
a.entities = a.entities or a.rows // 20
forebay = os.path.abspath(a.forebay)
names = [f"f{i}" for i in range(8)]
work = tempfile.mkdtemp(prefix="forebay-bench-")
os.chdir(work)

DUCK = "import duckdb, sys; db = duckdb.connect(config={'threads': 2}); db.execute('set enable_progress_bar = false'); db.execute(sys.argv[1])"
FLOOR = ("import pyarrow.parquet as pq, sys; pq.read_table('rows.parquet', columns=sys.argv[2].split(',')); t = pq.read_table(sys.argv[1]); "
         "pq.write_table(t, 'floor.parquet')")


def measure(args):
    """Runs a process; seconds of wall and CPU, and MB of peak memory."""
    start = time.monotonic()
    p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read()
    _, status, used = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"{args[0]}: {err.decode()}")
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def show(what, args, repeat=a.repeat):
    wall, cpu, mb = min(measure(args) for _ in range(repeat))
    print(f"{what:64} {wall:7.2f} s {cpu:7.2f} s CPU {mb:7,.0f} MB", flush=True)
    return wall


def duck(what, sql, **more):
    return show(what, [sys.executable, "-c", DUCK, sql], **more)


def user(n):
    """A user's number: of so many rows, or half of them of the first hundredth."""
    anyone = f"(random() * {a.entities})::bigint"
    return f"case when random() < 0.5 then (random() * {a.entities // 100})::bigint else {anyone} end" if a.hot else anyone


def build(spine, features="stats", out="train"):
    return [forebay, "dataset", "build", "--features", features, "--spine", f"{spine}.parquet", "--out", f"{spine}_{out}.parquet", *(["--memory", a.memory] if a.memory else [])]


def asof(rows, spine):
    young = ", ".join(f"""case when r."at" >= s.event_timestamp - interval 30 day then r.{n} end as {n}""" for n in names)
    return f"""select s.*, {young} from {spine} s asof left join {rows} r on s.user_id = r.user_id and s.event_timestamp >= r."at" """


def save(sql, to):
    return f"copy ({sql}) to '{to}.parquet' (format parquet, compression snappy)"


def best(spine, parts):
    """Spine and sorted rows cut into ranges of users that are joined one by one: each reads its own row groups only."""
    cut = lambda i: f"user_id >= {a.entities * i // parts} and user_id < {a.entities * (i + 1) // parts + (i + 1 == parts)}"
    sql = f"create temp table s as select row_number() over () as n, * from '{spine}.parquet';"
    for i in range(parts):
        part = asof(f"(select * from 'sorted.parquet' where {cut(i)})", f"(select * from s where {cut(i)})")
        sql += f"{'insert into t' if i else 'create temp table t as'} {part};"
    return sql + save("select * exclude (n) from t order by n", "duck")


def semi(rows, spine):
    """Only rows whose user is in the spine are joined: best where it is sparse."""
    return save(asof(f"(select * from '{rows}.parquet' where user_id in (select user_id from '{spine}.parquet'))", f"'{spine}.parquet'"), "duck")


def compare(spine):
    out = subprocess.run([sys.executable, "-c", f"""import duckdb
db = duckdb.connect(config={{'threads': 2}})
db.execute('set enable_progress_bar = false')
print(db.execute(\"\"\"select (select count(*) from '{spine}_train.parquet') = (select count(*) from 'duck.parquet'), (select count(*) from (
    (select * replace (event_timestamp::timestamp as event_timestamp) from '{spine}_train.parquet') except all (select * from 'duck.parquet')))\"\"\").fetchall()[0])"""],
                         check=True, capture_output=True, text=True).stdout.strip()
    print(f"{'as many rows as DuckDB, and rows that differ':64} {out}", flush=True)


try:
    make = f"""select setseed(0.5);
        {save(f'''select {user(a.rows)} as user_id, timestamp '2026-01-01' + to_microseconds((random() * 90 * 86400e6)::bigint) as "at", {', '.join(f'random() as {n}' for n in names)}
            from range({a.rows})''', 'rows')};"""
    for name, n in (("dense", a.spine), ("sparse", a.sparse)):
        make += save(f"select {user(n)} as user_id, timestamp '2026-01-31' + to_microseconds((random() * 60 * 86400e6)::bigint) as event_timestamp from range({n})", name) + ";"
    subprocess.run([sys.executable, "-c", DUCK, make], check=True)
    open("forebay.yaml", "w").write("version: 1\nproject: bench\n")
    open("features.yaml", "w").write("kind: Entity\nname: user\njoin_keys: [{name: user_id, type: int64}]\n---\nkind: Source\nname: rows\ntimestamp: at\n"
        "columns: {user_id: int64, at: timestamp, " + ", ".join(f"{n}: float64" for n in names) + "}\nfiles: {glob: rows.parquet}\n---\n"
        "kind: FeatureView\nname: stats\nentities: [user]\nsource: rows\nttl: 30d\nfeatures:\n" + "".join(f"  - {{name: {n}, type: float64, expr: {n}}}\n" for n in names)
        + "".join(f"---\nkind: FeatureView\nname: {v}\nentities: [user]\nsource: rows\nttl: 30d\nfeatures:\n"
                  + "".join(f"  - {{name: {v}_{n}, type: float64, expr: {n}}}\n" for n in names[at:at + 2]) for at, v in enumerate(["first", "second"]) if a.views))
    subprocess.run([forebay, "apply", "--auto-approve"], check=True, stdout=subprocess.DEVNULL)
    print(f"{a.rows:,} rows x 8 features of {a.entities:,} entities{', 1 % of which have half of them' if a.hot else ''}; spines of {a.spine:,} and {a.sparse:,}")
    ours = show("forebay ingest", [forebay, "ingest", "rows"], repeat=1)
    # A spine of one row, so that what is left is deriving.
    subprocess.run([sys.executable, "-c", DUCK, save("select * from 'sparse.parquet' limit 1", "one")], check=True)
    ours += show("forebay dataset build, the first, of one row: derives the table", build("one"), repeat=1)
    if a.views:
        show("the same for the views of two features", build("one", "first,second"), repeat=1)
    if not a.no_peers:
        theirs = duck("DuckDB, the same rows sorted by (key, time) into Parquet", save("""select * from 'rows.parquet' order by user_id, "at" """, "sorted"), repeat=1)
        print(f"{'ingest and derive : sort and write':64} {ours / theirs:7.2f}")
    for spine, n in (("dense", a.spine), ("sparse", a.sparse)):
        print(f"-- {n:,} rows of spine")
        ours = show("forebay dataset build", build(spine))
        for v in ["first", "second", "stats,first,second"] if a.views else []:
            show(f"forebay dataset build --features {v}", build(spine, v, "views"))
        if a.no_peers:
            continue
        show("floor, pyarrow: read the columns, write the result", [sys.executable, "-c", FLOOR, f"{spine}_train.parquet", ",".join(["user_id", "at", *names])])
        theirs = min(duck(f"DuckDB, {parts} ranges of users of sorted files joined one by one", best(spine, parts)) for parts in (2, 8))
        if spine == "sparse":
            theirs = min(theirs, duck("DuckDB, rows of the spine's users only, sorted files", semi("sorted", spine)))
        duck("DuckDB ASOF LEFT JOIN as anyone writes it, sorted files", save(asof("'sorted.parquet'", f"'{spine}.parquet'"), "duck"))
        plain = duck("DuckDB ASOF LEFT JOIN as anyone writes it, files as they came", save(asof("'rows.parquet'", f"'{spine}.parquet'"), "duck"))
        print(f"{'as anyone writes it : ours; the best : ours':64} {plain / ours:7.2f} {theirs / ours:7.2f}")
        compare(spine)
finally:
    os.chdir("/")
    shutil.rmtree(work)
