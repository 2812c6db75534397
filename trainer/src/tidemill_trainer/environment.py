"""What makes an artifact besides the task: this code, the interpreter and the libraries."""

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

LIBRARIES = ["lightgbm", "xgboost", "xgboost-cpu", "scikit-learn", "onnx", "numpy", "scipy", "pyarrow"]


def libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


@functools.cache
def code() -> str:
    """SHA-256 over the sources of this package."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def describe() -> dict:
    return {"code": code(), "python": platform.python_version(), "libraries": libraries()}


def identity() -> str:
    """One word for all of it."""
    text = repr((code(), platform.python_version(), sorted(libraries().items())))
    return hashlib.sha256(text.encode()).hexdigest()
