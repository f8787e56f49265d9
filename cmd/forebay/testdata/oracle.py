#!/usr/bin/env python3
"""Builds random feature repositories, data and spines, runs the forebay command over them, and compares each
training dataset with values worked out here, row by row, from the definition of the point-in-time join.

    oracle.py FOREBAY FOLDER SEED ROUNDS

Shares no code with Forebay. Prints the seed; exits 1 on the first difference and leaves FOLDER as it is.
"""
import base64, csv, json, math, os, random, subprocess, sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

DAY = 86_400_000_000
BASE = 1_700_000_000_000_000  # microseconds
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def iso(us, zone="Z"):
    return (EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%f") + zone


def parse_iso(text):
    text = text.replace("Z", "+00:00")
    head, _, frac = text.partition(".")
    if frac:
        digits, zone = frac.split("+")
        text = head + "." + digits.ljust(6, "0")[:6] + "+" + zone
    t = datetime.fromisoformat(text)
    return (t - EPOCH) // timedelta(microseconds=1)


# --- the source's columns: name, Forebay type, a maker of values ---------------------------------------------------

def columns(r):
    text = lambda: r.choice(["", "a", "b", "zoë 🚚", 'q"uote', "com,ma", "new\nline", " lead"])
    return [
        ("user_id", "int64", lambda: r.choice([0, 1, 2, 3, -7, 2**53 + 1, -(2**63)])),
        ("region", "string", lambda: r.choice(["x", "y", "1", "", "é", "X"])),
        ("n", "int64", lambda: r.choice([0, 1, -5, 2**53 + 1, 2**62, 2**63 - 1])),
        ("small", "int64", lambda: r.randrange(-100, 100)),
        ("x", "float64", lambda: r.choice([0.0, -0.0, 0.1, 1e300, -2.5, 5e-324])),
        ("s", "string", text),
        ("ok", "bool", lambda: r.random() < 0.5),
        ("raw", "bytes", lambda: r.choice([b"", b"\x00\x01\xfe", b"abc"])),
        ("seen", "timestamp", lambda: BASE + r.randrange(-DAY, DAY)),
        ("xs", "list<int64>", lambda: [r.randrange(5) for _ in range(r.randrange(4))]),
        ("words", "list<string>", lambda: [r.choice("ab") for _ in range(r.randrange(3))]),
        ("emb", "embedding<3>", lambda: [r.choice([0.0, 0.5, -1.25]) for _ in range(3)]),
    ]


# feature name, type, expression, the same in Python over a row (None is null)
def guard(*names):
    def wrap(f):
        return lambda row: None if any(row[n] is None for n in names) else f(row)
    return wrap


def checked(v):
    return v if -(2**63) <= v < 2**63 else None


FEATURES = [
    ("f_n", "int64", "n", lambda r: r["n"]),
    ("f_small", "int64", "small", lambda r: r["small"]),
    ("f_x", "float64", "x", lambda r: r["x"]),
    ("f_s", "string", "s", lambda r: r["s"]),
    ("f_ok", "bool", "ok", lambda r: r["ok"]),
    ("f_raw", "bytes", "raw", lambda r: r["raw"]),
    ("f_seen", "timestamp", "seen", lambda r: r["seen"]),
    ("f_xs", "list<int64>", "xs", lambda r: r["xs"]),
    ("f_words", "list<string>", "words", lambda r: r["words"]),
    ("f_emb", "embedding<3>", "emb", lambda r: r["emb"]),
    ("f_plus", "int64", "n + 1", guard("n")(lambda r: checked(r["n"] + 1))),
    ("f_mul", "int64", "n * small", guard("n", "small")(lambda r: checked(r["n"] * r["small"]))),
    ("f_div", "int64", "100 / small", guard("small")(lambda r: None if r["small"] == 0 else int(math.trunc(100 / r["small"])))),
    ("f_dbl", "float64", "x * 2.0", guard("x")(lambda r: r["x"] * 2.0)),
    ("f_big", "bool", "small > 10", guard("small")(lambda r: r["small"] > 10)),
    ("f_null", "bool", "s == null", lambda r: r["s"] is None),
    ("f_or", "bool", "ok || small > 0", lambda r: or3(r["ok"], None if r["small"] is None else r["small"] > 0)),
    ("f_and", "bool", "ok && small > 0", lambda r: and3(r["ok"], None if r["small"] is None else r["small"] > 0)),
    ("f_tern", "int64", "small > 0 ? small : 0 - small", guard("small")(lambda r: abs(r["small"]))),
    ("f_cat", "string", "s + '!'", guard("s")(lambda r: r["s"] + "!")),
    ("f_len", "int64", "size(words)", guard("words")(lambda r: len(r["words"]))),
]


def or3(a, b):
    if a is True or b is True: return True
    return None if a is None or b is None else False


def and3(a, b):
    if a is False or b is False: return False
    return None if a is None or b is None else True


FILTERS = [
    (None, lambda r: True),
    ("small > 0", lambda r: r["small"] is not None and r["small"] > 0),
    ("s != null && ok", lambda r: r["s"] is not None and r["ok"] is True),
    ("n != 0 || ok", lambda r: or3(None if r["n"] is None else r["n"] != 0, r["ok"]) is True),
]

PA = {"int64": pa.int64(), "string": pa.string(), "float64": pa.float64(), "bool": pa.bool_(), "bytes": pa.binary(),
      "timestamp": pa.timestamp("us", "UTC"), "list<int64>": pa.list_(pa.int64()), "list<string>": pa.list_(pa.string()), "embedding<3>": pa.list_(pa.float32())}


def write_parquet(r, path, rows, cols, extra):
    arrays, names = [], []
    order = [c[0] for c in cols] + extra
    r.shuffle(order)
    types = {c[0]: c[1] for c in cols}
    for name in order:
        t = PA[types.get(name, "timestamp")]
        if name == "small" and r.random() < 0.7: t = r.choice([pa.int8(), pa.int16(), pa.int32()])
        if name in ("ts", "seen") and r.random() < 0.3: t = pa.timestamp("us")  # without a zone: UTC
        if name == "emb" and r.random() < 0.5: t = pa.list_(pa.float32(), 3) if all(x[name] is not None for x in rows) else t
        if name in ("s", "region") and r.random() < 0.3: t = pa.large_string()
        values = [x[name] for x in rows]
        if name in ("s", "region") and r.random() < 0.3 and t == pa.string():
            arrays.append(pa.array(values, t).dictionary_encode())
        else:
            arrays.append(pa.array(values, t))
        names.append(name)
    table = pa.table(arrays, names=names)
    pq.write_table(table, path, compression=r.choice(["snappy", "zstd", "gzip", "none"]), row_group_size=r.choice([7, 100, 10_000]),
                   data_page_size=r.choice([100, 1 << 20]), use_dictionary=r.random() < 0.5, version=r.choice(["1.0", "2.6"]),
                   data_page_version=r.choice(["1.0", "2.0"]))


def cell(v, typ):
    """A value as NDJSON holds it."""
    if v is None: return None
    if typ == "timestamp": return iso(v)
    if typ == "bytes": return base64.b64encode(v).decode()
    return v


def write_ndjson(r, path, rows, cols, extra, whole=False):
    types = {c[0]: c[1] for c in cols} | {e: "timestamp" for e in extra}
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            o = {}
            for k in r.sample(sorted(row), len(row)):
                if row[k] is None and not whole and r.random() < 0.5: continue  # a missing field is null
                o[k] = cell(row[k], types[k])
            f.write(json.dumps(o, ensure_ascii=r.random() < 0.5) + "\n")
        if not rows: f.write("\n")  # a file of no bytes at all is refused


def write_csv(r, path, rows, cols, extra):
    types = {c[0]: c[1] for c in cols} | {e: "timestamp" for e in extra}
    names = sorted(types)
    with open(path, "w", encoding="utf-8", newline="") as f:
        w = csv.writer(f)
        w.writerow(names)
        for row in rows:
            out = []
            for k in names:
                v = cell(row[k], types[k])
                if v is None: out.append("")
                elif isinstance(v, bool): out.append("true" if v else "false")
                elif isinstance(v, list): out.append(json.dumps(v))
                else: out.append(repr(v) if isinstance(v, float) else str(v))
            w.writerow(out)


def run(forebay, folder, *args, check=True):
    p = subprocess.run([forebay, "-C", folder, *args], capture_output=True, text=True)
    if check and p.returncode != 0:
        print(f"forebay {' '.join(args)}: exit {p.returncode}\n{p.stdout}\n{p.stderr}")
        sys.exit(1)
    return p


def same(a, b):
    if a is None or b is None: return a is None and b is None
    if isinstance(a, float) and isinstance(b, float): return a == b and math.copysign(1, a) == math.copysign(1, b) or (a != a and b != b)
    if isinstance(a, list): return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return type(a) == type(b) and a == b


def micros(v):
    return None if v is None else (v.astimezone(timezone.utc) - EPOCH) // timedelta(microseconds=1) if v.tzinfo else (v - EPOCH.replace(tzinfo=None)) // timedelta(microseconds=1)


def one_round(forebay, folder, seed):
    r = random.Random(seed)
    os.makedirs(folder + "/data")
    cols = columns(r)
    with_created = r.random() < 0.5
    extra = ["ts"] + (["made"] if with_created else [])
    yaml = ["version: 1\nproject: oracle\n"]
    open(folder + "/forebay.yaml", "w").write(yaml[0])
    views = []
    for name, entities, keys in (("user_v", "[user]", ["user_id"]), ("pair_v", "[user, place]", ["user_id", "region"]), ("place_v", "[place]", ["region"]), ("all_v", "[]", [])):
        feats = r.sample(FEATURES, r.randrange(1, len(FEATURES)))
        ttl = r.choice([None, ("1s", 1_000_000), ("2h", 7_200_000_000), ("1d", DAY)])
        views.append((name, entities, keys, feats, ttl, r.choice(FILTERS)))
    doc = [
        "kind: Entity\nname: user\njoin_keys: [{name: user_id, type: int64}]",
        "kind: Entity\nname: place\njoin_keys: [{name: region, type: string}]",
        "kind: Source\nname: events\ntimestamp: ts\n" + ("created: made\n" if with_created else "") + "columns:\n" +
        "".join(f"  {n}: {t}\n" for n, t in [("ts", "timestamp")] + ([("made", "timestamp")] if with_created else []) + [(c[0], c[1]) for c in cols]) +
        "files: {glob: \"data/*\"}",
    ]
    for name, entities, _, feats, ttl, flt in views:
        doc.append(f"kind: FeatureView\nname: {name}\nsource: events\n" + (f"entities: {entities}\n" if entities != "[]" else "") + (f"ttl: {ttl[0]}\n" if ttl else "") +
                   (f"filter: \"{flt[0]}\"\n" if flt[0] else "") + "features:\n" + "".join(f"  - {{name: {name}_{f[0]}, type: {f[1]}, expr: \"{f[2]}\"}}\n" for f in feats))
    doc.append("kind: FeatureService\nname: everything\nfeatures: [" + ", ".join(v[0] for v in views) + "]")
    open(folder + "/features.yaml", "w").write("\n---\n".join(doc) + "\n")

    # Rows: few keys, few instants, so that ties and boundaries are common.
    instants = [BASE + r.randrange(0, 3 * DAY) for _ in range(r.choice([5, 50]))]
    instants += [t + d for t in instants[:3] for d in (1, 1_000_000, 7_200_000_000, DAY)]
    log = []  # (event time, ingested at or None, file number, row number, row)
    null = r.choice([0.0, 0.1, 0.5])
    paths = []
    for f in range(r.randrange(1, 5)):
        rows = []
        for _ in range(r.choice([0, 1, 30, 400])):
            row = {c[0]: None if r.random() < null and c[0] != "user_id" or r.random() < 0.02 else c[2]() for c in cols}
            row["ts"] = r.choice(instants)
            if with_created: row["made"] = row["ts"] + r.choice([0, 1, DAY])
            rows.append(row)
        kind = r.choice(["parquet", "ndjson", "csv"])
        path = f"{folder}/data/f{f}.{kind}"
        if kind == "csv":
            for row in rows:  # CSV cannot tell an empty string from a missing one
                for k in ("s", "region", "raw"):
                    if row[k] in ("", b""): row[k] = None
        {"parquet": write_parquet, "ndjson": write_ndjson, "csv": write_csv}[kind](r, path, rows, cols, extra)
        paths.append(path)
        for i, row in enumerate(rows):
            log.append((row["ts"], row["made"] if with_created else f, i, f, row))

    run(forebay, folder, "validate")
    run(forebay, folder, "apply", "--auto-approve")
    cut = r.randrange(0, len(paths) + 1)  # in two commands, to derive incrementally
    if cut: run(forebay, folder, "ingest", "events", *paths[:cut])
    if cut and r.random() < 0.5: run(forebay, folder, "materialize")
    if cut < len(paths): run(forebay, folder, "ingest", "events", *paths[cut:])
    if r.random() < 0.5: run(forebay, folder, "ingest", "events", *paths)  # again: skipped

    # The spine.
    spine = []
    for i in range(r.choice([1, 50, 700])):
        t = r.choice(instants) + r.choice([0, 0, -1, 1, 1_000_000, 7_200_000_000, DAY, DAY + 1, -3600_000_000])
        spine.append({"i": i, "user_id": r.choice([0, 1, 2, 3, -7, 2**53 + 1, 2**53, 99, None]), "region": r.choice(["x", "y", "1", "", "é", "X", "nowhere", None]), "event_timestamp": t, "note": r.choice(["p", "q,", None])})
    kind = r.choice(["parquet", "parquet", "csv", "ndjson", "arrow"])
    path = f"{folder}/spine.{kind}"
    schema = pa.schema([("i", pa.int32()), ("user_id", pa.int64()), ("region", pa.string()), ("event_timestamp", r.choice([pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin")])), ("note", pa.string())])
    table = pa.table({k: pa.array([row[k] if k != "event_timestamp" else row[k] * 1000 if schema.field(k).type.unit == "ns" else row[k] for row in spine], schema.field(k).type) for k in schema.names}, schema=schema)
    if kind == "parquet": pq.write_table(table, path, row_group_size=r.choice([10, 1000]))
    elif kind == "arrow":
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as w: w.write_table(table)
    else:
        for row in spine:
            if kind == "csv" and row["region"] == "": row["region"] = None
        fields = [("i", "int64"), ("user_id", "int64"), ("region", "string"), ("note", "string")]
        if kind == "csv": write_csv(r, path, spine, fields, ["event_timestamp"])
        else: write_ndjson(r, path, spine, fields, ["event_timestamp"], whole=True)  # a spine without its key is refused
    args = []
    known = None
    if with_created and r.random() < 0.5:
        known = r.choice(instants) + r.choice([0, 1, DAY])
        args = ["--known-at", iso(known)]
    out = f"{folder}/train.parquet"
    run(forebay, folder, "dataset", "build", "--service", "everything", "--spine", path, "--out", out, *args)

    got = pq.read_table(out)
    want_names = schema.names if kind in ("parquet", "arrow") else None
    feature_names = [f"{v[0]}_{f[0]}" for v in views for f in v[3]]
    if got.column_names[-len(feature_names):] != feature_names or len(got.column_names) != len(feature_names) + 5 or (want_names and got.column_names[:5] != want_names):
        print(f"columns {got.column_names}"); return False
    if got.num_rows != len(spine):
        print(f"{got.num_rows} rows of {len(spine)}"); return False
    data = {n: got.column(n).to_pylist() for n in got.column_names}
    for i, row in enumerate(spine):
        if str(data["i"][i]) != str(i) or (data["note"][i] or None) != row["note"]:
            print(f"row {i}: the spine's columns became {data['i'][i]!r} {data['note'][i]!r}, want {row}"); return False
        for name, _, keys, feats, ttl, flt in views:
            best = None
            if all(row[k] is not None for k in keys):
                for version in log:
                    e = version[4]
                    if any(e[k] is None or e[k] != row[k] for k in keys) or not flt[1](e) or version[0] > row["event_timestamp"]: continue
                    if known is not None and version[1] > known: continue
                    if best is None or version[:4] > best[:4]: best = version
            if best is not None and ttl and best[0] < row["event_timestamp"] - ttl[1]: best = None
            for f in feats:
                want = None if best is None else f[3](best[4])
                have = data[f"{name}_{f[0]}"][i]
                if f[1] == "timestamp": have = micros(have)
                if f[1] == "float64" and want is not None: want = float(want)
                if not same(have, want):
                    print(f"row {i} {row} known at {known}: {name}_{f[0]} is {have!r}, want {want!r}\nfrom {best}")
                    return False
    return True


def main():
    forebay, folder, seed, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for i in range(rounds):
        print(f"seed {seed + i}", flush=True)
        if not one_round(forebay, f"{folder}/{seed + i}", seed + i):
            print(f"differs: seed {seed + i}, left in {folder}/{seed + i}")
            sys.exit(1)
    print(f"{rounds} repositories, no difference")


main()
