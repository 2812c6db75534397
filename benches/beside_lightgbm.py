"""Trains LightGBM on what each training of a run read, with the same parameters, and prints both times.

    tidemill run config/pipelines/flight_delays.toml --output json --quiet --folder F > run.json
    pip install lightgbm==4.7.0 pyarrow
    python benches/beside_lightgbm.py tidemill F run.json [--every 8] [--threads 2]

Both times are from the Parquet files to a trained model, on as many threads. Ours were taken inside
the run, beside the pipeline; LightGBM has the machine to itself. A training whose rows are not the
same in number stops the comparison.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import lightgbm
import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

# Our keys and LightGBM's.
PARAMETERS = {
    "leaves": "num_leaves",
    "learning_rate": "learning_rate",
    "min_rows_per_leaf": "min_data_in_leaf",
    "min_hessian": "min_sum_hessian_in_leaf",
    "min_gain": "min_gain_to_split",
    "l2": "lambda_l2",
    "feature_fraction": "feature_fraction",
    "bagging_fraction": "bagging_fraction",
    "max_bins": "max_bin",
    "category_smoothing": "cat_smooth",
    "category_l2": "cat_l2",
    "category_limit": "max_cat_threshold",
    "category_min_rows": "min_data_per_group",
}


def read(folder, task):
    """Features, names of the categories among them, and labels of a task, as it reads them."""
    columns = task["features"] + ["__label_time", "__label"]
    files = [folder / path for path in task["data"]]
    table = pyarrow.concat_tables(pyarrow.parquet.read_table(f, columns=columns) for f in files)
    label_time = table["__label_time"].cast("int64").to_numpy()
    first, end = task["labels"]
    rows = numpy.flatnonzero((label_time >= first) & (label_time < end))[-task["max_rows"] :]
    table = table.take(rows)
    matrix, categories = [], []
    for name in task["features"]:
        column = table[name].combine_chunks()
        if pyarrow.types.is_string(column.type):
            categories.append(name)
            column = column.dictionary_encode().indices
        matrix.append(column.cast("float64").to_numpy(zero_copy_only=False))
    return numpy.column_stack(matrix), categories, table["__label"].to_numpy()


def train(folder, task, threads):
    """Rows, seconds and the log loss on the rows themselves."""
    start = time.perf_counter()
    matrix, categories, labels = read(folder, task)
    given = task["parameters"]
    parameters = {theirs: given[ours] for ours, theirs in PARAMETERS.items()}
    parameters |= {"objective": "binary", "bagging_freq": 1, "seed": 1, "verbosity": -1}
    parameters |= {"max_depth": given["depth"] or -1, "num_threads": threads}
    data = lightgbm.Dataset(
        matrix, labels, feature_name=task["features"], categorical_feature=categories
    )
    model = lightgbm.train(parameters, data, given["trees"])
    seconds = time.perf_counter() - start
    p = model.predict(matrix).clip(1e-15, 1 - 1e-15)
    loss = -numpy.mean(labels * numpy.log(p) + (1 - labels) * numpy.log(1 - p))
    return len(labels), seconds, loss


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("tidemill", help="the program")
    arguments.add_argument("folder", type=pathlib.Path, help="the run's folder")
    arguments.add_argument("summary", type=pathlib.Path, help="what the run printed")
    arguments.add_argument("--every", type=int, default=1, help="only each n-th training")
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    show = [given.tidemill, "journal", "show", given.folder / "journal", "--output", "json"]
    records = json.loads(subprocess.run(show, check=True, stdout=subprocess.PIPE).stdout)["records"]
    tasks = [r["record"]["task"] for r in records if r["record"]["kind"] == "task"]
    ours = json.loads(given.summary.read_text())["retrainings"]
    pairs = list(zip(tasks, ours, strict=True))[:: given.every]
    print(f"{'version':>7} {'rows':>8} {'ours s':>8} {'theirs s':>8} {'ratio':>6} {'our loss':>9} {'theirs':>8}")
    ratios = []
    for task, our in pairs:
        rows, seconds, loss = train(given.folder, task, given.threads)
        if rows != our["rows"]:
            raise SystemExit(f"version {our['version']} was trained on {our['rows']} rows, not {rows}")
        ratios.append(seconds / our["seconds"])
        our_loss = dict(our["metrics"])["log_loss"]
        print(
            f"{our['version']:>7} {rows:>8} {our['seconds']:>8.2f} {seconds:>8.2f} "
            f"{ratios[-1]:>6.2f} {our_loss:>9.4f} {loss:>8.4f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f} over {len(ratios)} trainings")


if __name__ == "__main__":
    main()
