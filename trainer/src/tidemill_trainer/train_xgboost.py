"""XGBoost. The artifact is its JSON model; names of inputs and values of categories are its attributes."""

import json

import numpy as np
import xgboost

from .contract import Trained
from .data import Data
from .measure import log_loss


def train(data: Data, parameters: dict, seed: int, threads: int) -> Trained:
    known = data.dictionaries()
    kinds = ["q"] * len(data.numbers) + ["c"] * len(data.categories)
    names = [f"f{at}" for at in range(len(kinds))]
    rows = xgboost.DMatrix(
        data.matrix(known).astype(np.float32),
        data.y,
        feature_types=kinds,
        feature_names=names,
        enable_categorical=True,
        nthread=threads,
    )
    given = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "eta": 0.05,
        "max_depth": 6,
        **parameters.get("params", {}),
        "seed": seed % (1 << 31),
        "nthread": threads,
    }
    booster = xgboost.train(given, rows, parameters.get("rounds", 150))
    margins = booster.predict(rows, output_margin=True)
    inputs = {"numbers": data.numbers, "categories": data.categories}
    booster.set_attr(tidemill_inputs=json.dumps(inputs), tidemill_categories=json.dumps(known))
    text = bytes(booster.save_raw("json"))
    metrics = {"log_loss": log_loss(margins.astype(float), data.y), "trees": float(booster.num_boosted_rounds())}
    return Trained("xgboost", text, metrics)
