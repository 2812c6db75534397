"""The oracle of ONNX artifacts: the probability of every row of a task by ONNX Runtime and by the library that
trained, which trains again for it.

    predict_onnx.py TASK.json ARTIFACT  ->  two probabilities a line
"""

import sys

import numpy as np
import onnxruntime
from tidemill_trainer.contract import Task
from tidemill_trainer.data import load

task = Task(sys.argv[1], attempt=1)
data = load(task)
known = data.dictionaries()
rows = data.matrix(known).astype(np.float32)
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
scores = session.run(None, {session.get_inputs()[0].name: rows})[-1]
theirs = np.array([row[1] for row in scores])
given = task.training["parameters"]
if task.training["trainer"] == "python":
    import onnx_models

    _, predict = onnx_models.fit(given["params"]["which"], rows, data.y)
else:
    from sklearn import ensemble
    from tidemill_trainer.train_scikit_learn import FORESTS

    name = FORESTS[given["estimator"]]
    if name == "GradientBoostingClassifier":
        rows = np.where(np.isnan(rows), np.nanmean(rows.astype(np.float64), axis=0).astype(np.float32), rows)
    seed = task.training["seed"]
    model = getattr(ensemble, name)(random_state=seed, **given["params"]).fit(rows, data.y)
    predict = lambda rows: model.predict_proba(rows)[:, 1]  # noqa: E731
for one, other in zip(theirs, predict(rows)):
    print(repr(float(one)), repr(float(other)))
