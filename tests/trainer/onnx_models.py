"""Trainers that convert their models with the converters of others, each by its `params`: what a user would
write who has such a model."""

import lightgbm
import numpy as np
import onnxmltools
import skl2onnx
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx.common.data_types import FloatTensorType as Floats
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from tidemill_trainer import Trained, to_onnx

SCIKIT = {
    "logistic": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "normalized": lambda: make_pipeline(
        SimpleImputer(strategy="median"), MinMaxScaler(), Normalizer(), LogisticRegression()
    ),
    "boosted": lambda: make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=40, random_state=1)),
    "network": lambda: make_pipeline(
        SimpleImputer(), StandardScaler(), MLPClassifier((8, 4), max_iter=60, random_state=1)
    ),
    "calibrated": lambda: make_pipeline(SimpleImputer(), CalibratedClassifierCV(LinearSVC(random_state=1), cv=3)),
}


def fit(which: str, rows: np.ndarray, y: np.ndarray):
    """A model, and the function that gives its probabilities."""
    if which in SCIKIT:
        model = SCIKIT[which]().fit(rows, y)
        return model, lambda rows: model.predict_proba(rows)[:, 1]
    if which.startswith("lightgbm"):
        given = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 20, "deterministic": True, "seed": 1}
        categories = [rows.shape[1] - 1] if which == "lightgbm_categories" else []
        data = lightgbm.Dataset(rows, y, categorical_feature=categories, params={"verbose": -1})
        model = lightgbm.train({**given, "num_threads": 1}, data, 40)
        return model, lambda rows: model.predict(rows)
    model = xgboost.XGBClassifier(n_estimators=40, subsample=0.8, random_state=1, n_jobs=1).fit(rows, y)
    return model, lambda rows: model.predict_proba(rows)[:, 1]


def convert(which: str, model, width: int):
    if which in SCIKIT:
        # As it comes, labels as a list of maps, and as one tensor.
        zipmap = which == "logistic"
        return skl2onnx.to_onnx(
            model, initial_types=[("x", Floats([None, width]))], options={id(model): {"zipmap": zipmap}}
        )
    inputs = [("x", FloatTensorType([None, width]))]
    if which.startswith("lightgbm"):
        return onnxmltools.convert_lightgbm(model, initial_types=inputs)
    return onnxmltools.convert_xgboost(model, initial_types=inputs)


def train(data, parameters, seed, threads):
    which = parameters["params"]["which"]
    known = data.dictionaries()
    rows = data.matrix(known).astype(np.float32)
    model, _ = fit(which, rows, data.y)
    return Trained("onnx", to_onnx.artifact(convert(which, model, rows.shape[1]), data, known, "probability"))
