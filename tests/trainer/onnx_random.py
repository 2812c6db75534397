"""Random graphs, random rows, and what ONNX Runtime gives of them.

    onnx_random.py GRAPHS ROWS SEED  ->  one JSON object a line: the model, the rows, the scores
"""

import json
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

graphs, count, seed = map(int, sys.argv[1:])
draw = np.random.default_rng(seed)
WIDTH = 3
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def numbers(shape):
    """Few different numbers, so that thresholds are met, and what is no number."""
    x = draw.integers(-4, 5, size=shape).astype(np.float32) / 2
    chance = draw.random(shape)
    x[chance < 0.1] = np.nan
    x[chance > 0.98] = np.inf
    x[chance > 0.99] = -np.inf
    return x


def ensemble(classifier):
    modes = MODES if draw.random() < 0.5 else MODES[:2]
    nodes, leaves = [], []
    # Binary: one weight a leaf, all positive or not; or weights of both classes.
    two, positive = classifier and draw.random() < 0.4, draw.random() < 0.4
    transforms = (["NONE", "LOGISTIC", "SOFTMAX"] if two else ["NONE", "LOGISTIC"]) if classifier else ["NONE"]
    for tree in range(draw.integers(1, 12)):
        open_, next_ = [(0, 0)], 1
        while open_:
            node, depth = open_.pop()
            if depth > 4 or draw.random() < 0.25:
                nodes.append((tree, node, "LEAF", 0, 0.0, 0, 0, 0))
                for label in [0, 1] if two else [0]:
                    value = float(np.float32(draw.normal()))
                    leaves.append((tree, node, label, abs(value) if positive else value))
                continue
            threshold = float(draw.integers(-4, 5)) / 2
            nodes.append((tree, node, str(draw.choice(modes)), int(draw.integers(WIDTH)), threshold,
                          next_, next_ + 1, int(draw.integers(2))))  # fmt: skip
            open_ += [(next_ + 1, depth + 1), (next_, depth + 1)]
            next_ += 2
    names = ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids",
             "missing_value_tracks_true"]  # fmt: skip
    given = {f"nodes_{name}": [row[at] for row in nodes] for at, name in enumerate(names)}
    side = "class" if classifier else "target"
    for at, name in enumerate(["treeids", "nodeids", "ids", "weights"]):
        given[f"{side}_{name}"] = [row[at] for row in leaves]
    if not two and draw.random() < 0.5:
        given["base_values"] = [float(np.float32(draw.normal()))]
    transform = str(draw.choice(transforms))
    given["post_transform"] = transform
    if classifier:
        given["classlabels_int64s"] = [0, 1]
    else:
        given["n_targets"] = 1
    return given, transform != "NONE"


def linear(classifier):
    two = classifier and draw.random() < 0.6
    transform = str(draw.choice(["NONE", "LOGISTIC", "SOFTMAX"] if two else ["LOGISTIC"])) if classifier else "NONE"
    weights = draw.normal(size=WIDTH * (2 if two else 1)).astype(np.float32)
    given = {"coefficients": weights.tolist(), "post_transform": transform}
    given["intercepts"] = draw.normal(size=2 if two else 1).astype(np.float32).tolist()
    if classifier:
        given["classlabels_ints"] = [0, 1]
    return given, transform != "NONE"


def before(steps, constants, finite):
    """Operators in front of a model, each perhaps."""
    name = "x"

    def add(operator, domain="", more=(), **given):
        nonlocal name
        out = f"v{len(steps)}"
        steps.append(helper.make_node(operator, [name, *more], [out], name=f"n{len(steps)}", domain=domain, **given))
        name = out

    def constant(values):
        constants.append(numpy_helper.from_array(values, f"c{len(constants)}"))
        return constants[-1].name

    some = lambda: draw.normal(size=WIDTH).astype(np.float32)  # noqa: E731
    if finite or draw.random() < 0.3:
        gone = float("nan") if finite or draw.random() < 0.5 else 1.0
        add("Imputer", "ai.onnx.ml", imputed_value_floats=some().tolist(), replaced_value_float=gone)
    if draw.random() < 0.3:
        width = WIDTH if draw.random() < 0.5 else 1
        add("Scaler", "ai.onnx.ml", offset=some()[:width].tolist(), scale=some()[:width].tolist())
    if draw.random() < 0.3:
        add("Cast", to=TensorProto.FLOAT)
    for operator in ["Mul", "Add", "Sub", "Div"]:
        if draw.random() < 0.2:
            shape = [(WIDTH,), (1, WIDTH), (1,), ()][draw.integers(4)]
            add(operator, more=[constant(draw.normal(size=shape).astype(np.float32))])
    if finite and draw.random() < 0.4:
        add("Normalizer", "ai.onnx.ml", norm=str(draw.choice(["MAX", "L1", "L2"])))
    if draw.random() < 0.3:
        add("ArrayFeatureExtractor", "ai.onnx.ml", more=[constant(draw.permutation(WIDTH).astype(np.int64))])
    if draw.random() < 0.2:
        add("MatMul", more=[constant(draw.normal(size=(WIDTH, WIDTH)).astype(np.float32))])
    if draw.random() < 0.2:
        given = {"transB": int(draw.integers(2))}
        add("Gemm", more=[constant(draw.normal(size=(WIDTH, WIDTH)).astype(np.float32)), constant(some())], **given)
    if draw.random() < 0.2:
        add(str(draw.choice(["Sigmoid", "Tanh", "Relu", "Identity", "Neg", "Softmax"])))
    return name


for _ in range(graphs):
    steps, constants = [], []
    classifier, trees = draw.random() < 0.7, draw.random() < 0.7
    name = before(steps, constants, not trees or draw.random() < 0.3) if draw.random() < 0.7 else "x"
    given, probability = (ensemble if trees else linear)(classifier)
    kind = ("TreeEnsemble" if trees else "Linear") + ("Classifier" if classifier else "Regressor")
    outs = ["label", "scores"] if classifier else ["scores"]
    steps.append(helper.make_node(kind, [name], outs, name="model", domain="ai.onnx.ml", **given))
    last = "scores"
    if not classifier and draw.random() < 0.5:
        steps.append(helper.make_node("Sigmoid", [last], ["odds"], name="after"))
        last, probability = "odds", True
    labels = [helper.make_tensor_value_info("label", TensorProto.INT64, [None])] if classifier else []
    graph = helper.make_graph(
        steps, "random", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [*labels, helper.make_tensor_value_info(last, TensorProto.FLOAT, [None, 2 if classifier else 1])], constants,
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    properties = {"tidemill_inputs": json.dumps({"numbers": ["a", "b", "c"], "categories": []})}
    properties["tidemill_output"] = "probability" if probability else "log_odds"
    helper.set_model_props(model, properties)
    data = model.SerializeToString()
    rows = numbers((count, WIDTH))
    scores = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run([last], {"x": rows})[0]
    plain = lambda x: float(x) if np.isfinite(x) else str(x)  # noqa: E731
    print(json.dumps({
        "model": data.hex(),
        "kinds": [step.op_type for step in steps],
        "probability": probability,
        "rows": [plain(x) for x in rows.ravel()],
        "scores": [plain(x) for x in scores.reshape(count, -1)[:, -1]],
    }))  # fmt: skip
