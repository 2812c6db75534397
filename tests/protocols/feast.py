"""Features by Feast's own SDK, whose online store of type `remote` asks this server."""

import datetime
import os
import sys
import tempfile

os.environ.setdefault("FEAST_USAGE", "False")

# This file has the name of the package that it is about.
sys.path.pop(0)

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Bool, Float64

address, expected = sys.argv[1], float(sys.argv[2])
with tempfile.TemporaryDirectory() as folder:
    # Feast wants a source to be named; nothing is read from it.
    now = datetime.datetime.now(datetime.timezone.utc)
    row = {"card": ["c1"], "sum_1h": [0.0], "ratio": [0.0], "large": [False], "event_timestamp": [now]}
    pd.DataFrame(row).to_parquet(f"{folder}/nothing.parquet")
    config = RepoConfig(
        project="shop",
        provider="local",
        registry=f"{folder}/registry.db",
        online_store={"type": "remote", "path": f"http://{address}"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
    view = FeatureView(
        name="shop",
        entities=[card],
        schema=[
            Field(name="sum_1h", dtype=Float64),
            Field(name="ratio", dtype=Float64),
            Field(name="large", dtype=Bool),
        ],
        source=FileSource(path=f"{folder}/nothing.parquet", timestamp_field="event_timestamp"),
        ttl=datetime.timedelta(0),
    )
    store.apply([card, view])
    names = ["shop:sum_1h", "shop:ratio", "shop:large"]
    cards = [{"card": "c1"}, {"card": "nobody"}]
    found = store.get_online_features(features=names, entity_rows=cards).to_dict()
    assert found["card"] == ["c1", "nobody"], found
    assert found["sum_1h"][0] == expected, found
    assert isinstance(found["ratio"][0], float) and isinstance(found["large"][0], bool), found
    assert [found[name][1] for name in ("sum_1h", "ratio", "large")] == [None] * 3, found
print("all is well")
