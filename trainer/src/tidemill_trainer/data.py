"""The rows of a task, in the order in which their labels came."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .contract import DataError, Task

LABEL_TIME, LABEL = "__label_time", "__label"


@dataclass
class Data:
    """Labelled rows by column, oldest label first."""

    #: Names of the numbers.
    numbers: list[str]
    #: Names of the categories.
    categories: list[str]
    #: Rows x numbers, float64; NaN stands for NULL.
    x: np.ndarray
    #: One array of texts a category; None stands for NULL.
    texts: list[np.ndarray]
    #: 0 or 1.
    y: np.ndarray

    def dictionaries(self) -> list[list[str]]:
        """The values of each category, in the order of their bytes: a value's code is its place."""
        return [sorted({t for t in texts if t is not None}, key=str.encode) for texts in self.texts]

    def codes(self, dictionaries: list[list[str]]) -> np.ndarray:
        """Rows x categories, float64: codes; NaN for NULL and for values that are not known."""
        out = np.full((len(self.y), len(self.texts)), np.nan)
        for at, (texts, known) in enumerate(zip(self.texts, dictionaries)):
            place = {text: float(code) for code, text in enumerate(known)}
            out[:, at] = [place.get(text, np.nan) for text in texts]
        return out

    def matrix(self, dictionaries: list[list[str]]) -> np.ndarray:
        """Numbers, then codes."""
        return np.hstack([self.x, self.codes(dictionaries)]) if self.texts else self.x


def load(task: Task) -> Data:
    """Reads the rows: label times in the range, the newest `max_rows` of them."""
    asked = task.training
    names = asked["features"]
    numbers = names[: len(names) - asked["categories"]]
    categories = names[len(numbers) :]
    start, end = asked["labels"]
    tables = []
    for given in task.json["inputs"]:
        path = task.run / given["path"]
        if hashlib.sha256(path.read_bytes()).hexdigest() != given["sha256"]:
            raise DataError(f"{given['path']} is not the file that the task names", "INPUT_CHANGED")
        file = pq.ParquetFile(path)
        stamp = (file.metadata.metadata or {}).get(b"tidemill.schema", b"").decode()
        missing = [n for n in [LABEL, LABEL_TIME, *names] if n not in file.schema_arrow.names]
        if stamp != asked["schema"] or missing:
            raise DataError(
                f"{given['path']} has rows of another schema: stamped {stamp[:20]}, asked for "
                f"{asked['schema'][:20]}, missing {missing}",
                "SCHEMA_MISMATCH",
            )
        tables.append(file.read(columns=[LABEL_TIME, LABEL, *names]))
    if not tables:
        raise DataError("the task names no files", "NO_ROWS")
    table = pa.concat_tables(tables)
    times = table[LABEL_TIME].cast(pa.int64()).to_numpy()
    table = table.filter(pa.array((times >= start) & (times < end)))
    surplus = max(0, table.num_rows - asked["max_rows"])
    table = table.slice(surplus)
    if table.num_rows == 0:
        raise DataError("no row has a label in the range that is asked for", "NO_ROWS")
    y = table[LABEL].to_numpy().astype(np.float64)
    if not np.isin(y, (0.0, 1.0)).all():
        raise DataError("a label is neither 0 nor 1", "LABELS")
    if len(set(y.tolist())) < 2:
        raise DataError("all labels are equal", "ONE_CLASS")
    columns = [number(table[name]) for name in numbers]
    x = np.column_stack(columns) if columns else np.empty((len(y), 0))
    texts = [table[name].to_numpy(zero_copy_only=False) for name in categories]
    return Data(numbers, categories, x, texts, y)


def number(column: pa.ChunkedArray) -> np.ndarray:
    """A column as float64, NaN for NULL; times are microseconds since 1970, as in Tidemill."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    # Beyond 2^53 a whole number is rounded, as Tidemill does.
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
