"""Makes the fixtures of offline/files: files as other writers write them.

    python -m pip install pyarrow duckdb polars
    python offline/files/testdata/make.py

They were made with pyarrow 26.0, duckdb 2.0 and polars 2.1. types.json holds what the
readers must find in types_*.parquet and types_*.arrow*: the rows as Python sees
them, as NDJSON, written without the code under test.
"""

import base64
import datetime as dt
import decimal
import json
import os

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

HERE = os.path.dirname(os.path.abspath(__file__))
os.chdir(HERE)
UTC = dt.timezone.utc
D = decimal.Decimal
N = 7


def every(values, nulls=(3,)):
    return [None if i in nulls else values[i % len(values)] for i in range(N)]


instants = [dt.datetime(2001, 6, 30, 23, 51, 0, 123456), dt.datetime(1969, 12, 31, 23, 59, 59, 999000), dt.datetime(1, 1, 1), dt.datetime(2100, 1, 1, 0, 0, 0, 1000)]
near = [instants[0].replace(microsecond=123000), instants[1], dt.datetime(1700, 1, 1), instants[3]]

columns = [
    ("required", pa.int64(), list(range(N))),
    ("i8", pa.int8(), every([-128, 127, 0])),
    ("i16", pa.int16(), every([-32768, 32767])),
    ("i32", pa.int32(), every([-(2**31), 2**31 - 1])),
    ("i64", pa.int64(), every([-(2**63), 2**63 - 1, 9007199254740993])),
    ("u8", pa.uint8(), every([0, 255])),
    ("u16", pa.uint16(), every([0, 65535])),
    ("u32", pa.uint32(), every([0, 2**32 - 1])),
    ("u64", pa.uint64(), every([0, 2**64 - 1])),
    ("f32", pa.float32(), every([0.0, 1.5, float("nan"), float("-inf")])),
    ("f64", pa.float64(), every([0.0, -0.0, 1e300, float("nan"), 0.1])),
    ("b", pa.bool_(), every([True, False, False])),
    ("s", pa.string(), every(["SFO", "", "naïve 😀", 'q"uo,te\n'])),
    ("raw", pa.binary(), every([b"\x00\xff", b""])),
    ("fixed", pa.binary(3), every([b"abc", b"\x00\x01\x02"])),
    ("day", pa.date32(), every([dt.date(2001, 6, 30), dt.date(1969, 12, 31), dt.date(1, 1, 1)])),
    ("t_ms", pa.timestamp("ms"), every(near)),
    ("t_us", pa.timestamp("us"), every(instants)),
    ("t_us_utc", pa.timestamp("us", "UTC"), every(instants)),
    ("t_ns_utc", pa.timestamp("ns", "UTC"), every(near)),
    ("clock", pa.time64("us"), every([dt.time(1, 2, 3, 4), dt.time(23, 59, 59)])),
    ("d9", pa.decimal128(9, 2), every([D("1234567.89"), D("-0.01")])),
    ("d18", pa.decimal128(18, 4), every([D("12345678901234.5678"), D("-1.0000")])),
    ("d38", pa.decimal128(38, 3), every([D("12345678901234567890123456789012345.678"), D("-0.001")])),
    ("li", pa.list_(pa.int64()), every([[1, 2, 3], [], [None, 5]])),
    ("ls", pa.list_(pa.string()), every([["a", ""], ["bc"]])),
    ("lf", pa.list_(pa.float32()), every([[0.5, 1.5], [2.5, 3.5]])),
    ("ll", pa.list_(pa.list_(pa.int64())), every([[[1], [], [2, 3]], [], [None, [4]]])),
    ("st", pa.struct([("late", pa.int64()), ("more", pa.struct([("deep", pa.string())]))]),
     every([{"late": 1, "more": {"deep": "x"}}, {"late": None, "more": None}, {"late": 3, "more": {"deep": None}}])),
    ("lst", pa.list_(pa.struct([("k", pa.string()), ("v", pa.list_(pa.int32()))])), every([[{"k": "a", "v": [1, 2]}, {"k": None, "v": None}], [], [{"k": "b", "v": []}]])),
]


def text(t, v):
    if v is None:
        return None
    if pa.types.is_binary(t) or pa.types.is_fixed_size_binary(t):
        return base64.b64encode(v).decode()
    if pa.types.is_timestamp(t):
        return v.isoformat() + ("Z" if t.tz else "")
    if pa.types.is_date(t) or pa.types.is_time(t):
        return v.isoformat()
    if pa.types.is_decimal(t):
        return "decimal:" + str(v)
    if pa.types.is_floating(t):
        return "float:" + repr(v)
    if pa.types.is_list(t):
        return [text(t.value_type, x) for x in v]
    if pa.types.is_struct(t):
        return {t.field(i).name: text(t.field(i).type, v[t.field(i).name]) for i in range(t.num_fields)}
    return v


schema = pa.schema([pa.field(n, t, nullable=n != "required") for n, t, _ in columns])
table = pa.table([pa.array(v, type=t) for _, t, v in columns], schema=schema)
with open("types.json", "w") as f:
    for i in range(N):
        f.write(json.dumps({n: text(t, v[i]) for n, t, v in columns}) + "\n")

pq.write_table(table, "types_pyarrow.parquet", row_group_size=4)
pq.write_table(table, "types_pyarrow_plain_v2.parquet", use_dictionary=False, data_page_version="2.0", compression="zstd", data_page_size=8)

with pa.ipc.new_stream("types_pyarrow.arrows", schema) as w:
    for batch in table.to_batches(max_chunksize=3):
        w.write_batch(batch)
feather.write_feather(table, "types_pyarrow.arrow", compression="zstd")

duckdb.from_arrow(table).write_parquet("types_duckdb.parquet", compression="snappy")
pl.from_arrow(table).write_parquet("types_polars.parquet", compression="zstd")
pl.from_arrow(table.select(["required", "i64", "f64", "b", "s", "day", "t_us_utc", "li"])).write_ipc("polars.arrow")

# INT96, as Spark and Impala write timestamps; and a list whose row length is wrong.
pq.write_table(pa.table({"t": pa.array(every(near), pa.timestamp("ns"))}), "int96.parquet", use_deprecated_int96_timestamps=True)
pq.write_table(pa.table({
    "t": pa.array([dt.datetime(2001, 1, 1)] * 3),
    "e": pa.array([[1.0, 2.0], [1.0], None], pa.list_(pa.float32())),
    "u": pa.array([1, 2**63, 2**64 - 1], pa.uint64()),
}), "bad_rows.parquet")
with pa.ipc.new_file("categories.arrow", pa.schema([("c", pa.dictionary(pa.int32(), pa.string()))])) as w:
    w.write_table(pa.table({"c": pa.array(["a", None, "b", "a"]).dictionary_encode()}))
pq.write_table(pa.table({"x": [1, 2, 3]}), "lz4.parquet", compression="lz4")

# Bools in runs, as pages of version 2 hold them: row i is null, or whether i // 7 is a multiple of 3.
bools = [None if i % 11 == 0 else i // 7 % 3 == 0 for i in range(10_000)]
pq.write_table(pa.table({"b": bools, "l": [[b, b] for b in bools]}), "bools_rle.parquet", data_page_version="2.0", data_page_size=300, row_group_size=6_000)

# Columns without a value, as pandas and Arrow have them: of the type null.
nothing = pa.table({"id": [1, 2], "none": pa.nulls(2), "nones": pa.array([[], [None]], pa.list_(pa.null()))})
pq.write_table(nothing, "nulls.parquet")
feather.write_feather(nothing, "nulls.arrow", compression="uncompressed")
