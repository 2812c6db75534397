"""Scores and features over HTTP, by Tidemill and by others, in one run with one client.

    pip install mlflow lightgbm pandas 'ray[serve]' bentoml     # --peers, its python
    pip install mlserver==1.7.1 mlserver-lightgbm               # --mlserver, another environment's
    pip install 'feast[redis]==0.67.0'                          # --feast, a third one's; and redis-server
    python3 benches/serving_peers.py FOLDER --tidemill target/release/tidemill --peers ... --mlserver ... --feast ...

A pipeline of `--features` (20) trains a LightGBM of 200 trees and writes its features to Redis. Its artifact, LightGBM's own text, is
what every server loads; each must give the same scores. A server has core 0, `tidemill load` core 1. The rate is
doubled until less than 97 % of what was asked is answered well, or the p99 is beyond half a second, twice; the rate before is what it sustains, and
the most answers in a second of any step what it can.
Latencies stand at a rate that all sustain.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--tidemill", required=True)
parser.add_argument("--peers", required=True, help="python with mlflow, ray[serve], bentoml, lightgbm")
parser.add_argument("--mlserver", required=True, help="python with mlserver and mlserver-lightgbm")
parser.add_argument("--feast", required=True, help="python with feast[redis]")
parser.add_argument("--seconds", type=float, default=4)
parser.add_argument("--rate", type=float, default=50, help="of the latencies, and the first")
parser.add_argument("--nice", type=int, default=0, help="of servers, store and client: below 0 on a machine that is busy")
parser.add_argument("--features", type=int, default=20)
parser.add_argument("--cards", type=int, default=5_000, help="four payments each")
parser.add_argument("--only", default="", help="names, joined by commas")
asked = parser.parse_args()
folder = asked.folder.resolve()
folder.mkdir(parents=True, exist_ok=True)
FEATURES = [f"x{n}" for n in range(asked.features)]
CARDS = asked.cards
root = pathlib.Path(__file__).resolve().parent.parent
one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "FEAST_USAGE": "False"}
dice = random.Random(7)
nice = ["nice", "-n", str(asked.nice)]


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def post(address, path, body):
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def serving(name, command, address, path, body, **more):
    """A server on core 0, once it answers; it and its children end with the block."""
    log = open(folder / f"{name}.log", "w")
    print(f"\n{name}: taskset -c 0 {' '.join(map(str, command))}", flush=True)
    environment = {**os.environ, **one_thread, **more.pop("env", {})}
    child = subprocess.Popen(
        [*nice, "taskset", "-c", "0", *map(str, command)], stdout=log, stderr=log, env=environment, start_new_session=True, **more
    )
    try:
        deadline = time.time() + 180
        while True:
            try:
                yield_first = post(address, path, body)
                break
            except OSError:
                if child.poll() is not None or time.time() > deadline:
                    raise SystemError(f"{name} does not answer: see {folder / name}.log")
                time.sleep(0.3)
        # Some go on starting behind their first answer.
        time.sleep(8)
        yield yield_first
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 9)


def load(address, path, bodies, rate):
    command = [*nice, "taskset", "-c", "1", asked.tidemill, "load", address, "--path", path, "--bodies", bodies, "--rate", rate]
    command += ["--seconds", asked.seconds, "--warm-up", "1", "--output", "json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    told["kept"] = told["good"] >= 0.97 * rate * asked.seconds and told["per_second"] >= 0.97 * rate
    return told


def measure(name, address, path, bodies):
    at = load(address, path, bodies, asked.rate)
    rate, most, best = asked.rate, 0, 0.0
    failed = 0
    while rate < 100_000 and failed < 2:
        told = load(address, path, bodies, rate)
        print(f"  {rate:.0f}/s asked: {told['per_second']:.0f}/s, {told['good']} good, p50 {told['seconds']['p50'] * 1e3:.1f} ms, p99 {told['seconds']['p99'] * 1e3:.1f} ms", flush=True)
        if told["good"] == told["answers"]:
            best = max(best, told["per_second"])
        if not told["kept"] or told["seconds"]["p99"] > 0.5:
            failed += 1
            continue
        failed = 0
        most, rate = rate, rate * 2
    return {"name": name, "p50": at["seconds"]["p50"] * 1e3, "p99": at["seconds"]["p99"] * 1e3, "most": most, "best": best}


def table(what, rows):
    print(f"\n| {what} | p50 at {asked.rate:.0f}/s | p99 | sustained | at most | of ours |\n|---|---|---|---|---|---|")
    for row in rows:
        share = f"1/{rows[0]['best'] / row['best']:.1f}" if row["best"] else "-"
        print(f"| {row['name']} | {row['p50']:.1f} ms | {row['p99']:.1f} ms | {row['most']:,.0f}/s | {row['best']:,.0f}/s | {share} |")


def write(name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lines(name, bodies):
    return write(name, "\n".join(map(json.dumps, bodies)) + "\n")


# The pipeline, its data, its store.
redis = port()
store = subprocess.Popen([*nice, "taskset", "-c", "1", "redis-server", "--bind", "127.0.0.1", "--port", str(redis), "--save", ""], stdout=subprocess.DEVNULL)
with open(folder / "payments.jsonl", "w") as payments, open(folder / "verdicts.jsonl", "w") as verdicts:
    for n in range(4 * CARDS):
        second = n * 80_000 // (4 * CARDS)
        at = f"2026-01-01T{second // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}Z"
        row = {name: round(dice.gauss(0, 1), 4) for name in FEATURES}
        card = f"c{n}" if n < CARDS else f"c{dice.randrange(CARDS)}"
        print(json.dumps({"id": n, "card": card, "at": at, **row}), file=payments)
        odds = row["x0"] + row["x1"] * row["x2"] + math.sin(3 * row["x3"])
        fraud = dice.random() < 1 / (1 + math.exp(-odds))
        print(json.dumps({"id": n, "fraud": fraud, "at": at}), file=verdicts)
columns = ", ".join(f'{name} = "float64"' for name in FEATURES)
runner = ["env", f"PYTHONPATH={root / 'trainer/src'}", asked.peers, "-m", "tidemill_trainer"]
write("shop.toml", f"""[pipeline]
name = "shop"
spine = "payments"
[source.payments]
type = "file"
path = "payments.jsonl"
schema = {{ id = "int64", card = "string", at = "timestamp", {columns} }}
event_time = "at"
id = "id"
[source.verdicts]
type = "file"
path = "verdicts.jsonl"
schema = {{ id = "int64", fraud = "bool", at = "timestamp" }}
event_time = "at"
id = "id"
[features]
{chr(10).join(f'{name} = "{name}"' for name in FEATURES)}
[label.fraud]
over = "verdicts"
value = "fraud"
wait = "1m"
[executor.here]
type = "subprocess"
python = {json.dumps(runner)}
[model.trees]
type = "lightgbm"
rounds = 200
label = "fraud"
retrain = {{ on = ["every 20h"], takes = "1m", executor = "here" }}
promote = {{ when = "always" }}
[score]
champion = "trees"
fallback = [0.5]
[online]
entity = "card"
[sink.online]
of = "features"
type = "redis"
url = "redis://127.0.0.1:{redis}"
key = "card"
""")
shutil.rmtree(folder / "out", ignore_errors=True)
inputs = [[round(dice.gauss(0, 1), 4) for _ in FEATURES] for _ in range(1_000)]
matrix = [{"inputs": [{"name": "x", "shape": [1, len(FEATURES)], "datatype": "FP64", "data": row}]} for row in inputs]
cards = [f"c{dice.randrange(CARDS)}" for _ in range(1_000)]
features = [{"features": [f"shop:{f}" for f in FEATURES], "entities": {"card": [card]}} for card in cards]
wanted = set(filter(None, asked.only.split(",")))
scores, lookups = [], []
try:
    ours = f"127.0.0.1:{port()}"
    # It must have ended its training before it is asked: a run serves from its start.
    first = subprocess.run([asked.tidemill, "run", folder / "shop.toml", "--folder", folder / "out", "--quiet"], cwd=folder)
    if first.returncode:
        sys.exit("the pipeline does not run")
    command = [asked.tidemill, "run", folder / "shop.toml", "--folder", folder / "out", "--serve", ours, "--linger", "--workers", "1"]
    path = "/v2/models/shop/infer"
    with serving("tidemill", command, ours, path, matrix[0], cwd=folder):
        # The second run repeats the first, trainings too, and takes their outcomes from the journal.
        while post(ours, path, matrix[0])["parameters"].get("degraded"):
            time.sleep(0.3)
        time.sleep(5)
        truth = [post(ours, path, tensor)["outputs"][0]["data"][0] for tensor in matrix[:20]]
        scores.append(measure("tidemill", ours, path, lines("matrix.jsonl", matrix)))
        held = post(ours, "/get-online-features", features[0])
        lookups.append(measure("tidemill", ours, "/get-online-features", lines("features.jsonl", features)))
    artifact = next(p for p in sorted((folder / "out/models").rglob("*"), reverse=True) if p.is_file() and p.read_bytes()[:5] == b"tree\n")

    def compare(name, values):
        worst = max(abs(a - b) for a, b in zip(truth, values))
        if worst > 1e-9:
            sys.exit(f"{name} scores otherwise: by {worst}")

    def peer(name, command, path, bodies, score, **more):
        if wanted and name not in wanted:
            return
        address = f"127.0.0.1:{more.pop('port')}"
        try:
            with serving(name, command, address, path, bodies[0], **more):
                compare(name, [score(post(address, path, body)) for body in bodies[:20]])
                scores.append(measure(name, address, path, lines(f"{name}.jsonl", bodies)))
        except SystemError as error:
            print(f"  left out: {error}", flush=True)

    bin_of = lambda python: pathlib.Path(python).parent
    at, grpc, metrics = port(), port(), port()
    write("mlserver/model.txt", artifact.read_text())
    write("mlserver/settings.json", json.dumps({"http_port": at, "grpc_port": grpc, "metrics_port": metrics, "parallel_workers": 0, "host": "127.0.0.1"}))
    write("mlserver/model-settings.json", json.dumps({"name": "trees", "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": "./model.txt"}}))
    peer("MLServer", [bin_of(asked.mlserver) / "mlserver", "start", "."], "/v2/models/trees/infer", matrix, lambda a: a["outputs"][0]["data"][0], port=at, cwd=folder / "mlserver")

    shutil.rmtree(folder / "mlflow", ignore_errors=True)
    save = f"import lightgbm, mlflow.lightgbm as m; m.save_model(lightgbm.Booster(model_file={str(artifact)!r}), {str(folder / 'mlflow')!r})"
    subprocess.run([asked.peers, "-c", save], check=True, capture_output=True)
    at = port()
    environment = {"PATH": f"{bin_of(asked.peers)}:{os.environ['PATH']}"}
    frames = [{"dataframe_split": {"columns": FEATURES, "data": [row]}} for row in inputs]
    peer("MLflow", [bin_of(asked.peers) / "mlflow", "models", "serve", "-m", folder / "mlflow", "-p", at, "--env-manager", "local", "--workers", "1"], "/invocations", frames, lambda a: a["predictions"][0], port=at, env=environment)

    plain = [{"x": [row]} for row in inputs]
    write("peers/ray_app.py", f"""import lightgbm, numpy as np
from ray import serve

@serve.deployment
class Scorer:
    def __init__(self):
        self.model = lightgbm.Booster(model_file={str(artifact)!r})

    async def __call__(self, request):
        x = np.array((await request.json())["x"], dtype=np.float64)
        return self.model.predict(x, num_threads=1).tolist()

app = Scorer.bind()
""")
    at = port()
    write("peers/ray.yaml", f"http_options:\n  host: 127.0.0.1\n  port: {at}\napplications:\n- name: app\n  route_prefix: /\n  import_path: ray_app:app\n")
    peer("Ray Serve", [bin_of(asked.peers) / "serve", "run", "ray.yaml"], "/", plain, lambda a: a[0], port=at, cwd=folder / "peers", env={**environment, "RAY_USAGE_STATS_ENABLED": "0"})

    write("peers/bento_app.py", f"""import bentoml, lightgbm, numpy as np

@bentoml.service(workers=1)
class Scorer:
    def __init__(self):
        self.model = lightgbm.Booster(model_file={str(artifact)!r})

    @bentoml.api
    def predict(self, x: list) -> list:
        return self.model.predict(np.array(x, dtype=np.float64), num_threads=1).tolist()
""")
    at = port()
    peer("BentoML", [bin_of(asked.peers) / "bentoml", "serve", "bento_app:Scorer", "--host", "127.0.0.1", "--port", at], "/predict", plain, lambda a: a[0], port=at, cwd=folder / "peers", env={**environment, "BENTOML_DO_NOT_TRACK": "True"})

    if not wanted or "Feast" in wanted:
        shutil.rmtree(folder / "feast", ignore_errors=True)
        write("feast/feature_store.yaml", f"project: shop\nprovider: local\nregistry: registry.db\nonline_store:\n  type: redis\n  connection_string: 127.0.0.1:{redis}\nentity_key_serialization_version: 3\n")
        write("feast/view.py", f"""from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64
import pandas as pd
pd.DataFrame({{"card": ["a"], "event_timestamp": [pd.Timestamp.now("UTC")]}}).to_parquet("nothing.parquet")
card = Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)
view = FeatureView(name="shop", entities=[card], schema=[Field(name=f"x{{n}}", dtype=Float64) for n in range({len(FEATURES)})], source=FileSource(path="nothing.parquet", timestamp_field="event_timestamp"))
""")
        feast = bin_of(asked.feast) / "feast"
        subprocess.run([feast, "apply"], cwd=folder / "feast", check=True, capture_output=True, env={**os.environ, **one_thread})
        at = port()
        with serving("Feast", [feast, "serve", "-h", "127.0.0.1", "-p", at, "--no-access-log", "--workers", "1"], f"127.0.0.1:{at}", "/get-online-features", features[0], cwd=folder / "feast") as answer:
            pairs = lambda a: {n: r["values"][0] for n, r in zip(a["metadata"]["feature_names"], a["results"])}
            same = [pairs(answer)[f] == pairs(held)[f] for f in FEATURES]
            if not all(same):
                sys.exit(f"Feast tells other features: {pairs(answer)} and {pairs(held)}")
            lookups.append(measure("Feast's server", f"127.0.0.1:{at}", "/get-online-features", folder / "features.jsonl"))
finally:
    store.terminate()
print(f"\nload of the machine: {os.getloadavg()[0]:.1f}")
table(f"scores of {len(FEATURES)} given features", scores)
table(f"{len(FEATURES)} features of an entity", lookups)
