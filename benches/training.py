"""From the trigger of a training to the first score by the new version, on each executor, beside a bare script
that trains the same model on the same rows.

    pip install -r tests/trainer/requirements.txt
    PYTHONPATH=trainer/src python benches/training.py target/release/tidemill [--rows 100000] [--only in_process ...]

A run reads so many rows with ten numbers and a text each, trains once on all of them, and scores another day. The
engine's own trees are trained in_process and by `tidemill train` in a process apart; LightGBM by the Python
package in a process (subprocess), on a Ray and on a Dask that this script starts here and ends. The bare script
reads the run's Parquet files, trains with the same parameters and ends; its time is that of the process, start and
imports included. Each line is the median of the runs, and all of them in brackets.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

DAYS = 12
DAY = 86_400
START = 1_644 * DAYS * DAY

PIPELINE = """
[pipeline]
name = "bench"
spine = "rows"
tick = "1m"
[source.rows]
type = "file"
path = "rows.csv"
schema = {{ id = "int64", at = "timestamp", word = "string", {schema}, known = "timestamp", yes = "int64" }}
event_time = "at"
id = "id"
[source.truth]
type = "file"
path = "rows.csv"
schema = {{ id = "int64", at = "timestamp", word = "string", {schema}, known = "timestamp", yes = "int64" }}
event_time = "known"
id = "id"
[features]
word = "word"
{features}
[label.yes]
over = "truth"
value = "yes = 1"
wait = "1h"
{executor}
[model.trees]
{model}
label = "yes"
retrain = {{ on = ["every {days}d"], takes = "1m", executor = "{name}" }}
training = {{ min_rows = 500, max_rows = 1_000_000 }}
promote = {{ when = "always" }}
[score]
champion = "trees"
fallback = [0.5]
[sink.scores]
type = "file"
path = "scores.jsonl"
"""

OURS = 'type = "gradient_boosting"\ntrees = 150'
LIGHTGBM = 'type = "lightgbm"\nrounds = 150\nparams = { num_leaves = 31 }'

BARE = """
import sys
from tidemill_trainer import train_lightgbm
from tidemill_trainer.contract import Task
from tidemill_trainer.data import load
task = Task(sys.argv[1], attempt=1)
train_lightgbm.train(load(task), task.training["parameters"], task.training["seed"], int(sys.argv[2]))
"""


def write_rows(folder, rows):
    draw = random.Random(7)
    step = DAYS * DAY / rows
    names = [f"x{i}" for i in range(10)]
    stamp = lambda t: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + f".{int(t % 1 * 1e6):06d}Z"  # noqa: E731
    with open(folder / "rows.csv", "w") as out:
        out.write(f"id,at,word,{','.join(names)},known,yes\n")
        for i in range(rows + int(DAY / step)):
            at = START + i * step
            x = [draw.gauss(0, 1) for _ in names]
            word = draw.choice("abcdefgh")
            odds = x[0] * x[1] + x[2] + (word < "c") + draw.gauss(0, 1)
            out.write(f"{i},{stamp(at)},{word},{','.join(f'{v:.5f}' for v in x)},{stamp(at + 300)},{int(odds > 0)}\n")


def run(program, folder, name, model, executor):
    names = [f"x{i}" for i in range(10)]
    text = PIPELINE.format(
        schema=", ".join(f'{n} = "float64"' for n in names), features="\n".join(f'{n} = "{n}"' for n in names),
        executor=executor, model=model, name=name, days=DAYS,
    )  # fmt: skip
    (folder / "bench.toml").write_text(text)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        said = subprocess.run(
            [program, "run", "bench.toml", "--quiet", "--output", "json", "--folder", out],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if said.returncode != 0:
            sys.exit(said.stderr)
        told = json.loads(said.stdout)
        (training,) = told["retrainings"]
        (first,) = told["first_scores"]
        bare = None
        if model is LIGHTGBM:
            (task,) = pathlib.Path(out, "tasks").glob("*/task.json")
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", BARE, str(task), str(os.cpu_count())], check=True)
            bare = time.monotonic() - began
    return training["rows"], training["seconds"], first["seconds"], bare


def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_up(url, token):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, OSError):
            request = urllib.request.Request(url + "/api/version", headers={"Authorization": f"Bearer {token}"})
            urllib.request.urlopen(request, timeout=2)
            # The dashboard of Ray is up before the agent that starts jobs.
            time.sleep(8)
            return
        time.sleep(0.5)
    sys.exit(f"nothing answers at {url}")


@contextlib.contextmanager
def started(*commands, env=None):
    parts = []
    try:
        for command in commands:
            log = subprocess.DEVNULL
            parts.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True))
        yield
    finally:
        for part in reversed(parts):
            part.terminate()
            try:
                part.wait(20)
            except subprocess.TimeoutExpired:
                part.kill()


@contextlib.contextmanager
def ray(folder):
    token, url = "a-token-of-this-bench-that-is-long-enough", f"http://127.0.0.2:{port()}"
    (folder / "token").write_text(token)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as place:
        env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
        env["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")
        command = [
            str(pathlib.Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.2", f"--port={port()}", f"--ray-client-server-port={port()}",
            f"--dashboard-agent-listen-port={port()}", "--dashboard-host=127.0.0.2",
            f"--dashboard-port={url.rsplit(':')[-1]}", f"--num-cpus={os.cpu_count()}",
            "--object-store-memory=80000000", f"--temp-dir={place}/t",
        ]  # fmt: skip
        with started(command, env=env):
            until_up(url, token)
            yield f'address = "{url}"\ntoken_file = "token"'


@contextlib.contextmanager
def dask(folder):
    scheduler, at = f"tcp://127.0.0.1:{port()}", port()
    (folder / "token").write_text("another-token")
    python = [sys.executable, "-m"]
    quiet = ["--dashboard-address", "127.0.0.1:0"]
    with started(
        [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", scheduler.split(":")[-1], *quiet],
        [*python, "distributed.cli.dask_worker", scheduler, "--host", "127.0.0.1", "--nworkers", "1", "--nthreads", "2",
         "--local-directory", str(folder / "work"), *quiet],
        [*python, "tidemill_trainer.bridge", "--port", str(at), "--scheduler", scheduler, "--folder",
         str(folder / "jobs"), "--token-file", str(folder / "token")],
    ):  # fmt: skip
        until_up(f"http://127.0.0.1:{at}", "another-token")
        yield f'address = "http://127.0.0.1:{at}"\ntoken_file = "token"'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["in_process", "subprocess", "ray", "dask"])
    given = parser.parse_args()
    # So that clusters end with the script.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program, threads = str(pathlib.Path(given.program).resolve()), os.cpu_count()
    package = str(pathlib.Path(__file__).resolve().parents[1] / "trainer/src")
    words = json.dumps(["env", f"PYTHONPATH={package}", sys.executable, "-m", "tidemill_trainer"])
    keys = f"cpus = {threads}\npython = {words}\ncommand = {json.dumps([program, 'train'])}"
    print(f"{'executor':<12}{'trainer':<19}{'rows':>8}{'training':>10}{'to score':>10}{'beyond it':>11}{'bare':>8}")

    def line(folder, name, trainer, model, executor):
        runs = [run(program, folder, name, model, executor) for _ in range(given.runs)]
        middle = lambda at: statistics.median(r[at] for r in runs)  # noqa: E731
        beyond = [round(r[2] - r[1], 2) for r in runs]
        bare = f"{middle(3):.2f} s" if model is LIGHTGBM else ""
        print(
            f"{name:<12}{trainer:<19}{runs[0][0]:>8,}{middle(1):>8.2f} s{middle(2):>8.2f} s"
            f"{statistics.median(beyond):>9.2f} s{bare:>8}   {beyond}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        write_rows(folder, given.rows)
        here = f'[executor.subprocess]\ntype = "subprocess"\n{keys}'
        if "in_process" in given.only:
            line(folder, "in_process", "gradient_boosting", OURS, "")
        if "subprocess" in given.only:
            line(folder, "subprocess", "gradient_boosting", OURS, here)
            line(folder, "subprocess", "lightgbm", LIGHTGBM, here)
        for name, cluster in [("ray", ray), ("dask", dask)]:
            if name in given.only:
                with cluster(folder) as address:
                    executor = f'[executor.{name}]\ntype = "{name}"\n{address}\n{keys}'
                    line(folder, name, "lightgbm", LIGHTGBM, executor)


main()
