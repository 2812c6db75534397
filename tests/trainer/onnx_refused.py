"""Graphs that Tidemill does not read, each with words that its refusal must have, one JSON object a line."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

INPUTS = json.dumps({"numbers": ["a", "b", "c"], "categories": []})
LINEAR = {"coefficients": [1.0, 2.0, 3.0], "intercepts": [0.5], "domain": "ai.onnx.ml"}


def case(wants, steps, properties=None, outputs=("s",), width=3, constants=(), kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        steps, "g", [helper.make_tensor_value_info("x", kind, [None, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], list(constants),
    )  # fmt: skip
    model = helper.make_model(graph)
    given = {"tidemill_inputs": INPUTS, "tidemill_output": "log_odds"} if properties is None else properties
    helper.set_model_props(model, given)
    print(json.dumps({"wants": wants, "model": model.SerializeToString().hex()}))


def node(kind, inputs=("x",), outputs=("s",), name="it", **given):
    return helper.make_node(kind, list(inputs), list(outputs), name=name, **given)


regressor = node("LinearRegressor", **LINEAR)
case(["tidemill_inputs", "to_onnx"], [regressor], {})
case(["tidemill_output", "log_odds"], [regressor], {"tidemill_inputs": INPUTS})
case(["other inputs"], [regressor], {"tidemill_inputs": INPUTS.replace('"c"', '"d"')})
case(["4 columns"], [regressor], width=4)
case(["no matrix of 32-bit floats"], [regressor], kind=TensorProto.DOUBLE)
case(["node `svm` (SVMClassifier)", "lightgbm"], [node("SVMClassifier", name="svm", domain="ai.onnx.ml")])
case(["node `it` (ArgMax)"], [node("ArgMax", outputs=["t"]), node("Add", ["t", "x"])])
case(["node `it` (LinearRegressor)", "2 targets"[2:]], [node("LinearRegressor", **LINEAR, targets=2)])
case(["post_transform PROBIT", "only NONE"], [node("LinearRegressor", **LINEAR, post_transform="PROBIT")])
case(["attribute `axes`"], [node("Mul", ["x", "x"], axes=[1])])
case(["3 numbers a row"], [node("Identity")])
case(["outputs of floats"], [regressor], outputs=("s", "x"))
case(["which nothing gives"], [node("Add", ["x", "later"])])
rows = numpy_helper.from_array(np.ones((3, 1), np.float32), "two")
case(["no row"], [node("Add", ["x", "two"], ["t"]), node("LinearRegressor", ["t"], **LINEAR)], constants=[rows])
leaf = {
    "nodes_treeids": [0], "nodes_nodeids": [0], "nodes_modes": ["LEAF"], "nodes_featureids": [0],
    "nodes_values": [0.0], "nodes_truenodeids": [0], "nodes_falsenodeids": [0], "domain": "ai.onnx.ml",
}  # fmt: skip
weights = {"class_treeids": [0], "class_nodeids": [0], "class_ids": [0], "class_weights": [0.5]}
classes = {"classlabels_int64s": [0, 1, 2]}
case(["classes 0, 1, 2", "0 and 1"],
     [node("TreeEnsembleClassifier", outputs=["l", "s"], **leaf, **weights, **classes)])  # fmt: skip
both = {"class_treeids": [0, 0], "class_nodeids": [0, 0], "class_ids": [0, 1], "class_weights": [0.5, 0.5]}
case(["2 base values", "one score"],
     [node("TreeEnsembleClassifier", outputs=["l", "s"], **leaf, **both, classlabels_int64s=[0, 1],
           base_values=[0.1, 0.2])])  # fmt: skip
targets = {"target_treeids": [0], "target_nodeids": [0], "target_ids": [0], "target_weights": [0.5]}
case(["aggregate_function MAX", "SUM"],
     [node("TreeEnsembleRegressor", **leaf, **targets, aggregate_function="MAX")])  # fmt: skip
member = {**leaf, "nodes_modes": ["BRANCH_MEMBER"]}
case(["BRANCH_MEMBER"], [node("TreeEnsembleRegressor", **member, **targets)])
