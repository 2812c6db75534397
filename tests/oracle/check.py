"""Computes every feature of some rows anew, by DuckDB over the raw files, and compares.

    check.py PIPELINE FEATURES ROWS SOURCE=FILE...

PIPELINE is the pipeline file, FEATURES the Parquet file that a run of it wrote, ROWS how many random
rows of the spine are compared. Nothing is shared with Tidemill but the texts of the pipeline file:
each window becomes a join of the picked rows with the whole source, on the key and the range of time.
"""

import random
import re
import sys
import tomllib

import duckdb

TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR", "bool": "BOOLEAN",
         "timestamp": "TIMESTAMP"}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def main():
    pipeline, features, rows, *files = sys.argv[1:]
    with open(pipeline, "rb") as file:
        plan = tomllib.load(file)
    files = dict(pair.split("=", 1) for pair in files)
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute("SET integer_division = true")
    db.execute("CREATE MACRO minutes(n) AS to_minutes(n)")
    for name, source in plan["source"].items():
        read(db, name, source, files[name])
    spine = plan["pipeline"]["spine"]
    pick(db, spine, plan["source"][spine], int(rows))
    compare(db, plan, spine, features)


def read(db, name, source, file):
    """The source as a table: declared and computed columns, its time as `__t`, its id as `__id`."""
    types = {c: "VARCHAR" for c in header(file)}
    types |= {c: TYPES[t] for c, t in source["schema"].items()}
    nulls = source.get("null", [""])
    db.execute(f"CREATE TABLE raw_{name} AS SELECT {', '.join(source['schema'])} FROM read_csv("
               f"'{file}', header = true, auto_detect = false, delim = ',', quote = '\"', "
               f"nullstr = {nulls}, columns = {types})")
    columns = "".join(f", {e} AS {c}" for c, e in source.get("columns", {}).items())
    # Each computed column sees the ones before it: DuckDB lets a select list do that.
    db.execute(f"CREATE TABLE {name} AS SELECT *, {source['event_time']} AS __t, "
               f"{source.get('id', '0')} AS __id FROM (SELECT *{columns} FROM raw_{name}) "
               f"WHERE {source.get('where', 'true')}")


def header(file):
    with open(file, encoding="utf-8") as lines:
        return lines.readline().strip().split(",")


def pick(db, spine, source, rows):
    ids = [row[0] for row in db.execute(f"SELECT __id FROM {spine} ORDER BY __id").fetchall()]
    chosen = random.Random(20130101).sample(ids, min(rows, len(ids)))
    db.execute("CREATE TABLE chosen (id BIGINT)")
    db.executemany("INSERT INTO chosen VALUES (?)", [(i,) for i in chosen])
    db.execute(f"CREATE TABLE picked AS SELECT {spine}.* FROM {spine}, chosen WHERE __id = id")


CALL = re.compile(
    r"(\w+)\(([^()]*)\)(?:\s+filter\s*\(\s*where\s+([^()]*)\))?\s+over\s+(\w+)", re.IGNORECASE)


def calls(plan):
    """Every aggregate over a window that a feature makes, and the features with columns for them."""
    found, features = {}, {}

    def column(match):
        function, argument, condition, window = match.groups()
        if window not in plan["windows"]:
            return match.group(0)
        key = (window, function.lower(), argument.strip(), condition)
        return found.setdefault(key, f"call_{len(found)}")

    for name, text in plan["features"].items():
        features[name] = CALL.sub(column, text)
    return found, features


def aggregate(function, argument, condition):
    if function == "count" and argument == "*":
        text = "count(s.__t)"
    elif function in ("last_value", "first_value"):
        text = f"{function[:-6]}({qualified(argument)} ORDER BY s.__t, s.__id)"
    else:
        text = f"{function}({qualified(argument)})"
    return f"{text} FILTER (WHERE {qualified(condition)})" if condition else text


def qualified(expression):
    """Columns of the source; words before a bracket are functions."""
    words = {"case", "when", "then", "else", "end", "and", "or", "not", "is", "null", "in", "distinct"}
    return re.sub(r"\b([a-z_]\w*)\b(?!\s*\()",
                  lambda m: m.group(1) if m.group(1) in words else f"s.{m.group(1)}", expression)


def window_table(db, plan, spine, window, found):
    """One row for each picked one, with all that is asked of this window."""
    spec = plan["windows"][window]
    source = spec.get("over", spine)
    by = spec.get("by", [])
    pairs = by.items() if isinstance(by, dict) else [(c, c) for c in ([by] if isinstance(by, str) else by)]
    on = [f"s.{column} = p.{expression}" for column, expression in pairs]
    on.append("(s.__t, s.__id) <= (p.__t, p.__id)" if source == spine else "s.__t <= p.__t")
    if "last" in spec:
        number, unit = re.fullmatch(r"(\d+)([smhd])", spec["last"]).groups()
        on.append(f"s.__t >= p.__t - INTERVAL {number} {UNITS[unit]}")
    columns = ", ".join(f"{aggregate(f, a, c)} AS {name}"
                        for (w, f, a, c), name in found.items() if w == window)
    joined = f"picked p LEFT JOIN {source} s ON {' AND '.join(on)}"
    if "rows" in spec:
        joined = (f"(SELECT p.__id AS pid, s.* FROM {joined} QUALIFY row_number() OVER "
                  f"(PARTITION BY p.__id ORDER BY s.__t DESC, s.__id DESC) <= {spec['rows']}) s")
        db.execute(f"CREATE TABLE w_{window} AS SELECT pid, {columns} FROM {joined} GROUP BY pid")
    else:
        db.execute(f"CREATE TABLE w_{window} AS SELECT p.__id AS pid, {columns} FROM {joined} "
                   "GROUP BY p.__id")


def compare(db, plan, spine, path):
    found, features = calls(plan)
    used = sorted({window for window, *_ in found})
    for window in used:
        window_table(db, plan, spine, window, found)
    joins = " ".join(f"JOIN w_{w} ON w_{w}.pid = p.__id" for w in used)
    wanted = ", ".join(f"{text} AS {name}" for name, text in features.items())
    db.execute(f"CREATE TABLE wanted AS SELECT p.__id AS id, {wanted} FROM picked p {joins}")
    db.execute(f"CREATE TABLE given AS SELECT * FROM read_parquet('{path}')")
    rows = db.execute("SELECT count(*) FROM wanted JOIN given USING (id)").fetchone()[0]
    picked = db.execute("SELECT count(*) FROM picked").fetchone()[0]
    wrong = 0 if rows == picked else 1
    if wrong:
        print(f"{picked} rows were picked, {rows} of them are among the features")
    for name in features:
        # Sums of floats differ in their last bits with the order of the summands.
        same = (f"w.{name} IS NOT DISTINCT FROM g.{name} OR "
                f"abs(w.{name} - g.{name}) <= 1e-9 * greatest(1, abs(w.{name}))")
        kind = db.execute(f"SELECT typeof({name}) FROM wanted LIMIT 1").fetchone()[0]
        if kind == "VARCHAR":
            same = f"w.{name} IS NOT DISTINCT FROM g.{name}"
        bad = db.execute(f"SELECT id, w.{name}, g.{name} FROM wanted w JOIN given g USING (id) "
                         f"WHERE NOT coalesce({same}, false) ORDER BY id").fetchall()
        if bad:
            wrong += 1
            print(f"{name}: {len(bad)} of {rows} differ, first (id, DuckDB, Tidemill): {bad[:3]}")
    print(f"{len(features)} features of {rows} rows compared, {wrong} differ")
    sys.exit(1 if wrong else 0)


main()
