"""Makes the registries of testdata with Feast itself (pip install feast==0.67.0):

    python make.py            # in this folder

drivers/registry.db is what `feast init` and `feast apply` would make; shop/registry.db has
what is hard to carry over.
"""
import os
from datetime import timedelta

import pandas as pd
from feast import (Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, KafkaSource, PushSource,
                   RepoConfig, RequestSource, ValueType)
from feast.aggregation import Aggregation
from feast.data_format import AvroFormat, JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RegistryConfig
from feast.stream_feature_view import stream_feature_view
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, Map, String, UnixTimestamp

here = os.path.dirname(os.path.abspath(__file__))


def store(name):
    path = os.path.join(here, name, "registry.db")
    if os.path.exists(path):
        os.remove(path)
    return FeatureStore(config=RepoConfig(project=name, provider="local", registry=RegistryConfig(path=path, cache_ttl_seconds=0),
                                          online_store=None, entity_key_serialization_version=3))


def apply(name, objects):
    s = store(name)
    for o in objects:
        if isinstance(o, Entity):
            s.registry.apply_entity(o, name)
        elif isinstance(o, FeatureService):
            s.registry.apply_feature_service(o, name)
        elif isinstance(o, (FileSource, KafkaSource, PushSource, RequestSource)):
            s.registry.apply_data_source(o, name)
        else:
            s.registry.apply_feature_view(o, name)
    s.registry.commit()


driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64, description="who drives", owner="ops@example.com", tags={"team": "rides"})
driver_source = FileSource(name="driver_hourly_stats_source", path="data/driver_stats.parquet", timestamp_field="event_timestamp", created_timestamp_column="created")
driver_stats = FeatureView(
    name="driver_hourly_stats", entities=[driver], ttl=timedelta(days=1), source=driver_source, online=True, tags={"team": "rides"},
    schema=[Field(name="conv_rate", dtype=Float32), Field(name="acc_rate", dtype=Float32), Field(name="avg_daily_trips", dtype=Int64, description="trips: a day's mean")],
)
driver_push = PushSource(name="driver_stats_push_source", batch_source=driver_source)
driver_stats_fresh = FeatureView(
    name="driver_hourly_stats_fresh", entities=[driver], ttl=timedelta(days=1), source=driver_push, online=True,
    schema=[Field(name="conv_rate", dtype=Float32), Field(name="acc_rate", dtype=Float32), Field(name="avg_daily_trips", dtype=Int64)],
)
request = RequestSource(name="vals_to_add", schema=[Field(name="val_to_add", dtype=Int64)])


@on_demand_feature_view(sources=[driver_stats, request], schema=[Field(name="conv_rate_plus_val1", dtype=Float64)])
def transformed_conv_rate(inputs: pd.DataFrame) -> pd.DataFrame:
    df = pd.DataFrame()
    df["conv_rate_plus_val1"] = inputs["conv_rate"] + inputs["val_to_add"]
    return df


apply("drivers", [
    driver, driver_source, driver_push, request, driver_stats, driver_stats_fresh, transformed_conv_rate,
    FeatureService(name="driver_activity_v1", features=[driver_stats[["conv_rate"]], transformed_conv_rate]),
    FeatureService(name="driver_activity_v2", features=[driver_stats, transformed_conv_rate], description="all of it"),
    FeatureService(name="driver_activity_v3", features=[driver_stats_fresh, transformed_conv_rate]),
])

user = Entity(name="user", join_keys=["user-id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
airport = Entity(name="airport", join_keys=["iata"], value_type=ValueType.STRING)
orders = FileSource(name="orders", path="s3://shop/orders.parquet", timestamp_field="at", field_mapping={"total_eur": "total"})
user_orders = FeatureView(
    name="user-orders", entities=[user], ttl=timedelta(0), source=orders, online=False,
    schema=[Field(name="total", dtype=Float64), Field(name="basket", dtype=Array(Int32)), Field(name="meta", dtype=Map), Field(name="last", dtype=UnixTimestamp), Field(name="paid", dtype=Bool)],
)
embeddings = FileSource(name="embeddings", path="file:///data/embeddings", timestamp_field="ts")
item_vectors = FeatureView(
    name="item_vectors", entities=[item], source=embeddings,
    schema=[Field(name="vector", dtype=Array(Float32), vector_index=True, vector_length=8, vector_search_metric="cosine"), Field(name="raw", dtype=Bytes), Field(name="total", dtype=String)],
)
pair = FeatureView(name="user_item", entities=[user, item], ttl=timedelta(hours=36), source=orders, schema=[Field(name="total", dtype=Float64)])
site = FeatureView(name="site", entities=[], source=FileSource(name="site_rows", path="data/site.parquet", timestamp_field="at"), schema=[Field(name="visitors", dtype=Int64)])
clash = FeatureView(name="order_text", entities=[user], source=orders, schema=[Field(name="total", dtype=String)])
weather = FeatureView(name="weather", entities=[airport], source=FileSource(name="weather", path="data/weather.parquet", timestamp_field="at"), schema=[Field(name="wind", dtype=Float64)])
clicks_batch = FileSource(name="clicks_batch", path="data/clicks.parquet", timestamp_field="at")
clicks = KafkaSource(name="clicks", kafka_bootstrap_servers="kafka:9092", topic="clicks", timestamp_field="at", batch_source=clicks_batch,
                     message_format=JsonFormat(schema_json="user-id string, at timestamp, price double"), watermark_delay_threshold=timedelta(minutes=5))
views_avro = KafkaSource(name="page_views", kafka_bootstrap_servers="kafka:9092", topic="page-views", timestamp_field="at", batch_source=clicks_batch,
                         message_format=AvroFormat(schema_json="{}"))
page_views = FeatureView(name="page_views", entities=[user], source=views_avro, ttl=timedelta(minutes=90), schema=[Field(name="page", dtype=String)])


@stream_feature_view(
    entities=[user], ttl=timedelta(days=30), mode="pandas", online=True, source=clicks, timestamp_field="at",
    schema=[Field(name="price", dtype=Float64)],
    aggregations=[Aggregation(column="price", function="sum", time_window=timedelta(hours=1)), Aggregation(column="price", function="mean", time_window=timedelta(hours=24), slide_interval=timedelta(minutes=30)),
                  Aggregation(column="price", function="median", time_window=timedelta(hours=24))],
)
def click_prices(df):
    return df


apply("shop", [
    user, item, airport, orders, embeddings, clicks, user_orders, item_vectors, pair, site, clash, weather, page_views, click_prices,
    FeatureService(name="checkout", features=[user_orders, pair, item_vectors[["vector"]], weather.with_name("origin_weather").with_join_key_map({"iata": "origin"}), weather.with_name("destination_weather").with_join_key_map({"iata": "destination"})]),
])
