"""Runs training tasks of Tidemill: reads task.json, trains, writes result.json beside it."""

from .contract import DataError, Trained

__version__ = "0.1.0"
__all__ = ["DataError", "Trained", "__version__"]
