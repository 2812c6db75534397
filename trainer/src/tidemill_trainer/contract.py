"""The files of a task, as a runner sees them. The engine's side is connectors/src/task/ of Tidemill."""

import hashlib
import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

PROTOCOL = 1
DONE, FAILED, TIMEOUT, FENCED, CANCELLED = 0, 10, 11, 12, 14

_numbers = itertools.count()


class DataError(Exception):
    """The rows cannot be learnt: the same rows would fail again."""

    def __init__(self, message: str, code: str = "DATA"):
        super().__init__(message)
        self.code = code


class CodeError(Exception):
    """The trainer, its parameters or its libraries are not what the task asks for."""

    def __init__(self, message: str, code: str = "CODE"):
        super().__init__(message)
        self.code = code


@dataclass
class Trained:
    """What a trainer gives back."""

    #: The component of Tidemill that reads it: lightgbm, xgboost, onnx or linear.
    kind: str
    #: The artifact. Equal data, parameters, seed and libraries must give equal bytes.
    artifact: bytes
    #: Measures by name; finite numbers.
    metrics: dict[str, float] = field(default_factory=dict)


def write_apart(path: Path, data: bytes) -> Path:
    """Writes beside `path`, down to the disk; the name of what was written."""
    apart = path.with_name(f"{path.name}.{os.getpid()}-{next(_numbers)}.part")
    try:
        with open(apart, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        apart.unlink(missing_ok=True)
        raise
    return apart


def write_once(path: Path, data: bytes) -> bool:
    """Writes a file that nobody has written yet; False if somebody has."""
    apart = write_apart(path, data)
    try:
        os.link(apart, path)
        return True
    except FileExistsError:
        return False
    finally:
        apart.unlink(missing_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Writes a file over what was there, whole or not at all."""
    os.replace(write_apart(path, data), path)


def to_json(value) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


class Task:
    """One attempt at a task."""

    def __init__(self, path: str, attempt: int | None = None, memory_mb: int | None = None):
        self.file = Path(path).resolve()
        self.folder = self.file.parent
        self.run = self.folder.parent.parent
        self.json = json.loads(self.file.read_text())
        if self.json.get("protocol") != PROTOCOL:
            raise CodeError(f"the task is of protocol {self.json.get('protocol')}, not {PROTOCOL}")
        self.training = self.json["task"]
        self.limits = self.json["limits"]
        self.memory_mb = memory_mb or self.limits["memory_mb"]
        if attempt is None:
            attempt = self.lease()[0] + 1
            (self.folder / f"attempt-{attempt}").mkdir(exist_ok=True)
            replace(self.folder / "lease", f"{attempt}\n".encode())
        self.attempt = attempt
        self.place = self.folder / f"attempt-{attempt}"

    def lease(self) -> tuple[int, bool]:
        """The newest attempt that was given a lease, and whether it still holds it."""
        try:
            words = (self.folder / "lease").read_text().split()
        except FileNotFoundError:
            return 0, False
        return int(words[0]), len(words) == 1

    def holds_lease(self) -> bool:
        return self.lease() == (self.attempt, True)

    def cancelled(self) -> bool:
        return (self.folder / "cancel").exists()

    def beat(self, beat: int, seconds: float, peak_mb: float, phase: str) -> None:
        value = {"beat": beat, "seconds": seconds, "peak_mb": peak_mb, "phase": phase}
        replace(self.place / "heartbeat.json", to_json(value))

    def put(self, data: bytes) -> str:
        """Stores an artifact under its hash."""
        name = hashlib.sha256(data).hexdigest()
        path = self.run / "tasks" / "blobs" / name[:2] / name
        if not (path.exists() and path.read_bytes() == data):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, data)
        return name

    def succeed(self, result: dict) -> bool:
        return write_once(self.place / "result.json", to_json(result))

    def fail(self, kind: str, code: str, message: str, trace: str = "") -> bool:
        # Some libraries put whole arrays into a message.
        value = {"class": kind, "code": code, "message": message[:2_000]}
        if trace:
            value["trace"] = trace
        return write_once(self.place / "failure.json", to_json(value))
