"""Recomputes the ID and the content hash of a dataset from its kept manifest and its file, by
docs/format/dataset.md alone: recompute.py MANIFEST.json FILE (.parquet, or an Arrow IPC file)."""
import hashlib
import json
import struct
import sys

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq


def canonical(v):
    """JSON without white space, with sorted members and without nulls."""
    return json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def value(t, v):
    if v is None:
        return b"\x00"
    out = b"\x01"
    if pa.types.is_boolean(t):
        return out + bytes([v])
    if pa.types.is_integer(t):
        return out + struct.pack("<Q", v & (2**64 - 1))
    if pa.types.is_float64(t):
        return out + (bytes.fromhex("000000000000f87f") if v != v else struct.pack("<d", v))
    if pa.types.is_float32(t):
        return out + (bytes.fromhex("0000c07f") if v != v else struct.pack("<f", v))
    if pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_null(t):
        b = v.encode()
        return out + struct.pack("<I", len(b)) + b
    if pa.types.is_binary(t) or pa.types.is_large_binary(t):
        return out + struct.pack("<I", len(v)) + v
    if pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_fixed_size_list(t):
        return out + struct.pack("<I", len(v)) + b"".join(value(t.value_type, e) for e in v)
    raise SystemExit(f"this script does not know type {t}")


def plain(column):
    """Timestamps and dates as integers, since Python's have not their range."""
    t = column.type
    if pa.types.is_timestamp(t) or pa.types.is_date32(t):
        return column.cast(pa.int64() if pa.types.is_timestamp(t) else pa.int32())
    return column


def text(s):
    b = s.encode()
    return struct.pack("<I", len(b)) + b


def rows_hash(table, columns):
    out = b"forebay rows 1\n" + struct.pack("<Q", table.num_rows)
    for i, c in enumerate(columns):
        col = plain(table.column(i))
        sum_ = hashlib.sha256()
        for v in col.to_pylist():
            sum_.update(value(col.type, v))
        if "hash" in c and c["hash"] != sum_.hexdigest():
            raise SystemExit(f"column {c['name']}: {sum_.hexdigest()}, the manifest says {c['hash']}")
        out += text(c["name"]) + text(c["type"]) + sum_.digest()
    return "sha256:" + hashlib.sha256(out).hexdigest()


manifest, path = json.load(open(sys.argv[1]))["manifest"], sys.argv[2]
table = pq.read_table(path) if path.endswith(".parquet") else feather.read_table(path)
columns = manifest["columns"]
if table.column_names != [c["name"] for c in columns]:
    raise SystemExit(f"columns {table.column_names}")
spine = len(columns) - len(manifest["inputs"]["features"])
print("id", "sha256:" + hashlib.sha256(canonical(manifest["inputs"])).hexdigest())
print("content", rows_hash(table, columns))
print("spine", rows_hash(table, columns[:spine]))
