"""ONNX: from a model to an artifact that Tidemill reads (operators/src/predictor/onnx/).

A graph's one input is a matrix of 32-bit floats: the numbers, NaN for NULL, then the codes of categories,
which is `data.matrix(known)`. A module of your own converts its model as it likes, with skl2onnx or
onnxmltools for example, and gives

    Trained("onnx", to_onnx.artifact(model, data, known))

Train on `data.matrix(known).astype(numpy.float32)`, or rows between two 32-bit floats go another way there.

Trees of scikit-learn are written here, for skl2onnx 1.20 loses the side of NULL in forests, and does not convert
HistGradientBoostingClassifier with protobuf 7 and later.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from .data import Data


def artifact(model: onnx.ModelProto, data: Data, known: list[list[str]], output: str | None = None) -> bytes:
    """The bytes of a model, with the names of its inputs. `output` is "probability" or "log_odds"; a regressor's
    must be said. Graph and texts for people are named anew: equal models give equal bytes."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    named.graph.name = "tidemill"
    named.graph.doc_string = named.doc_string = named.producer_name = named.producer_version = ""
    properties = {
        "tidemill_inputs": json.dumps({"numbers": data.numbers, "categories": data.categories}),
        "tidemill_categories": json.dumps(known),
    }
    if output is not None:
        properties["tidemill_output"] = output
    helper.set_model_props(named, properties)
    return named.SerializeToString(deterministic=True)


def trees(model, width: int, fill: np.ndarray | None = None) -> onnx.ModelProto:
    """A classifier of scikit-learn that is made of trees. `fill`, one number a column, stands for NULL."""
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

    base, transform = None, "LOGISTIC"
    if isinstance(model, HistGradientBoostingClassifier):
        parts = [nodes_of_histograms(one) for (one,) in model._predictors]
        base = float(np.ravel(model._baseline_prediction)[0])
    elif isinstance(model, GradientBoostingClassifier):
        rate = model.learning_rate
        parts = [nodes_of_tree(one.tree_, lambda v: rate * v[0, 0]) for (one,) in model.estimators_]
        base = float(model._raw_predict_init(np.zeros((1, width), np.float32))[0, 0])
    else:
        count = len(model.estimators_)
        parts = [nodes_of_tree(one.tree_, lambda v: v[0, 1] / v[0].sum() / count) for one in model.estimators_]
        transform = "NONE"
    given = {name: [] for name in ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids"]}
    given |= {"falsenodeids": [], "missing_value_tracks_true": []}
    leaves = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for at, nodes in enumerate(parts):
        for place, (leaf, feature, threshold, left, right, missing, value) in enumerate(nodes):
            row = (at, place, "LEAF" if leaf else "BRANCH_LEQ", feature, threshold, left, right, missing)
            for name, one in zip(given, row):
                given[name].append(one)
            if leaf:
                for name, one in zip(leaves, (at, place, 0, value)):
                    leaves[name].append(one)
    attributes = {f"nodes_{name}": values for name, values in given.items()}
    attributes |= {f"class_{name}": values for name, values in leaves.items()}
    if base is not None:
        attributes["base_values"] = [base]
    steps, source = [], "x"
    if fill is not None:
        values = [float(value) for value in fill]
        steps.append(
            helper.make_node(
                "Imputer", ["x"], ["filled"], name="fill", domain="ai.onnx.ml",
                imputed_value_floats=values, replaced_value_float=float("nan"),
            )
        )  # fmt: skip
        source = "filled"
    steps.append(
        helper.make_node(
            "TreeEnsembleClassifier", [source], ["label", "probabilities"], name="trees", domain="ai.onnx.ml",
            classlabels_int64s=[0, 1], post_transform=transform, **attributes,
        )
    )  # fmt: skip
    graph = helper.make_graph(
        steps,
        "tidemill",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
    )
    versions = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


def at_most(threshold: float) -> float:
    """The largest 32-bit float that is not above: the same ones of these lie at or below both."""
    short = np.float32(threshold)
    return float(short if short <= threshold else np.nextafter(short, np.float32(-np.inf)))


def nodes_of_tree(tree, value):
    """(leaf, feature, threshold, left, right, whether NULL goes left, value) of each node, the root first."""
    for at in range(tree.node_count):
        left, right = int(tree.children_left[at]), int(tree.children_right[at])
        if left < 0:
            yield True, 0, 0.0, 0, 0, 0, float(value(tree.value[at]))
        else:
            side = int(tree.missing_go_to_left[at])
            yield False, int(tree.feature[at]), at_most(tree.threshold[at]), left, right, side, 0.0


def nodes_of_histograms(one):
    """The same of a tree of HistGradientBoostingClassifier."""
    for node in one.nodes:
        if node["is_leaf"]:
            yield True, 0, 0.0, 0, 0, 0, float(node["value"])
        else:
            children = (int(node["left"]), int(node["right"]), int(node["missing_go_to_left"]))
            yield False, int(node["feature_idx"]), at_most(node["num_threshold"]), *children, 0.0
