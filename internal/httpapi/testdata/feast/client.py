"""Reads our server with Feast's own client: FeatureStore with the remote online store.

Usage: client.py URL. Prints one JSON document: what the client made of the answers.
"""
import json
import sys
import tempfile
from datetime import timedelta

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String, UnixTimestamp

url, here = sys.argv[1], tempfile.mkdtemp()
driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)


def source(name):
    return FileSource(name=name, path=f"{here}/{name}.parquet", timestamp_field="event_timestamp")


def view(name, entities, keys, src, **features):
    schema = [Field(name=k, dtype=t) for k, t in {**keys, **features}.items()]
    return FeatureView(name=name, entities=entities, source=src, ttl=timedelta(0), schema=schema)


drivers, customers = source("drivers"), source("customers")
stats = view("driver_stats", [driver], {"driver_id": Int64}, drivers, conv_rate=Float64, trips=Int64, vip=Bool, label=String)
types = view("driver_types", [driver], {"driver_id": Int64}, drivers, joined=UnixTimestamp, blob=Bytes, recent=Array(Int64), scores=Array(Float64),
             tags=Array(String), flags=Array(Bool), seen=Array(UnixTimestamp), emb=Array(Float32))
profile = view("customer_profile", [customer], {"customer_id": String}, customers, age=Int64, conv_rate=Float64)
store = FeatureStore(config=RepoConfig(project="compat", registry=f"{here}/registry.db", provider="local",
                                       online_store={"type": "remote", "path": url}, offline_store={"type": "dask"}, entity_key_serialization_version=3))
service = FeatureService(name="driver_svc", features=[stats[["trips", "conv_rate"]]])
store.apply([driver, customer, drivers, customers, stats, types, profile, service])


def ask(features, rows, **kw):
    try:
        return store.get_online_features(features=features, entity_rows=rows, **kw).to_dict()
    except Exception as e:  # its class is what is looked at
        return {"raised": type(e).__name__}


answer = {
    "refs": ask(["driver_stats:trips", "driver_stats:label", "driver_stats:vip"], [{"driver_id": 1001}, {"driver_id": 1006}, {"driver_id": 9999}]),
    "full": ask(["driver_stats:conv_rate", "customer_profile:conv_rate"], [{"driver_id": 1001, "customer_id": "c-1"}], full_feature_names=True),
    "service": ask(store.get_feature_service("driver_svc"), [{"driver_id": 1003}]),
    "types": ask(["driver_types:recent", "driver_types:scores", "driver_types:tags", "driver_types:flags"], [{"driver_id": 1001}]),
    "unknown view": ask(["nope:trips"], [{"driver_id": 1001}]),
    "collision": ask(["driver_stats:conv_rate", "customer_profile:conv_rate"], [{"driver_id": 1001, "customer_id": "c-1"}]),
}

# The path that reads view by view, as older clients do.
read = store._get_provider().online_store.online_read
keys = []
for n in (1001, 1006):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    keys.append(EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=n)]))
answer["online_read"] = [{k: getattr(v, v.WhichOneof("val")) for k, v in row.items()} for _, row in read(store.config, store.get_feature_view("driver_stats"), keys, ["trips", "label"])]
print(json.dumps(answer, default=str))
