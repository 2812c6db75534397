"""LightGBM. The artifact is its text model, with the values of each category as its Python package keeps
those of pandas: a last line `pandas_categorical:` with one list a category."""

import json

import lightgbm
import numpy as np

from .contract import Trained
from .data import Data
from .measure import log_loss


def train(data: Data, parameters: dict, seed: int, threads: int) -> Trained:
    known = data.dictionaries()
    names = data.numbers + data.categories
    # Names go into a text of words: spaces and signs would cut them.
    plain = [f"{at}_{''.join(c if c.isalnum() or c in '._-' else '_' for c in name)}" for at, name in enumerate(names)]
    categories = list(range(len(data.numbers), len(names)))
    given = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 200,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
        **parameters.get("params", {}),
        "seed": seed % (1 << 31),
        "num_threads": threads,
    }
    rows = lightgbm.Dataset(
        data.matrix(known), data.y, feature_name=plain, categorical_feature=categories, params={"verbosity": -1}
    )
    booster = lightgbm.train(given, rows, parameters.get("rounds", 150))
    margins = booster.predict(data.matrix(known), raw_score=True, num_threads=threads)
    text = booster.model_to_string()
    # The dump names the threads, on which nothing depends.
    lines = [line for line in text.split("\n") if not line.startswith("[num_threads:")]
    lines = [line for line in lines if not line.startswith("pandas_categorical:")]
    text = "\n".join(lines).rstrip("\n") + "\n"
    text += f"tidemill_features:{json.dumps({'numbers': data.numbers, 'categories': data.categories})}\n"
    text += f"\npandas_categorical:{json.dumps(known)}\n"
    metrics = {"log_loss": log_loss(np.asarray(margins), data.y), "trees": float(booster.num_trees())}
    return Trained("lightgbm", text.encode(), metrics)
