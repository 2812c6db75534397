"""One attempt at a task: heartbeat, lease, deadline and memory beside the training.

A thread beats beside the training and ends the process where the attempt may not go on, whatever the
training does: an orphan of a scheduler that died takes no core for longer than a beat.
"""

import errno
import importlib
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback

from . import environment
from .contract import CANCELLED, DONE, FAILED, FENCED, TIMEOUT
from .contract import PROTOCOL, CodeError, DataError, Task, Trained
from .data import load

TRAINERS = {
    "lightgbm": "tidemill_trainer.train_lightgbm",
    "xgboost": "tidemill_trainer.train_xgboost",
    "scikit_learn": "tidemill_trainer.train_scikit_learn",
}

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS)


def peak_mb() -> float:
    """The largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Beating(threading.Thread):
    """Shows that the attempt lives, and ends it where it may not."""

    def __init__(self, task: Task, began: float):
        super().__init__(name="heartbeat", daemon=True)
        self.task, self.began = task, began
        self.phase = "reading"
        self.stopped = threading.Event()

    def give_up(self, kind: str, code: str, message: str, exit_code: int) -> None:
        try:
            self.task.fail(kind, code, message)
        finally:
            os._exit(exit_code)

    def run(self) -> None:
        task, beat, due = self.task, 0, 0.0
        every = min(max(task.limits["heartbeat_s"], 0.01), 60.0)
        while not self.stopped.wait(min(every, 0.05)):
            seconds = time.monotonic() - self.began
            if seconds > task.limits["deadline_s"]:
                message = f"the attempt took longer than {task.limits['deadline_s']} s"
                self.give_up("TIMEOUT", "DEADLINE", message, TIMEOUT)
            peak = peak_mb()
            if peak > task.memory_mb:
                message = f"the attempt took {peak:.0f} MiB of the {task.memory_mb} it may"
                self.give_up("OOM", "OUT_OF_MEMORY", message, FAILED)
            if seconds < due:
                continue
            due = seconds + every
            if task.cancelled():
                self.give_up("CANCELLED", "CANCELLED", "cancelled", CANCELLED)
            try:
                if not task.holds_lease():
                    os._exit(FENCED)
                beat += 1
                task.beat(beat, seconds, peak, self.phase)
            except (OSError, ValueError):
                pass  # a disk that is away for a moment is no loss of the lease

    def stop(self) -> None:
        self.stopped.set()
        self.join()


def train(task: Task, beating: Beating) -> Trained:
    asked = task.training
    wanted = task.json.get("code")
    if wanted and wanted != environment.identity():
        raise CodeError(
            f"the task asks for code {wanted[:20]}, here is {environment.identity()[:20]}: install the same "
            "trainer and libraries, or change `code` of the executor",
            "STALE_CODE",
        )
    parameters = dict(asked["parameters"])
    name = asked["trainer"]
    module = parameters.pop("module") if name == "python" else TRAINERS.get(name)
    if module is None:
        raise CodeError(f"there is no trainer {name} here; there are {', '.join(TRAINERS)}", "NO_TRAINER")
    try:
        trainer = importlib.import_module(module)
    except ImportError as error:
        raise CodeError(f"trainer {name} needs {error}: pip install it where tasks run", "NO_TRAINER")
    data = load(task)
    beating.phase = "training"
    trained = trainer.train(data, parameters, asked["seed"], max(1, task.limits["cpus"]))
    trained.metrics.setdefault("rows", float(len(data.y)))
    beating.phase = "writing"
    return trained


def classify(error: BaseException) -> tuple[str, str]:
    """Whether trying again may help."""
    if isinstance(error, DataError):
        return "DATA", error.code
    if isinstance(error, CodeError):
        return "CODE", error.code
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return "OOM", "OUT_OF_MEMORY"
    if isinstance(error, OSError) and error.errno in FULL:
        return "INFRA", "DISK"
    return "CODE", type(error).__name__


def main(path: str, attempt: int | None, memory_mb: int | None) -> int:
    began = time.monotonic()
    task = Task(path, attempt, memory_mb)
    if not task.holds_lease():
        return FENCED
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    beating = Beating(task, began)
    beating.start()
    try:
        trained = train(task, beating)
        sha256 = task.put(trained.artifact)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        result = {
            "protocol": PROTOCOL,
            "task_id": task.json["task_id"],
            "attempt": task.attempt,
            "kind": trained.kind,
            "sha256": sha256,
            "bytes": len(trained.artifact),
            "rows": int(trained.metrics["rows"]),
            "metrics": sorted([k, float(v)] for k, v in trained.metrics.items() if math.isfinite(v)),
            "usage": {
                "wall_s": time.monotonic() - began,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_mb": peak_mb(),
            },
            "environment": environment.describe(),
        }
        if not task.holds_lease():
            return FENCED
        task.succeed(result)
        return DONE
    except Exception as error:
        kind, code = classify(error)
        traceback.print_exc()
        if task.holds_lease():
            task.fail(kind, code, f"{type(error).__name__}: {error}", traceback.format_exc()[-4_000:])
            return FAILED
        return FENCED
    finally:
        beating.stop()
        sys.stdout.flush()
        sys.stderr.flush()
