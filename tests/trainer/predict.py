"""The oracle of artifacts: margins of every row of a task by the library that made the artifact.

    predict.py TASK.json KIND ARTIFACT  ->  one margin a line
"""

import json
import sys

import numpy as np
from tidemill_trainer.contract import Task
from tidemill_trainer.data import load

task, kind, artifact = Task(sys.argv[1], attempt=1), sys.argv[2], sys.argv[3]
data = load(task)
if kind == "lightgbm":
    import lightgbm

    booster = lightgbm.Booster(model_file=artifact)
    margins = booster.predict(data.matrix(booster.pandas_categorical), raw_score=True)
elif kind == "xgboost":
    import xgboost

    booster = xgboost.Booster(model_file=artifact)
    known = json.loads(booster.attr("tidemill_categories"))
    kinds = ["q"] * len(data.numbers) + ["c"] * len(data.categories)
    rows = xgboost.DMatrix(
        data.matrix(known).astype(np.float32),
        feature_types=kinds,
        feature_names=booster.feature_names,
        enable_categorical=True,
    )
    margins = booster.predict(rows, output_margin=True)
else:
    # The form itself is ours: the library is asked again with the same rows and settings.
    from sklearn.linear_model import LogisticRegression

    known = data.dictionaries()
    null = np.isnan(data.x)
    mean = np.nanmean(data.x, axis=0)
    scale = np.nanstd(data.x, axis=0)
    scale[scale == 0] = 1.0
    columns = [np.where(null, 0.0, (data.x - mean) / scale), null.astype(float)]
    codes = data.codes(known)
    columns += [(codes[:, [i]] == np.arange(len(v))).astype(float) for i, v in enumerate(known)]
    design = np.hstack(columns)
    margins = LogisticRegression(max_iter=1_000).fit(design, data.y).decision_function(design)
print("\n".join(repr(float(margin)) for margin in margins))
