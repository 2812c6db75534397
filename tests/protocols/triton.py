"""The Open Inference Protocol by NVIDIA's own client, over REST and over gRPC."""

import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

address = sys.argv[1]


def texts(client, name, values):
    tensor = client.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=np.object_))
    return tensor


def numbers(client, name, values, shape=None):
    values = np.array(values, dtype=np.float64).reshape(shape or [len(values)])
    tensor = client.InferInput(name, list(values.shape), "FP64")
    tensor.set_data_from_numpy(values)
    return tensor


def truths(client, name, values):
    tensor = client.InferInput(name, [len(values)], "BOOL")
    tensor.set_data_from_numpy(np.array(values))
    return tensor


def scores(answer):
    found = answer.as_numpy("score")
    assert found.dtype == np.float64, found.dtype
    return found


def parameter(answer, name):
    """What is said beside the scores, in either form."""
    response = answer.get_response()
    if isinstance(response, dict):
        return response["parameters"].get(name)
    choice = response.parameters[name]
    return getattr(choice, choice.WhichOneof("parameter_choice"))


def check(client, connection):
    assert connection.is_server_live() and connection.is_server_ready()
    assert connection.is_model_ready("shop") and connection.is_model_ready("online")
    by_card = connection.infer("shop", [texts(client, "card", ["c1", "c2"])])
    assert scores(by_card).shape == (2,), scores(by_card)
    assert parameter(by_card, "epoch") > 0
    assert parameter(by_card, "version") >= 1
    assert parameter(by_card, "feature_age_seconds") >= 0
    assert parameter(by_card, "features_at").startswith("2026-01-01T")
    wanted = client.InferRequestedOutput("score")
    again = connection.infer(
        "shop", [texts(client, "card", ["c1", "c2"])], request_id="q7", outputs=[wanted]
    )
    assert (scores(again) == scores(by_card)).all()
    response = again.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "q7"
    both = connection.infer(
        "shop", [texts(client, "card", ["c1", "c2"]), numbers(client, "amount", [199.5, 0.5], [2, 1])]
    )
    assert scores(both)[0] > scores(both)[1], scores(both)
    given = connection.infer("shop", [numbers(client, "sum_1h", [1.0]), numbers(client, "ratio", [2.0])])
    assert 0 <= scores(given)[0] <= 1
    listed = connection.get_model_metadata("shop")
    listed = listed["inputs"] if isinstance(listed, dict) else listed.inputs
    names = [one["name"] if isinstance(one, dict) else one.name for one in listed]
    features = names[2:6]
    assert features == ["amount_now", "large", "sum_1h", "ratio"], names
    rows = [[199.5, 1.0, 420.25, 1.4], [3.0, 0.0, np.nan, 0.25]]
    apart = connection.infer(
        "shop", [numbers(client, name, column) for name, column in zip(features, zip(*rows)) if name != "large"]
        + [truths(client, "large", [True, False])]
    )
    together = connection.infer("shop", [numbers(client, "x", rows, [2, 4])])
    assert (scores(together) == scores(apart)).all(), (scores(together), scores(apart))
    assert scores(together)[0] != scores(together)[1]
    for inputs, why in [
        ([texts(client, "cart", ["c1"])], "cart"),
        ([texts(client, "id", ["999999"])], "999999"),
        ([texts(client, "card", ["c1"]), numbers(client, "amount", [1.0, 2.0])], "rows"),
        ([numbers(client, "x", [[1.0] * 99], [1, 99])], "reads 4 features"),
        ([numbers(client, "x", [[1.0] * 4], [1, 4]), numbers(client, "ratio", [1.0])], "is given too"),
    ]:
        try:
            connection.infer("shop", inputs)
        except Exception as error:
            assert why in str(error), error
        else:
            raise AssertionError(f"{why} was answered")
    connection.unload_model("online")
    assert not connection.is_model_ready("online")
    try:
        connection.infer("online", [texts(client, "card", ["c1"])])
    except Exception as error:
        assert "unloaded" in str(error), error
    else:
        raise AssertionError("an unloaded model has answered")
    connection.load_model("online")
    assert connection.is_model_ready("online")
    alone = connection.infer("online", [texts(client, "card", ["c1", "c2"])])
    assert np.allclose(scores(alone), scores(by_card))
    return scores(by_card)


rest = http.InferenceServerClient(address)
by_rest = check(http, rest)
metadata = rest.get_model_metadata("shop")
assert {i["name"] for i in metadata["inputs"]} >= {"id", "card", "amount", "sum_1h"}, metadata
assert rest.get_server_metadata()["name"] == "tidemill"
index = rest.get_model_repository_index()
assert {(m["name"], m["state"]) for m in index} == {("shop", "READY"), ("online", "READY")}, index
plain = http.InferRequestedOutput("score", binary_data=False)
text = http.InferInput("card", [2], "BYTES")
text.set_data_from_numpy(np.array(["c1", "c2"], dtype=np.object_), binary_data=False)
as_json = rest.infer("shop", [text], outputs=[plain])
assert (scores(as_json) == by_rest).all()

call = grpc.InferenceServerClient(address)
by_grpc = check(grpc, call)
assert (by_rest == by_grpc).all()
metadata = call.get_model_metadata("shop")
assert {i.name for i in metadata.inputs} >= {"id", "card", "amount", "sum_1h"}, metadata
assert call.get_server_metadata().name == "tidemill"
index = call.get_model_repository_index()
assert {(m.name, m.state) for m in index.models} == {("shop", "READY"), ("online", "READY")}, index
print("all is well")
