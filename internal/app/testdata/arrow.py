"""Datasets as Arrow: arrow.py FLIGHT_LOCATION HTTP_URL FILE.arrow ID. FILE is the dataset ID, built by the command."""
import io
import json
import sys
import urllib.request

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.flight as fl

location, url, path, dataset = sys.argv[1:5]
direct = feather.read_table(path)
assert direct.column_names == ["origin", "event_timestamp", "label", "last_delay", "last_far"], direct.column_names
want = direct.to_pylist()
assert [r["last_delay"] for r in want] == [10, None, None, 7, None, None, None], want

# Other readers of the file.
assert pl.read_ipc(path).to_dicts() == want
assert duckdb.connect().execute("SET TimeZone='UTC'; SELECT sum(last_delay) FROM direct").fetchone() == (17,)

# The rows of a dataset, over HTTP.
request = urllib.request.Request(f"{url}/v1/datasets/{dataset}/data", headers={"Accept": "application/vnd.apache.arrow.stream"})
with urllib.request.urlopen(request) as answer:
    assert answer.headers["X-Forebay-Dataset"] == dataset
    body = answer.read()
assert pa.ipc.open_stream(body).read_all().to_pylist() == want
assert pl.read_ipc_stream(io.BytesIO(body)).to_dicts() == want

# And over Arrow Flight.
client = fl.connect(location)
assert client.do_get(fl.Ticket(dataset)).read_all().to_pylist() == want
info = client.get_flight_info(fl.FlightDescriptor.for_path(dataset))
assert info.total_records == 7
assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == 7
assert [f.descriptor.path[0].decode() for f in client.list_flights()] == [dataset]

spine = direct.select(["origin", "event_timestamp", "label"])
command = fl.FlightDescriptor.for_command(json.dumps({"service": "delay", "name": "flown"}))
writer, reader = client.do_put(command, spine.schema)
for batch in spine.to_batches(max_chunksize=2):
    writer.write_batch(batch)
writer.done_writing()
put = json.loads(reader.read().to_pybytes())
writer.close()
flown = client.do_get(fl.Ticket(put["id"])).read_all()
assert flown.to_pylist() == want
assert duckdb.connect().execute("SELECT count(*) FROM flown").fetchone() == (7,)
assert pl.from_arrow(flown).to_dicts() == want

# In one call.
writer, reader = client.do_exchange(command)
with writer:
    writer.begin(spine.schema)
    writer.write_table(spine)
    writer.done_writing()
    assert reader.read_all().to_pylist() == want

for call, text in [
    (lambda: client.do_get(fl.Ticket("sha256:00000000")).read_all(), "no dataset has the ID"),
    (lambda: client.get_flight_info(fl.FlightDescriptor.for_path("nope")), "no dataset"),
]:
    try:
        call()
        raise SystemExit("it was not refused")
    except (pa.ArrowKeyError, fl.FlightError, KeyError) as e:
        assert text in str(e), e
writer, reader = client.do_put(fl.FlightDescriptor.for_command(b'{"service": "delay"}'), pa.schema([("label", pa.string())]))
try:
    writer.write_batch(pa.record_batch([pa.array(["a"])], names=["label"]))
    writer.done_writing()
    reader.read()
    writer.close()
    raise SystemExit("a spine without keys was not refused")
except (pa.ArrowInvalid, fl.FlightError) as e:
    assert "the spine lacks" in str(e), e
print(json.dumps(put))
