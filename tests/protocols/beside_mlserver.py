"""The same questions to MLServer and to us, side by side: what one answers, the other answers in the same
form. MLServer is started here, with a model of one number, and stopped."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.http as http

ours = sys.argv[1]

MODEL = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Twice(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        given = NumpyCodec.decode_input(payload.inputs[0])
        score = NumpyCodec.encode_output("score", np.asarray(given, dtype=np.float64) * 2)
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[score])
"""


def free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(address, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    rest, call = free(), free()
    settings = {
        "host": "127.0.0.1",
        "http_port": rest,
        "grpc_port": call,
        "metrics_port": free(),
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "twice.py").write_text(MODEL)
    number = {"name": "ratio", "datatype": "FP64", "shape": [-1]}
    model = {
        "name": "shop",
        "implementation": "twice.Twice",
        "inputs": [number],
        "outputs": [{**number, "name": "score"}],
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    # Beside the interpreter, whatever the path of programs says.
    program = pathlib.Path(sys.executable).parent / "mlserver"
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([program, "start", "."], cwd=folder, stdout=log, stderr=log)
    try:
        theirs = f"127.0.0.1:{rest}"
        for _ in range(600):
            try:
                if ask(theirs, "GET", "/v2/models/shop/ready")[0] == 200:
                    break
            except OSError:
                pass
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        tensor = {"name": "ratio", "datatype": "FP64", "shape": [2], "data": [1.5, 2.5]}
        infer = {"id": "q", "inputs": [tensor]}
        for method, path, body in [
            ("GET", "/v2", None),
            ("GET", "/v2/health/live", None),
            ("GET", "/v2/health/ready", None),
            ("GET", "/v2/models/shop", None),
            ("GET", "/v2/models/shop/ready", None),
            ("GET", "/v2/models/nobody", None),
            ("POST", "/v2/models/shop/infer", infer),
            ("POST", "/v2/models/nobody/infer", infer),
            ("POST", "/v2/repository/index", {}),
        ]:
            (a, one), (b, two) = ask(theirs, method, path, body), ask(ours, method, path, body)
            assert a == b, (path, a, b, one, two)
            if a == 404:
                assert set(two) == {"error"} and "error" in one, (path, one, two)
            elif isinstance(one, list):
                assert all({"name", "state"} <= set(entry) for entry in one + two), (path, one, two)
            elif path.endswith("infer"):
                wanted = {"model_name", "id", "outputs"}
                assert wanted <= set(one) and wanted <= set(two), (path, one, two)
                for said in (one, two):
                    (output,) = said["outputs"]
                    assert output["name"] == "score" and output["datatype"] == "FP64", said
                    assert len(output["data"]) == 2 and output["shape"][0] == 2, said
            elif path.startswith("/v2/models/") and not path.endswith("ready"):
                wanted = {"name", "versions", "platform", "inputs", "outputs"}
                assert wanted - {"versions"} <= set(one) and wanted <= set(two), (path, one, two)
        for client, address in [(http, theirs), (http, ours), (grpc, f"127.0.0.1:{call}"), (grpc, ours)]:
            connection = client.InferenceServerClient(address)
            assert connection.is_server_live() and connection.is_server_ready()
            assert connection.is_model_ready("shop")
            given = client.InferInput("ratio", [2], "FP64")
            # MLServer reads no raw tensors over REST.
            more = {"binary_data": False} if client is http else {}
            given.set_data_from_numpy(np.array([1.5, 2.5]), **more)
            wanted = client.InferRequestedOutput("score", **more)
            scores = connection.infer("shop", [given], outputs=[wanted]).as_numpy("score")
            assert scores.size == 2 and scores.dtype == np.float64, scores
    finally:
        server.terminate()
        server.wait(30)
print("all is well")
