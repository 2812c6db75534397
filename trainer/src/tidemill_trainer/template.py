"""A trainer to copy: counts the labels and predicts their share, whatever the row.

In the pipeline: type = "python", module = "tidemill_trainer.template", params = { smoothing = 1.0 }.
"""

import json
import math

from tidemill_trainer import Trained


def train(data, parameters: dict, seed: int, threads: int) -> Trained:
    """`data.x` are numbers (rows x columns, NaN for NULL), `data.texts` categories, `data.y` labels.

    Equal arguments must give equal bytes. Raise `tidemill_trainer.DataError` where the rows cannot be
    learnt: then nobody tries them again.
    """
    smoothing = float(parameters.get("params", {}).get("smoothing", 1.0))
    positive = float(data.y.sum())
    margin = math.log((positive + smoothing) / (len(data.y) - positive + smoothing))
    form = {
        "format": "tidemill.linear",
        "version": 1,
        "intercept": margin,
        "numbers": [
            {"name": name, "mean": 0.0, "scale": 1.0, "weight": 0.0, "null": 0.0} for name in data.numbers
        ],
        "categories": [{"name": name, "weights": []} for name in data.categories],
    }
    return Trained("linear", json.dumps(form).encode(), {"share": positive / len(data.y)})
