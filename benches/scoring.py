"""Scores the same rows by the same model of LightGBM or XGBoost, with the library and with Tidemill, on one core.

    pip install lightgbm==4.7.0 xgboost-cpu==3.2.0 numpy
    taskset -c 0 python benches/scoring.py [--library xgboost] [--rows 20000] [--columns 40] [--trees 200]

LightGBM scores single rows in two ways: by its Python package, and by its C function for single rows
with the set-up done before (LGBM_BoosterPredictForMatSingleRowFast), the fastest it has. Both sides
give log-odds. XGBoost scores by its Python package, in place, for a matrix that it has seen
is answered from a cache; its trees are of depth 6. Each figure is the median of five.
"""

import argparse
import ctypes
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy


def median(run, rows):
    times = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e9 / rows)
    return statistics.median(times)


def single_row_function(booster, columns):
    """LightGBM's fastest way to score one row, as a function of a pointer to it."""
    import lightgbm

    library = ctypes.CDLL(str(next(pathlib.Path(lightgbm.__file__).parent.rglob("lib_lightgbm.*"))))
    setup = ctypes.c_void_p()
    code = library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, 1, 0, -1, 1, columns, b"num_threads=1", ctypes.byref(setup)
    )  # raw score, all trees, 64-bit floats
    assert code == 0, "LightGBM refuses"
    length, result = ctypes.c_int64(), ctypes.c_double()
    function = library.LGBM_BoosterPredictForMatSingleRowFast
    function.argtypes = [ctypes.c_void_p] * 4
    places = (ctypes.addressof(length), ctypes.addressof(result))

    def score(pointer):
        function(setup, pointer, *places)
        return result.value

    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=40)
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--library", default="lightgbm", choices=["lightgbm", "xgboost"])
    parser.add_argument("--binary", help="the built bench; cargo runs it if not given")
    args = parser.parse_args()
    draw = numpy.random.default_rng(1)
    x = draw.normal(size=(args.rows, args.columns))
    x[draw.random(x.shape) < 0.05] = numpy.nan
    known = numpy.nan_to_num(x)
    y = (known[:, 0] * known[:, 1] + known[:, 2] + draw.normal(size=args.rows) > 0).astype(float)
    contest = {"lightgbm": beside_lightgbm, "xgboost": beside_xgboost}[args.library]
    ours, lines = contest(args, x, y)
    print(f"{args.trees} trees, {args.columns} columns, {args.rows} rows, one core; ns a row")
    lines += [("one row: Tidemill", ours["single_ns"], "single_ns"), ("many: Tidemill", ours["many_ns"], "many_ns")]
    for name, ns, of in lines:
        print(f"{name:<40}{ns:>12,.0f}{ns / ours[of]:>8.2f}x")


def tidemill(args, kind, save, x):
    """Nanoseconds of Tidemill, and its margins."""
    with tempfile.TemporaryDirectory() as folder:
        model, rows, margins = (pathlib.Path(folder, name) for name in ("model", "rows.f64", "margins.f64"))
        save(model)
        x.tofile(rows)
        command = [args.binary] if args.binary else ["cargo", "bench", "--bench", "scoring", "--"]
        said = subprocess.run(
            [*command, kind, str(model), str(rows), str(args.columns), str(margins)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return json.loads(said.strip().splitlines()[-1]), numpy.fromfile(margins)


def beside_lightgbm(args, x, y):
    import lightgbm

    parameters = {"objective": "binary", "num_leaves": 31, "verbose": -1, "seed": 1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), args.trees)
    ours, scored = tidemill(args, "lightgbm", booster.save_model, x)
    theirs = booster.predict(x, raw_score=True, num_threads=1)
    assert numpy.array_equal(scored, theirs), f"they score differently, by up to {abs(scored - theirs).max()}"
    few = x[:1_000]
    package = median(lambda: [booster.predict(row[None], raw_score=True, num_threads=1) for row in few], 1_000)
    score = single_row_function(booster, args.columns)
    pointers = [row.ctypes.data for row in x]
    fast = median(lambda: [score(pointer) for pointer in pointers], args.rows)
    batch = median(lambda: booster.predict(x, raw_score=True, num_threads=1), args.rows)
    return ours, [
        ("one row: LightGBM's Python package", package, "single_ns"),
        ("one row: LightGBM's C function", fast, "single_ns"),
        ("many: LightGBM", batch, "many_ns"),
    ]


def beside_xgboost(args, x, y):
    import xgboost

    x32 = x.astype(numpy.float32)
    parameters = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 6, "seed": 1, "nthread": 1}
    matrix = xgboost.DMatrix(x32, y, nthread=1)
    booster = xgboost.train(parameters, matrix, args.trees)
    inputs = {"numbers": [f"Column_{i}" for i in range(args.columns)], "categories": []}
    booster.set_attr(tidemill_inputs=json.dumps(inputs), tidemill_categories="[]")
    ours, scored = tidemill(args, "xgboost", lambda to: to.write_bytes(booster.save_raw("json")), x)
    theirs = booster.predict(matrix, output_margin=True)
    assert abs(scored - theirs).max() < 1e-6, f"they score differently, by up to {abs(scored - theirs).max()}"
    few = x32[:1_000]
    inplace = lambda rows: booster.inplace_predict(rows, predict_type="margin")  # noqa: E731
    return ours, [
        ("one row: XGBoost's Python package", median(lambda: [inplace(r[None]) for r in few], 1_000), "single_ns"),
        ("many: XGBoost", median(lambda: inplace(x32), args.rows), "many_ns"),
    ]


main()
