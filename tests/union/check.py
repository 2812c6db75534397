"""Computes windows over several sources anew, by UNION ALL.

    check.py FOLDER FEATURES

FOLDER has the pipeline, `union.toml`, and the files of its sources. Of each window W of which there is a count_W, what
FEATURES, lines of JSON, have of sum_W, count_W, most_W, first_W and last_W is compared, whole numbers all of them.
"""

import json
import sys
import tomllib

import duckdb

CALLS = ("sum", "count", "most", "first", "last")
UNITS = {"m": 60, "h": 3_600}

# In the order in which rows of one time stand: others in the order of the pipeline, the spine last. A row's place among
# those of its source and time is that of its id.
ROWS = """
    CREATE TABLE held AS
    SELECT 'refunds' AS source, 0 AS turn, row_number() OVER (ORDER BY id) AS place, card, amount, "at" AS t
    FROM read_csv('{0}/refunds.csv')
    UNION ALL
    SELECT 'fees', 1, row_number() OVER (ORDER BY number), holder, -fee, "at" FROM read_csv('{0}/fees.csv')
    UNION ALL
    SELECT 'payments', 2, row_number() OVER (ORDER BY id), card, amount, "at" FROM read_csv('{0}/payments.csv')"""

READS = """
    CREATE TABLE reads AS
    SELECT id, row_number() OVER (ORDER BY id) AS place, card, friend, "at" AS t FROM read_csv('{0}/payments.csv')"""

BUCKET = "to_timestamp(floor(epoch({0}) / {1}) * {1})::TIMESTAMP"


def seconds(text):
    return int(text[:-1]) * UNITS[text[-1]]


def back(time, text):
    return f"{time} - INTERVAL {seconds(text)} SECOND"


def window(frame):
    """The join of reads and rows, the newest row first, and how many of them at most."""
    spine = "payments" in frame["over"]
    now = back("p.t", frame["offset"]) if "offset" in frame else "p.t"
    keys = frame["by"]
    if isinstance(keys, dict):
        on = " AND ".join(f"r.{column} = p.{of}" for column, of in keys.items())
    else:
        on = "r.card = p.card" if keys else "true"
    on += " AND r.source IN (" + ", ".join(f"'{source}'" for source in frame["over"]) + ")"
    if frame.get("exclude") == "time":
        on += f" AND r.t < {now}"
    elif spine and "offset" not in frame:
        itself = "<" if "exclude" in frame else "<="
        on += f" AND (r.t < p.t OR r.t = p.t AND (r.turn < 2 OR r.place {itself} p.place))"
    else:
        on += f" AND r.t <= {now}"
    if "resolution" in frame:
        on += f" AND r.t >= {BUCKET.format(back(now, frame['last']), seconds(frame['resolution']))}"
    elif "last" in frame:
        on += f" AND r.t >= {back(now, frame['last'])}"
    if "tumbling" in frame:
        on += f" AND r.t >= {BUCKET.format(now, seconds(frame['tumbling']))}"
    if "hopping" in frame:
        end = BUCKET.format(now, seconds(frame["hopping"]["every"]))
        on += f" AND r.t < {end} AND r.t >= {back(end, frame['hopping']['size'])}"
    held = f"""
        SELECT p.id, p.t AS now, r.amount, r.t, r.turn, r.place,
            row_number() OVER newest AS n, lag(r.t, 1, {now}) OVER newest AS next
        FROM reads p JOIN held r ON {on}
        WINDOW newest AS (PARTITION BY p.id ORDER BY r.t DESC, r.turn DESC, r.place DESC)"""
    if "session" in frame:
        far = f"next - t > INTERVAL {seconds(frame['session'])} SECOND"
        gaps = f"sum(CASE WHEN {far} THEN 1 ELSE 0 END) OVER (PARTITION BY id ORDER BY n) AS gaps"
        held = f"SELECT * FROM (SELECT *, {gaps} FROM ({held})) WHERE gaps = 0"
    if "rows" in frame:
        held = f"SELECT * FROM ({held}) WHERE n <= {frame['rows']}"
    return held


def main():
    folder, features = sys.argv[1:]
    with open(f"{folder}/union.toml", "rb") as file:
        pipeline = tomllib.load(file)
    with open(features, encoding="utf-8") as file:
        found = {row["id"]: row for row in map(json.loads, file)}
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(ROWS.format(folder))
    db.execute(READS.format(folder))
    checked = [name for name in pipeline["windows"] if f"count_{name}" in pipeline["features"]]
    compared, differ = 0, 0
    for name in checked:
        order = "ORDER BY h.t, h.turn, h.place"
        theirs = db.execute(f"""
            SELECT p.id, sum(h.amount)::BIGINT, count(h.id), max(h.amount) FILTER (WHERE h.amount % 3 <> 0),
                first(h.amount {order}), last(h.amount {order})
            FROM reads p LEFT JOIN ({window(pipeline['windows'][name])}) h ON h.id = p.id GROUP BY p.id""").fetchall()
        assert len(theirs) == len(found), f"{len(theirs)} rows and {len(found)}"
        for row_id, *wanted in theirs:
            row = found[row_id]
            wanted = {f"{call}_{name}": value for call, value in zip(CALLS, wanted) if f"{call}_{name}" in row}
            ours = {call: row[call] for call in wanted}
            compared += len(ours)
            if ours != wanted:
                differ += 1
                if differ <= 3:
                    print(f"{name} of row {row_id}: {ours}, by DuckDB {wanted}")
    print(f"{len(checked)} windows, {compared} values compared, {differ} differ")
    sys.exit(differ > 0)


main()
