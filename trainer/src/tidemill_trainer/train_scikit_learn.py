"""scikit-learn. A logistic regression becomes the linear form of Tidemill, trees become ONNX."""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression

from .contract import CodeError, Trained
from .data import Data
from .measure import log_loss


FORESTS = {
    "hist_gradient_boosting": "HistGradientBoostingClassifier",
    "gradient_boosting": "GradientBoostingClassifier",
    "random_forest": "RandomForestClassifier",
    "extra_trees": "ExtraTreesClassifier",
}


def train(data: Data, parameters: dict, seed: int, threads: int) -> Trained:
    estimator = parameters.get("estimator", "logistic_regression")
    if estimator == "logistic_regression":
        return logistic_regression(data, parameters)
    if estimator not in FORESTS:
        raise CodeError(f"no estimator {estimator}: there are logistic_regression, {', '.join(FORESTS)}")
    return trees(data, FORESTS[estimator], parameters.get("params", {}), seed, threads)


def trees(data: Data, name: str, params: dict, seed: int, threads: int) -> Trained:
    """Of numbers and of categories' codes, in 32 bits. NULL goes where the library learnt; gradient boosting without
    histograms knows none, and has the mean of the column in its place."""
    from sklearn import ensemble

    from . import to_onnx

    known = data.dictionaries()
    rows = data.matrix(known).astype(np.float32)
    fill = None
    if name == "GradientBoostingClassifier":
        there = ~np.isnan(rows)
        sums = np.where(there, rows, 0.0).sum(axis=0, dtype=np.float64)
        fill = (sums / np.maximum(1, there.sum(axis=0))).astype(np.float32)
        rows = np.where(there, rows, fill)
    given = {"random_state": seed % (1 << 31), **params}
    if name in ("RandomForestClassifier", "ExtraTreesClassifier"):
        given["n_jobs"] = threads
    fitted = getattr(ensemble, name)(**given).fit(rows, data.y)
    model = to_onnx.trees(fitted, rows.shape[1], fill)
    share = np.clip(fitted.predict_proba(rows)[:, 1], 1e-15, 1 - 1e-15)
    metrics = {"log_loss": log_loss(np.log(share) - np.log1p(-share), data.y)}
    return Trained("onnx", to_onnx.artifact(model, data, known, "probability"), metrics)


def logistic_regression(data: Data, parameters: dict) -> Trained:
    """Standardised numbers, NULL as the mean with an indicator of its own; one indicator a category's value."""
    known = data.dictionaries()
    null = np.isnan(data.x)
    filled = np.where(null, 0.0, data.x)
    rows = np.maximum(1, (~null).sum(axis=0))
    mean = filled.sum(axis=0) / rows
    spread = np.sqrt((np.where(null, 0.0, data.x - mean) ** 2).sum(axis=0) / rows)
    scale = np.where(spread > 0, spread, 1.0)
    columns = [np.where(null, 0.0, (data.x - mean) / scale), null.astype(float)]
    codes = data.codes(known)
    for at, values in enumerate(known):
        columns.append((codes[:, [at]] == np.arange(len(values))).astype(float))
    design = np.hstack(columns)
    fitted = LogisticRegression(**{"max_iter": 1_000, "C": 1.0, **parameters.get("params", {})}).fit(design, data.y)
    weights = fitted.coef_[0].tolist()
    n = len(data.numbers)
    # Rounded, so that the last bits of a sum over threads do not show.
    short = lambda value: float(f"{value:.9e}")  # noqa: E731
    form = {
        "format": "tidemill.linear",
        "version": 1,
        "intercept": short(float(fitted.intercept_[0])),
        "numbers": [
            {
                "name": name,
                "mean": short(mean[at]),
                "scale": short(scale[at]),
                "weight": short(weights[at]),
                "null": short(weights[n + at]),
            }
            for at, name in enumerate(data.numbers)
        ],
        "categories": [],
    }
    at = 2 * n
    for name, values in zip(data.categories, known):
        pairs = [[value, short(weights[at + i])] for i, value in enumerate(values)]
        form["categories"].append({"name": name, "weights": pairs})
        at += len(values)
    margins = fitted.decision_function(design)
    text = json.dumps(form, ensure_ascii=False, separators=(",", ":"))
    return Trained("linear", text.encode(), {"log_loss": log_loss(margins, data.y)})
