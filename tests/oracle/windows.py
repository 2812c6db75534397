"""Answers the reads of many small window cases: by DuckDB's window queries, and sums by exact arithmetic.

    windows.py FOLDER

FOLDER has `calls.json` (the spelling of each call), `cases.csv` (the call, the frame and the edge of each
case) and `stream.csv`: for each moment of a data set the rows that are there and the reads. `answers.jsonl`
gets a line for each read of each case: set, case, read, DuckDB's answer, the scale of its rounding,
and the answer by Python's whole numbers.

Every frame is said as one, RANGE BETWEEN reach PRECEDING AND CURRENT ROW over the place of a row in (time, id)
order. It takes three steps:

* The position of a row is its time and the rank of its id in one number, that of a read the place up to
  which it sees: at its own row or before it, or after or before all rows of a time.
* The floor of a frame that time bounds is the first time in it. A session's is the time of the last row
  before which there is a gap. Periods of the calendar come from DuckDB's own time zones (ICU).
* The rows from the floor to the position are counted; a bound on their number is applied to the count.

Reads stand among the rows and are filtered away again from every aggregate.
"""

import json
import math
import sys

import duckdb

# More than twice as many ids as there are in a data set: between two rows of one time there is a place.
RANKS = 4000

STREAM = {"set_no": "BIGINT", "own": "BOOLEAN", "moment": "BIGINT", "read_no": "BIGINT",
          "key": "BIGINT", "time": "BIGINT", "id_int": "BIGINT", "id_text": "VARCHAR",
          "i": "BIGINT", "x": "DOUBLE", "s": "VARCHAR", "b": "BOOLEAN", "y": "DOUBLE"}
CASES = {"set_no": "BIGINT", "case_no": "BIGINT", "call": "BIGINT", "filtered": "BOOLEAN",
         "frame": "VARCHAR", "size": "BIGINT", "most": "BIGINT", "every": "BIGINT", "origin": "BIGINT",
         "period": "VARCHAR", "zone": "VARCHAR", "behind": "BIGINT", "excluded": "VARCHAR"}


def main():
    folder = sys.argv[1]
    with open(f"{folder}/calls.json", encoding="utf-8") as file:
        calls = json.load(file)
    db = duckdb.connect()
    db.execute("SET threads = 2")
    read(db, "cases", f"{folder}/cases.csv", CASES)
    read(db, "raw", f"{folder}/stream.csv", STREAM)
    assert_ranks_suffice(db)
    db.execute("""
        CREATE TABLE stream AS SELECT *,
            dense_rank() OVER (PARTITION BY set_no ORDER BY id_int, id_text) AS id_rank FROM raw""")
    db.execute("""
        CREATE MACRO multiple(time, size, origin) AS
            time - ((time - origin) % size + size) % size""")
    with open(f"{folder}/answers.jsonl", "w", encoding="utf-8") as answers:
        for number, call in enumerate(calls):
            for line in answer(db, number, call):
                answers.write(json.dumps(line))
                answers.write("\n")


def read(db, table, file, columns):
    db.execute(f"CREATE TABLE {table} AS SELECT * FROM read_csv('{file}', header = false, "
               f"auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '\\N', "
               f"columns = {columns})")


def assert_ranks_suffice(db):
    most = db.execute("SELECT max(n) FROM (SELECT count(DISTINCT (id_int, id_text)) AS n FROM raw "
                      "GROUP BY set_no)").fetchone()[0]
    assert 2 * (most or 0) < RANKS - 2, f"{most} ids in a data set"


def answer(db, number, call):
    over = "FILTER (WHERE read_no IS NULL AND passes) OVER w"
    function, values = call["python"] or (None, None)
    wanted = [call["duckdb"], call["scale"], function and f"list({values}) {{over}}"]
    wanted = ", ".join((text or "NULL").replace("{over}", over) for text in wanted)
    rows = db.execute(f"""
        WITH cased AS (
            SELECT *, read_no IS NULL AS is_row, coalesce(NOT filtered OR b, false) AS passes,
                time - behind AS as_of
            FROM cases JOIN stream USING (set_no) WHERE call = {number}),
        positioned AS (
            SELECT *, CASE
                WHEN is_row THEN time * {RANKS} + 2 * id_rank
                WHEN frame = 'hopping' THEN multiple(as_of, every, origin) * {RANKS} - 1
                WHEN excluded = 'time' THEN as_of * {RANKS} - 1
                WHEN NOT own OR behind > 0 THEN as_of * {RANKS} + {RANKS} - 1
                WHEN excluded = 'row' THEN time * {RANKS} + 2 * id_rank - 1
                ELSE time * {RANKS} + 2 * id_rank END AS position
            FROM cased),
        placed AS (
            SELECT *, count(*) FILTER (WHERE is_row) OVER up_to_here AS place,
                max(time) FILTER (WHERE is_row) OVER before AS time_before
            FROM positioned WINDOW
                up_to_here AS (PARTITION BY set_no, case_no, moment, key
                    ORDER BY position, NOT is_row ROWS UNBOUNDED PRECEDING),
                before AS (PARTITION BY set_no, case_no, moment, key
                    ORDER BY position, NOT is_row
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)),
        begun AS (
            SELECT *, max(time) FILTER (
                    WHERE is_row AND (time_before IS NULL OR time - time_before > size)) OVER (
                PARTITION BY set_no, case_no, moment, key
                ORDER BY position, NOT is_row ROWS UNBOUNDED PRECEDING) AS begins
            FROM placed),
        floored AS (
            SELECT *, CASE
                WHEN is_row THEN NULL
                WHEN frame = 'last' THEN as_of - size
                WHEN frame = 'tiled' THEN multiple(as_of - size, every, 0)
                WHEN frame = 'tumbling' THEN multiple(as_of, size, origin)
                WHEN frame = 'hopping' THEN multiple(as_of, every, origin) - size
                WHEN frame = 'calendar' THEN epoch_us(timezone(zone,
                    date_trunc(period, timezone(zone, make_timestamptz(as_of)))))
                WHEN frame = 'session' AND as_of - time_before <= size THEN begins
                WHEN frame = 'session' THEN as_of + 1
                END AS floor
            FROM begun),
        counted AS (
            SELECT *, CASE WHEN floor IS NULL THEN place ELSE count(*) FILTER (WHERE is_row) OVER (
                PARTITION BY set_no, case_no, moment, key ORDER BY position
                RANGE BETWEEN greatest(position - floor * {RANKS}, 0) PRECEDING AND CURRENT ROW)
                END AS in_time
            FROM (SELECT * REPLACE (CASE WHEN is_row THEN position // {RANKS} ELSE floor END AS floor)
                  FROM floored)),
        listed AS (
            SELECT *, CASE WHEN s = '' THEN 0 WHEN s < 'b' THEN 1 WHEN s IS NOT NULL THEN 2 END AS items
            FROM counted),
        ready AS (
            SELECT set_no, case_no, moment, key, read_no, place AS place_in_order,
                CASE WHEN is_row THEN time ELSE as_of END AS time, i, x, s, b, y, passes,
                CASE items WHEN 0 THEN [] WHEN 1 THEN [i] WHEN 2 THEN [i, b::BIGINT] END AS vi,
                CASE items WHEN 0 THEN [] WHEN 1 THEN [x] WHEN 2 THEN [x, y] END AS vx,
                CASE items WHEN 0 THEN [] WHEN 1 THEN [b] WHEN 2 THEN [b, s = 'b'] END AS vb,
                CASE items WHEN 0 THEN [] WHEN 1 THEN [s] WHEN 2 THEN [s, 'a'] END AS tags,
                CASE items WHEN 0 THEN MAP {{}} WHEN 1 THEN MAP {{'p': i}}
                    WHEN 2 THEN MAP {{'q': i, 'p': b::BIGINT}} END AS mi,
                CASE items WHEN 0 THEN MAP {{}} WHEN 1 THEN MAP {{'p': x}}
                    WHEN 2 THEN MAP {{'q': x, 'p': y}} END AS mx,
                CASE items WHEN 0 THEN MAP {{}} WHEN 1 THEN MAP {{'p': b}}
                    WHEN 2 THEN MAP {{'q': b, 'p': s = 'b'}} END AS mb,
                CASE items WHEN 0 THEN MAP {{}} WHEN 1 THEN MAP {{'p': s}}
                    WHEN 2 THEN MAP {{'q': s, 'p': 'a'}} END AS ms,
                CASE WHEN is_row THEN 1 ELSE least(in_time, coalesce(most, in_time)) END AS held
            FROM listed)
        SELECT set_no, case_no, read_no, {wanted} FROM ready
        WINDOW w AS (PARTITION BY set_no, case_no, moment, key
                     ORDER BY CASE WHEN held = 0 THEN -1 ELSE place_in_order END
                     RANGE BETWEEN greatest(held - 1, 0) PRECEDING AND CURRENT ROW)
        QUALIFY read_no IS NOT NULL""").fetchall()
    for *place, theirs, scale, frame in rows:
        exact = None
        if function:
            exact = globals()[function]([v for v in frame or [] if v is not None])
        yield *place, text(theirs), text(scale), text(exact)


def text(value):
    """With its type before it: JSON has neither NaN nor whole numbers of 64 bits for all."""
    if isinstance(value, list):
        return [text(item) for item in value]
    if isinstance(value, dict):
        return {key_text(key): text(item) for key, item in value.items()}
    return None if value is None else f"{kind(value)}{value}"


def key_text(key):
    """As ours writes the key of a map."""
    return str(key).lower() if isinstance(key, bool) else str(key)


def kind(value):
    return {bool: "b", int: "i", float: "f", str: "t"}[type(value)]


# Exact arithmetic: every float is a whole number of 2**-UNIT.
UNIT = 1074


def units(values):
    ratios = (v.as_integer_ratio() for v in values)
    return [n << (UNIT - d.bit_length() + 1) for n, d in ratios]


def special(values):
    """The sum where it is NaN or infinite for a value is."""
    specials = [v for v in values if not math.isfinite(v)]
    return sum(specials) if specials else None


def quotient(dividend, divisor):
    """Rounded once; Python divides whole numbers so, and refuses what is beyond the largest float."""
    try:
        return dividend / divisor
    except OverflowError:
        return math.inf if dividend > 0 else -math.inf


def whole_sum(values):
    total = sum(values)
    return total if values and -2**63 <= total < 2**63 else None


def exact_sum(values):
    if not values:
        return None
    if (found := special(values)) is not None:
        return found
    total = quotient(sum(units(values)), 1 << UNIT)
    try:
        assert math.fsum(values) == total, (values, total)
    except OverflowError:
        pass  # fsum refuses sums that overflow on the way.
    return total


def mean(values):
    """The exact sum rounded to 53 bits, however large, over the count."""
    if not values:
        return None
    if (found := special(values)) is not None:
        return found / len(values)
    total = sum(units(values))
    spare = max(abs(total).bit_length() - 64, 0)
    # The last bit stands for all that are cut off; it decides no more than which side of a tie it is.
    kept = total >> spare | (total & (1 << spare) - 1 != 0)
    return scaled(float(kept) / len(values), spare - UNIT)


def scaled(mantissa, exponent):
    try:
        return math.ldexp(mantissa, exponent)
    except OverflowError:
        return math.copysign(math.inf, mantissa)


def moments(values, spare):
    """Numerator and denominator of the variance in square units; a float where that is the answer."""
    if len(values) <= spare:
        return None
    if special(values) is not None:
        return math.nan
    whole, n = units(values), len(values)
    return n * sum(u * u for u in whole) - sum(whole) ** 2, n * (n - spare)


def variance(values, spare):
    found = moments(values, spare)
    return quotient(found[0], found[1] << 2 * UNIT) if isinstance(found, tuple) else found


def deviation(values, spare):
    found = moments(values, spare)
    if not isinstance(found, tuple):
        return found
    numerator, denominator = found
    # An even shift leaves at least 128 bits: more than a root keeps.
    shift = max(numerator.bit_length() - 128, 0) & ~1
    return scaled(math.sqrt((numerator >> shift) / denominator), shift // 2 - UNIT)


def var_samp(values):
    return variance(values, 1)


def var_pop(values):
    return variance(values, 0)


def stddev_samp(values):
    return deviation(values, 1)


def stddev_pop(values):
    return deviation(values, 0)


# Of two columns: rows are {'y': ..., 'x': ...} without NULL; of one, numbers.


def columns(pairs):
    return [p["y"] for p in pairs], [p["x"] for p in pairs]


def about(a, b):
    """n times the sum of products about the means, in square units."""
    return len(a) * sum(s * t for s, t in zip(a, b)) - sum(a) * sum(b)


def signed(magnitude, sign):
    """`sign` may be beyond any float."""
    return -magnitude if sign < 0 else magnitude


def root(dividend, divisor):
    """Of the quotient, which itself may be below any float."""
    shift = max(divisor.bit_length() - dividend.bit_length(), 0) // 2
    return scaled(math.sqrt(quotient(dividend << 2 * shift, divisor)), -shift)


def of_pairs(statistic):
    """What SQL says of no pairs and of what is not finite; else by `statistic(n, y, x)` in units."""
    def function(pairs):
        y, x = columns(pairs)
        if not pairs:
            return None
        if special(y) is not None or special(x) is not None:
            return math.nan
        return statistic(len(pairs), units(y), units(x))
    return function


def regr_avgy(pairs):
    return mean(columns(pairs)[0])


def regr_avgx(pairs):
    return mean(columns(pairs)[1])


def covar_samp(pairs):
    found = of_pairs(lambda n, y, x: quotient(about(y, x), n * (n - 1) << 2 * UNIT))
    return found(pairs) if len(pairs) > 1 else None


@of_pairs
def covar_pop(n, y, x):
    return quotient(about(y, x), n * n << 2 * UNIT)


@of_pairs
def regr_sxx(n, y, x):
    return quotient(about(x, x), n << 2 * UNIT)


@of_pairs
def regr_syy(n, y, x):
    return quotient(about(y, y), n << 2 * UNIT)


@of_pairs
def regr_sxy(n, y, x):
    return quotient(about(y, x), n << 2 * UNIT)


@of_pairs
def regr_slope(n, y, x):
    return quotient(about(y, x), about(x, x)) if about(x, x) else None


@of_pairs
def slope_over_time(n, y, x):
    return quotient(about(y, x) * 1_000_000, about(x, x)) if about(x, x) else None


@of_pairs
def regr_intercept(n, y, x):
    if not about(x, x):
        return None
    at_zero = sum(y) * sum(t * t for t in x) - sum(x) * sum(s * t for s, t in zip(y, x))
    return quotient(at_zero, about(x, x) << UNIT)


@of_pairs
def regr_r2(n, y, x):
    if not about(x, x):
        return None
    return quotient(about(y, x) ** 2, about(x, x) * about(y, y)) if about(y, y) else 1.0


def signed(size, sign):
    """With the sign of a whole number, which may be beyond the largest float."""
    return -size if sign < 0 else size


@of_pairs
def corr(n, y, x):
    if not about(x, x) or not about(y, y):
        return None
    return signed(root(about(y, x) ** 2, about(x, x) * about(y, y)), about(y, x))


def central(values, power):
    """Sums of powers of `n x - sum`; a NaN or None where that is the answer."""
    if len(values) < power:
        return None
    if special(values) is not None:
        return math.nan
    whole, n = units(values), len(values)
    total = sum(whole)
    second, other = (sum((n * u - total) ** p for u in whole) for p in (2, power))
    return (n, second, other) if second else None


def root(dividend, divisor):
    """Of the quotient, which itself may be below any float."""
    shift = max(divisor.bit_length() - dividend.bit_length(), 0) // 2
    return scaled(math.sqrt(quotient(dividend << 2 * shift, divisor)), -shift)


def skew_pop(values):
    found = central(values, 3)
    if not isinstance(found, tuple):
        return found
    n, second, third = found
    return signed(root(n * third ** 2, second ** 3), third)


def skewness(values):
    n, found = len(values), skew_pop(values)
    return found and found * math.sqrt(n * (n - 1)) / (n - 2)


def kurtosis_pop(values):
    found = central(values, 4)
    if not isinstance(found, tuple):
        return found
    n, second, fourth = found
    return quotient(n * fourth - 3 * second ** 2, second ** 2)


def kurtosis(values):
    found = central(values, 4)
    if not isinstance(found, tuple):
        return found
    n, second, fourth = found
    excess = (n + 1) * n * fourth - 3 * (n - 1) * second ** 2
    return quotient(excess * (n - 1), second ** 2 * (n - 2) * (n - 3))


def geometric_mean(values):
    if not values:
        return None
    if any(math.isnan(v) or v < 0 for v in values) or 0 in values and math.inf in values:
        return math.nan
    if 0 in values or math.inf in values:
        return 0.0 if 0 in values else math.inf
    return math.exp(math.fsum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
