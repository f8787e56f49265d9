"""Reads Iceberg tables with PyIceberg and prints their rows as JSON.

Each argument is a metadata file, and after a '?' a row filter. One line a
table: {"rows": [{column: value}]}. Values are strings: integers and
timestamps (microseconds) in decimal, floats as their bits, bytes in hex.
"""
import json
import math
import struct
import sys

import pyarrow as pa
from pyiceberg.table import StaticTable


def plain(t):
    """The type with timestamps as integers, which Python's datetime would bound."""
    if pa.types.is_timestamp(t):
        return pa.int64()
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return pa.list_(plain(t.value_type))
    return t


def text(v):
    if v is None:
        return None
    if isinstance(v, bool):
        return str(v).lower()
    if isinstance(v, float):
        return "nan" if math.isnan(v) else struct.pack(">d", v).hex()
    if isinstance(v, bytes):
        return v.hex()
    if isinstance(v, list):
        return [text(e) for e in v]
    return str(v)


for arg in sys.argv[1:]:
    path, _, row_filter = arg.partition("?")
    table = StaticTable.from_metadata(path)
    scan = table.scan(row_filter=row_filter) if row_filter else table.scan()
    arrow = scan.to_arrow()
    arrow = pa.table({f.name: arrow[f.name].cast(plain(f.type)) for f in arrow.schema})
    rows = [{k: text(v) for k, v in row.items()} for row in arrow.to_pylist()]
    print(json.dumps({"rows": rows}))
