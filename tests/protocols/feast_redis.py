"""What the Redis sink wrote, read by Feast's own SDK, and Feast writing beside it.

    feast_redis.py STORE FEATURES.jsonl read|write|after

`STORE` is Feast's configuration of the online store, as JSON. `read` compares every feature of every entity with its
newest row in the file. `write` has Feast write an older row of one entity and a newer one of another. `after` wants both to be as Feast left them.
"""

import datetime
import json
import math
import os
import sys
import tempfile

os.environ.setdefault("FEAST_USAGE", "False")

# This file lies beside one that has the name of the package.
sys.path.pop(0)

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Bool, Float64, Int64, Map, String, UnixTimestamp

store, path, mode = sys.argv[1:4]
TYPES = {
    "id": Int64,
    "whole": Int64,
    "number": Float64,
    "word": String,
    "ok": Bool,
    "seen": UnixTimestamp,
    "total": Float64,
    "latest": Array(Float64),
    "wholes": Array(Int64),
    "words": Array(String),
    "oks": Array(Bool),
    "times": Array(UnixTimestamp),
    "counts": Map,
}


def seconds(text):
    """Feast keeps times in whole seconds."""
    time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return datetime.datetime.fromtimestamp(math.floor(time.timestamp()), datetime.timezone.utc)


def wanted(name, value):
    if value is None:
        return None
    if name == "seen":
        return seconds(value)
    if name == "times":
        return [one and seconds(one) for one in value]
    return value


def found(value):
    """Times in lists come without a zone's name, numbers as they are."""
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=datetime.timezone.utc)
    if isinstance(value, list):
        return [found(one) for one in value]
    return value


newest = {}
with open(path) as lines:
    for line in lines:
        row = json.loads(line)
        # The file is in the order of (event time, id).
        if row["card"] is not None:
            newest[row["card"], row["shop"]] = row

with tempfile.TemporaryDirectory() as folder:
    # Feast wants a source to be named; nothing is read from it.
    now = datetime.datetime.now(datetime.timezone.utc)
    pd.DataFrame({"card": ["a"], "shop": [1], "event_timestamp": [now]}).to_parquet(f"{folder}/nothing.parquet")
    config = RepoConfig(
        project="payments",
        provider="local",
        registry=f"{folder}/registry.db",
        online_store=json.loads(store),
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
    view = FeatureView(
        name="cards",
        entities=[card, shop],
        schema=[Field(name=name, dtype=dtype) for name, dtype in TYPES.items()],
        source=FileSource(path=f"{folder}/nothing.parquet", timestamp_field="event_timestamp"),
        ttl=datetime.timedelta(0),
    )
    store.apply([card, shop, view])

    def read(keys):
        entities = [{"card": card, "shop": shop} for card, shop in keys]
        names = [f"cards:{name}" for name in TYPES]
        return store.get_online_features(features=names, entity_rows=entities).to_dict()

    def write(key, time, number):
        row = {name: [None] for name in TYPES}
        row |= {"card": [key[0]], "shop": [key[1]], "number": [number], "event_timestamp": [time]}
        store.write_to_online_store("cards", pd.DataFrame(row))

    keys = sorted(newest)
    older, newer = keys[0], keys[1]
    if mode == "read":
        answer = read([*keys, ("nobody", 1)])
        kinds = {name: set() for name in TYPES}
        for at, key in enumerate(keys):
            for name in TYPES:
                want, got = wanted(name, newest[key][name]), found(answer[name][at])
                assert want == got, f"{key} {name}: {want!r} and not {got!r}"
                if isinstance(want, float):
                    assert math.copysign(1, want) == math.copysign(1, got), f"{key} {name}: {got!r}"
                kinds[name].add(type(got))
        assert all(answer[name][-1] is None for name in TYPES), answer
        # Values and NULL were seen of each type.
        for name in ("whole", "number", "word", "ok", "seen"):
            assert len(kinds[name]) == 2 and type(None) in kinds[name], f"{name}: {kinds}"
        for name in ("times", "oks", "wholes"):
            lists = [found(one) for one in answer[name] if one]
            assert any(None in one for one in lists) and any(None not in one for one in lists), f"{name}: {lists}"
    elif mode == "write":
        write(older, seconds(newest[older]["event_time"]) - datetime.timedelta(seconds=5), -1.5)
        write(newer, seconds(newest[newer]["event_time"]) + datetime.timedelta(days=1), -2.5)
    if mode != "read":
        answer = read([older, newer])
        assert answer["number"] == [newest[older]["number"], -2.5], answer["number"]
        assert answer["id"] == [newest[older]["id"], None], answer["id"]
print("all is well")
