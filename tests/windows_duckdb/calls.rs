//! What is compared with DuckDB, and how exactly: one table. To add an aggregate is to add its calls
//! here, or a line to [`NOT_IN_DUCKDB`].
//!
//! In a spelling, `{over}` stands for the filter and the window. Where DuckDB means something else:
//!
//! * `first`, `last` and `lag` take no FILTER there: they are places in the ordered list of a frame.
//! * A sum of whole numbers is 128 bits wide there; ours reads NULL beyond 64.
//! * Truth values are no numbers there: they are cast.
//! * Sums and moments of floats depend there on the order of the summands and overflow on the way, so
//!   that they are compared by a tolerance of a scale. `windows.py` computes them once more, in whole
//!   numbers of Python, to the last bit.
//! * Rows of equal y are in no order there in `min_by` and `max_by`; ours takes the earlier one, then the
//!   lesser x. Nor are values that are as frequent in `mode`; ours takes the least.
//! * There is no aggregate per category: a map is made of the list of pairs.
//! * Quantiles are there `low * (1 - share) + high * share`, ours is `low + (high - low) * share`.

/// A call and what it is in DuckDB.
pub struct Spelling {
    /// As in a feature, but for FILTER and OVER.
    pub ours: &'static str,
    /// The same in DuckDB.
    pub duckdb: &'static str,
    /// How far DuckDB may be off: a share of an expression; if nothing is said, equal. Where the
    /// scale is not finite DuckDB overflows on the way: there, only Python is believed.
    pub near: Option<(f64, &'static str)>,
    /// The function of `windows.py` that computes it from the values in the frame, their expression,
    /// and the relative distance allowed: 0 is bit for bit.
    pub python: Option<(&'static str, &'static str, f64)>,
}

/// Whether a spelling may stand here whose aggregate is not on the list.
pub const UNLISTED_ARE_SKIPPED: bool = false;

/// Aggregates without a counterpart, each with the reason.
pub const NOT_IN_DUCKDB: &[(&str, &str)] = &[
    ("decayed_sum", "weights depend on the moment of the read, which no frame's rows know"),
    ("decayed_count", "weights depend on the moment of the read, which no frame's rows know"),
    ("decayed_avg", "weights depend on the moment of the read, which no frame's rows know"),
    ("ewma", "no aggregate folds the rows of a frame in order"),
    ("approx_count_distinct", "count(distinct x) here, an estimate there"),
    ("approx_percentile", "quantile(x, q) here, an estimate there"),
    (
        "hll_sketch",
        "a function of an extension; its bytes are held to another library's in its file",
    ),
    (
        "cpc_sketch",
        "a function of an extension; its bytes are held to another library's in its file",
    ),
    ("drawdown", "no aggregate folds the rows of a frame in order"),
];

pub const fn equal(ours: &'static str, duckdb: &'static str) -> Spelling {
    Spelling { ours, duckdb, near: None, python: None }
}

const fn near(
    ours: &'static str,
    duckdb: &'static str,
    tolerance: f64,
    scale: &'static str,
) -> Spelling {
    Spelling { ours, duckdb, near: Some((tolerance, scale)), python: None }
}

impl Spelling {
    const fn and_python(
        mut self,
        function: &'static str,
        values: &'static str,
        distance: f64,
    ) -> Spelling {
        self.python = Some((function, values, distance));
        self
    }
}

/// The error of a variance grows with the square of the mean, as DuckDB sums it. Squares overflow and
/// underflow there: the former makes this infinite, for the latter it is never zero.
const SQUARES: &str = "max(x * x) {over} + 1e-300";
const SQUARES_OF_INTS: &str = "max(i::DOUBLE * i::DOUBLE) {over}";
const ROOTS: &str = "sqrt(max(x * x) {over}) + 1e-150";
/// A share of 1e-15 of the smallest normal number is about its last bit.
const SIZE: &str = "max(abs(x)) {over} + 1e-308";
const SIZE_OF_INTS: &str = "max(abs(i::DOUBLE)) {over}";
/// Python divides and takes roots of exact numbers; we round once more in between.
const ULPS: f64 = 5e-16;

/// The list of a column's values that are not NULL, in order.
macro_rules! not_null {
    ($column:literal) => {
        concat!(
            "list_filter(list(",
            $column,
            " ORDER BY place_in_order) {over}, lambda v: v IS NOT NULL)"
        )
    };
}
/// The list of the times of such rows.
macro_rules! times {
    ($column:literal) => {
        concat!(
            "list_filter(list(CASE WHEN ",
            $column,
            " IS NOT NULL THEN time END ORDER BY place_in_order) {over}, lambda v: v IS NOT NULL)"
        )
    };
}
/// The last of such values less the first, if there are two.
macro_rules! delta_of {
    ($column:literal) => {
        concat!(
            "CASE WHEN count(",
            $column,
            ") {over} > 1 THEN ",
            not_null!($column),
            "[-1] - ",
            not_null!($column),
            "[1] END"
        )
    };
}
/// A difference of whole numbers, NULL beyond 64 bits.
const CHANGE_OF_INTS: &str = concat!(
    "CASE WHEN ",
    not_null!("i"),
    "[-1]::HUGEINT - ",
    not_null!("i"),
    "[-2]::HUGEINT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN ",
    not_null!("i"),
    "[-1]::HUGEINT - ",
    not_null!("i"),
    "[-2]::HUGEINT END"
);

/// The values of `x` and `y` where neither is NULL.
const PAIRS: &str = "CASE WHEN x IS NOT NULL AND y IS NOT NULL THEN {'y': x, 'x': y} END";
const PAIRS_WITH_INTS: &str = "CASE WHEN i IS NOT NULL AND x IS NOT NULL THEN {'y': i, 'x': x} END";
/// Infinite or NaN where the other column is: DuckDB does not look at it.
const SQUARES_OF_Y: &str = "sum(y * y) {over} + max(abs(x)) {over} * 0 + 1e-290";
const SQUARES_OF_X: &str = "sum(x * x) {over} + max(abs(y)) {over} * 0 + 1e-290";
/// The last bit of a number below the normal ones is no small share of it. A part in 1e-32 or 1e-30 of
/// these: where they overflow, DuckDB's sums may.
const SIZES: &str =
    "1e20 * ((max(abs(x)) {over} + 1e-305) * (max(abs(y)) {over} + 1e-305) + 1e-300)";
const SIZES_WITH_INTS: &str =
    "1e20 * (max(abs(i::DOUBLE)) {over} * (max(abs(x)) {over} + 1e-305) + 1e-300)";
/// Quotients of variances: compared where both columns are spread as far as they are from zero, and nothing
/// overflows or underflows on the way. The scale of each is of the same form.
macro_rules! spread {
    ($scale:literal) => {
        concat!(
            "CASE WHEN regr_syy(x, y) {over} / regr_count(x, y) {over} > 1e-4 * max(x * x) {over} ",
            "AND regr_sxx(x, y) {over} / regr_count(x, y) {over} > 1e-4 * max(y * y) {over} ",
            "AND max(abs(x)) {over} BETWEEN 1e-50 AND 1e50 ",
            "AND max(abs(y)) {over} BETWEEN 1e-50 AND 1e50 THEN ",
            $scale,
            " ELSE 'inf'::DOUBLE END"
        )
    };
}
const SPREAD: &str = spread!("1e0");
const SLOPES: &str = spread!("sqrt(max(x * x) {over} / max(y * y) {over}) * 1e2");
const INTERCEPTS: &str = spread!("max(abs(x)) {over} * 1e2");
/// The values of `x` whose fourth powers neither overflow nor underflow, of which DuckDB makes errors.
macro_rules! tame {
    ($name:literal) => {
        concat!($name, "(CASE WHEN x = 0 OR abs(x) BETWEEN 1e-50 AND 1e50 THEN x END) {over}")
    };
}
/// Compared where all values are such, and spread as far as they are from zero.
const SHAPES: &str = concat!(
    "CASE WHEN ",
    tame!("count"),
    " = count(x) {over} AND ",
    tame!("var_pop"),
    " > 1e-3 * max(x * x) {over} THEN 1e0 ELSE 'inf'::DOUBLE END"
);
const SHAPES_OF_INTS: &str = "CASE WHEN var_pop(i) {over} > 1e-3 * max(i::DOUBLE * i::DOUBLE) {over} \
                              THEN 1e0 ELSE 'inf'::DOUBLE END";
/// Three roundings, or a root and a factor more.
const SHAPE_ULPS: f64 = 2e-15;

/// Every call that is compared, those of lists in `of_lists.rs`, of maps in `of_maps.rs`.
pub fn spellings() -> impl Iterator<Item = &'static Spelling> + Clone {
    SPELLINGS.iter().chain(super::of_lists::SPELLINGS).chain(super::of_maps::SPELLINGS)
}

static SPELLINGS: &[Spelling] = &[
    equal("count(*)", "count(*) {over}"),
    equal("count(i)", "count(i) {over}"),
    equal("count(x)", "count(x) {over}"),
    equal("count(s)", "count(s) {over}"),
    equal("count(b)", "count(b) {over}"),
    equal("count(distinct i)", "count(DISTINCT i) {over}"),
    equal("count(distinct x)", "count(DISTINCT x) {over}"),
    equal("count(distinct s)", "count(DISTINCT s) {over}"),
    equal("count(distinct b)", "count(DISTINCT b) {over}"),
    equal(
        "sum(i)",
        "CASE WHEN sum(i) {over} BETWEEN -9223372036854775808 AND 9223372036854775807 \
         THEN sum(i) {over} END",
    )
    .and_python("whole_sum", "i", 0.0),
    equal("sum(b)", "sum(b::BIGINT) {over}"),
    near("sum(x)", "sum(x) {over}", 1e-12, "sum(abs(x)) {over}").and_python("exact_sum", "x", 0.0),
    near("avg(x)", "avg(x) {over}", 1e-12, "sum(abs(x)) {over}").and_python("mean", "x", 0.0),
    near("avg(i)", "avg(i) {over}", 1e-12, SIZE_OF_INTS).and_python("mean", "i", 0.0),
    near("avg(b)", "avg(b::BIGINT) {over}", 1e-15, "1e0").and_python("mean", "b::BIGINT", 0.0),
    near("var_samp(x)", "var_samp(x) {over}", 1e-12, SQUARES).and_python("var_samp", "x", ULPS),
    near("var_pop(x)", "var_pop(x) {over}", 1e-12, SQUARES).and_python("var_pop", "x", ULPS),
    near("stddev_samp(x)", "stddev_samp(x) {over}", 1e-6, ROOTS).and_python(
        "stddev_samp",
        "x",
        ULPS,
    ),
    near("stddev_pop(x)", "stddev_pop(x) {over}", 1e-6, ROOTS).and_python("stddev_pop", "x", ULPS),
    near("var_samp(i)", "var_samp(i) {over}", 1e-12, SQUARES_OF_INTS)
        .and_python("var_samp", "i", ULPS),
    near("var_pop(b)", "var_pop(b::BIGINT) {over}", 1e-12, "1e0").and_python(
        "var_pop",
        "b::BIGINT",
        ULPS,
    ),
    near("stddev_samp(i)", "stddev_samp(i) {over}", 1e-6, SIZE_OF_INTS).and_python(
        "stddev_samp",
        "i",
        ULPS,
    ),
    near("stddev_pop(i)", "stddev_pop(i) {over}", 1e-6, SIZE_OF_INTS).and_python(
        "stddev_pop",
        "i",
        ULPS,
    ),
    equal("min(i)", "min(i) {over}"),
    equal("min(x)", "min(x) {over}"),
    equal("min(s)", "min(s) {over}"),
    equal("min(b)", "min(b) {over}"),
    equal("max(i)", "max(i) {over}"),
    equal("max(x)", "max(x) {over}"),
    equal("max(s)", "max(s) {over}"),
    equal("value_range(x)", "max(x) {over} - min(x) {over}"),
    equal("value_range(i)", "(max(i::HUGEINT) {over} - min(i::HUGEINT) {over})::DOUBLE"),
    equal("max(b)", "max(b) {over}"),
    equal("first_value(i)", "list_extract(list(i ORDER BY place_in_order) {over}, 1)"),
    equal("first_value(x)", "list_extract(list(x ORDER BY place_in_order) {over}, 1)"),
    equal("first_value(s)", "list_extract(list(s ORDER BY place_in_order) {over}, 1)"),
    equal("last_value(x)", "list_extract(list(x ORDER BY place_in_order) {over}, -1)"),
    equal("last_value(b)", "list_extract(list(b ORDER BY place_in_order) {over}, -1)"),
    equal("lag(x)", "list_extract(list(x ORDER BY place_in_order) {over}, -2)"),
    equal("lag(i, 0)", "list_extract(list(i ORDER BY place_in_order) {over}, -1)"),
    equal("lag(s, 3)", "list_extract(list(s ORDER BY place_in_order) {over}, -4)"),
    near("quantile(x, 0.9)", "quantile_cont(x, 0.9) {over}", 1e-15, SIZE),
    near("quantile(x, 0.25)", "quantile_cont(x, 0.25) {over}", 1e-15, SIZE),
    near("quantile(i, 0.9)", "quantile_cont(i, 0.9) {over}", 1e-15, SIZE_OF_INTS),
    equal("quantile(x, 0)", "quantile_cont(x, 0.0) {over}"),
    equal("quantile(x, 1)", "quantile_cont(x, 1.0) {over}"),
    near("median(x)", "median(x) {over}", 1e-15, SIZE),
    near("median(i)", "median(i) {over}", 1e-15, SIZE_OF_INTS),
    equal("nth_value(i, 2)", "list_extract(list(i ORDER BY place_in_order) {over}, 2)"),
    equal("nth_value(s, 1)", "list_extract(list(s ORDER BY place_in_order) {over}, 1)"),
    equal(
        "first_k(x, 3)",
        "CASE WHEN count(x) {over} > 0 THEN list_slice(list_filter(list(x ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), 1, 3) END",
    ),
    equal(
        "first_k(s, 1)",
        "CASE WHEN count(s) {over} > 0 THEN list_slice(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), 1, 1) END",
    ),
    equal(
        "last_k(i, 3)",
        "CASE WHEN count(i) {over} > 0 THEN list_slice(list_filter(list(i ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), -3, -1) END",
    ),
    equal(
        "last_k(b, 2)",
        "CASE WHEN count(b) {over} > 0 THEN list_slice(list_filter(list(b ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), -2, -1) END",
    ),
    equal(
        "first_distinct(s, 2)",
        "CASE WHEN count(s) {over} > 0 THEN list_slice(list_filter(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), lambda e, n: list_position(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), e) = n), 1, 2) END",
    ),
    equal(
        "first_distinct(b, 2)",
        "CASE WHEN count(b) {over} > 0 THEN list_slice(list_filter(list_filter(list(b ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), lambda e, n: list_position(list_filter(list(b ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), e) = n), 1, 2) END",
    ),
    equal(
        "last_distinct(s, 2)",
        "CASE WHEN count(s) {over} > 0 THEN list_reverse(list_slice(list_filter(list_reverse(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), lambda e, n: list_position(list_reverse(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), e) = n), 1, 2)) END",
    ),
    equal(
        "last_distinct(i, 3)",
        "CASE WHEN count(i) {over} > 0 THEN list_reverse(list_slice(list_filter(list_reverse(list_filter(list(i ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), lambda e, n: list_position(list_reverse(list_filter(list(i ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), e) = n), 1, 3)) END",
    ),
    equal("array_agg(x)", "list(x ORDER BY place_in_order) {over}"),
    equal("array_agg(s, 2)", "list_slice(list(s ORDER BY place_in_order) {over}, -2, -1)"),
    equal("string_agg(s, '; ')", "string_agg(s, '; ' ORDER BY place_in_order) {over}"),
    equal(
        "string_agg(s, '', 2)",
        "CASE WHEN count(s) {over} > 0 THEN list_aggregate(list_slice(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL), -2, -1), 'string_agg', '') END",
    ),
    equal(
        "top_k(x, 3)",
        "CASE WHEN count(x) {over} > 0 THEN list_slice(list_reverse_sort(list_filter(list(x ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), 1, 3) END",
    ),
    equal(
        "top_k(i, 3)",
        "CASE WHEN count(i) {over} > 0 THEN list_slice(list_reverse_sort(list_filter(list(i ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), 1, 3) END",
    ),
    equal(
        "top_k(s, 3)",
        "CASE WHEN count(s) {over} > 0 THEN list_slice(list_reverse_sort(list_filter(list(s ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), 1, 3) END",
    ),
    equal(
        "bottom_k(x, 2)",
        "CASE WHEN count(x) {over} > 0 THEN list_slice(list_sort(list_filter(list(x ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), 1, 2) END",
    ),
    equal(
        "bottom_k(b, 2)",
        "CASE WHEN count(b) {over} > 0 THEN list_slice(list_sort(list_filter(list(b ORDER BY place_in_order) {over}, lambda e: e IS NOT NULL)), 1, 2) END",
    ),
    equal(
        "min_by(i, x)",
        "list_extract(list_transform(list_filter(list(struct_pack(v := i, k := x) ORDER BY x, time, i) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1)",
    ),
    equal(
        "min_by(s, i)",
        "list_extract(list_transform(list_filter(list(struct_pack(v := s, k := i) ORDER BY i, time, s) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1)",
    ),
    equal(
        "max_by(x, i)",
        "list_extract(list_transform(list_filter(list(struct_pack(v := x, k := i) ORDER BY i DESC, time, x) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1)",
    ),
    equal(
        "max_by(s, x)",
        "list_extract(list_transform(list_filter(list(struct_pack(v := s, k := x) ORDER BY x DESC, time, s) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1)",
    ),
    equal(
        "min_by(x, s, 2)",
        "nullif(list_slice(list_transform(list_filter(list(struct_pack(v := x, k := s) ORDER BY s, time, x) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1, 2), [])",
    ),
    equal(
        "max_by(i, b, 3)",
        "nullif(list_slice(list_transform(list_filter(list(struct_pack(v := i, k := b) ORDER BY b DESC, time, i) {over}, lambda e: e.v IS NOT NULL AND e.k IS NOT NULL), lambda e: e.v), 1, 3), [])",
    ),
    equal(
        "mode(i)",
        "list_extract(list_transform(list_sort(list_transform(map_entries(histogram(i) {over}), lambda e: struct_pack(n := -e.value::BIGINT, v := e.key))), lambda e: e.v), 1)",
    ),
    equal(
        "mode(s)",
        "list_extract(list_transform(list_sort(list_transform(map_entries(histogram(s) {over}), lambda e: struct_pack(n := -e.value::BIGINT, v := e.key))), lambda e: e.v), 1)",
    ),
    equal(
        "mode(b)",
        "list_extract(list_transform(list_sort(list_transform(map_entries(histogram(b) {over}), lambda e: struct_pack(n := -e.value::BIGINT, v := e.key))), lambda e: e.v), 1)",
    ),
    equal(
        "most_frequent(i, 2)",
        "list_slice(list_transform(list_sort(list_transform(map_entries(histogram(i) {over}), lambda e: struct_pack(n := -e.value::BIGINT, v := e.key))), lambda e: e.v), 1, 2)",
    ),
    equal(
        "most_frequent(s, 2)",
        "list_slice(list_transform(list_sort(list_transform(map_entries(histogram(s) {over}), lambda e: struct_pack(n := -e.value::BIGINT, v := e.key))), lambda e: e.v), 1, 2)",
    ),
    equal("top1_ratio(s)", "list_max(map_values(histogram(s) {over}))::DOUBLE / count(s) {over}"),
    equal("top1_ratio(i)", "list_max(map_values(histogram(i) {over}))::DOUBLE / count(i) {over}"),
    near("entropy(i)", "CASE WHEN count(i) {over} > 0 THEN entropy(i) {over} END", 1e-12, "1e0"),
    near("entropy(s)", "CASE WHEN count(s) {over} > 0 THEN entropy(s) {over} END", 1e-12, "1e0"),
    near("entropy(b)", "CASE WHEN count(b) {over} > 0 THEN entropy(b) {over} END", 1e-12, "1e0"),
    equal("histogram(i)", "histogram(i) {over}"),
    equal("histogram(s)", "histogram(s) {over}"),
    equal("histogram(b)", "histogram(b) {over}"),
    equal(
        "set_agg(s)",
        "CASE WHEN count(s) {over} > 0 THEN list_sort(list_filter(list(DISTINCT s) {over}, lambda e: e IS NOT NULL)) END",
    ),
    equal(
        "set_agg(i, 3)",
        "CASE WHEN count(i) {over} > 0 THEN list_slice(list_sort(list_filter(list(DISTINCT i) {over}, lambda e: e IS NOT NULL)), 1, 3) END",
    ),
    equal("bounded_unique_count(i, 2)", "least(count(DISTINCT i) {over}, 2)"),
    equal("bounded_unique_count(s, 5)", "least(count(DISTINCT s) {over}, 5)"),
    equal(
        "count_per(x, s)",
        "CASE WHEN count(s) {over} > 0 THEN map_from_entries(list_transform(list_filter(list_distinct(list(s) {over}), lambda k: k IS NOT NULL), lambda k: struct_pack(k := k, v := list_count(list_transform(list_filter(list(struct_pack(c := s, v := x)) {over}, lambda e: e.c = k), lambda e: e.v))::BIGINT))) END",
    ),
    equal(
        "sum_per(i, s)",
        "CASE WHEN count(s) {over} > 0 THEN map_from_entries(list_transform(list_filter(list_distinct(list(s) {over}), lambda k: k IS NOT NULL), lambda k: struct_pack(k := k, v := CASE WHEN list_sum(list_transform(list_filter(list(struct_pack(c := s, v := i)) {over}, lambda e: e.c = k), lambda e: e.v)) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN list_sum(list_transform(list_filter(list(struct_pack(c := s, v := i)) {over}, lambda e: e.c = k), lambda e: e.v))::BIGINT END))) END",
    ),
    equal(
        "avg_per(b, s)",
        "CASE WHEN count(s) {over} > 0 THEN map_from_entries(list_transform(list_filter(list_distinct(list(s) {over}), lambda k: k IS NOT NULL), lambda k: struct_pack(k := k, v := list_avg(list_transform(list_filter(list(struct_pack(c := s, v := b::BIGINT::DOUBLE)) {over}, lambda e: e.c = k), lambda e: e.v))))) END",
    ),
    equal(
        "min_per(x, b)",
        "CASE WHEN count(b) {over} > 0 THEN map_from_entries(list_transform(list_filter(list_distinct(list(b) {over}), lambda k: k IS NOT NULL), lambda k: struct_pack(k := k, v := list_min(list_transform(list_filter(list(struct_pack(c := b, v := x)) {over}, lambda e: e.c = k), lambda e: e.v))))) END",
    ),
    equal(
        "max_per(s, i)",
        "CASE WHEN count(i) {over} > 0 THEN map_from_entries(list_transform(list_filter(list_distinct(list(i) {over}), lambda k: k IS NOT NULL), lambda k: struct_pack(k := k, v := list_max(list_transform(list_filter(list(struct_pack(c := i, v := s)) {over}, lambda e: e.c = k), lambda e: e.v))))) END",
    ),
    near("corr(x, y)", "corr(x, y) {over}", 1e-6, SPREAD).and_python("corr", PAIRS, SHAPE_ULPS),
    near("covar_samp(x, y)", "covar_samp(x, y) {over}", 1e-32, SIZES).and_python(
        "covar_samp",
        PAIRS,
        ULPS,
    ),
    near("covar_pop(x, y)", "covar_pop(x, y) {over}", 1e-32, SIZES).and_python(
        "covar_pop",
        PAIRS,
        ULPS,
    ),
    near("covar_samp(i, x)", "covar_samp(i, x) {over}", 1e-32, SIZES_WITH_INTS).and_python(
        "covar_samp",
        PAIRS_WITH_INTS,
        ULPS,
    ),
    equal("regr_count(x, y)", "regr_count(x, y) {over}"),
    equal("regr_count(i, x)", "regr_count(i, x) {over}"),
    near("regr_avgx(x, y)", "regr_avgx(x, y) {over}", 1e-12, "sum(abs(y)) {over}").and_python(
        "regr_avgx",
        PAIRS,
        0.0,
    ),
    near("regr_avgy(x, y)", "regr_avgy(x, y) {over}", 1e-12, "sum(abs(x)) {over}").and_python(
        "regr_avgy",
        PAIRS,
        0.0,
    ),
    near("regr_sxx(x, y)", "regr_sxx(x, y) {over}", 1e-10, SQUARES_OF_Y)
        .and_python("regr_sxx", PAIRS, ULPS),
    near("regr_syy(x, y)", "regr_syy(x, y) {over}", 1e-10, SQUARES_OF_X)
        .and_python("regr_syy", PAIRS, ULPS),
    near("regr_sxy(x, y)", "regr_sxy(x, y) {over}", 1e-30, SIZES)
        .and_python("regr_sxy", PAIRS, ULPS),
    near("regr_slope(x, y)", "regr_slope(x, y) {over}", 1e-6, SLOPES).and_python(
        "regr_slope",
        PAIRS,
        ULPS,
    ),
    near("regr_intercept(x, y)", "regr_intercept(x, y) {over}", 1e-6, INTERCEPTS).and_python(
        "regr_intercept",
        PAIRS,
        ULPS,
    ),
    near("regr_r2(x, y)", "regr_r2(x, y) {over}", 1e-6, SPREAD).and_python("regr_r2", PAIRS, ULPS),
    near("slope_over_time(x)", "regr_slope(x, time) {over} * 1e6", 0.0, "'inf'::DOUBLE")
        .and_python(
            "slope_over_time",
            "CASE WHEN x IS NOT NULL THEN {'y': x, 'x': time} END",
            SHAPE_ULPS,
        ),
    near("skewness(x)", tame!("skewness"), 1e-6, SHAPES).and_python("skewness", "x", SHAPE_ULPS),
    near("skewness(i)", "skewness(i) {over}", 1e-6, SHAPES_OF_INTS)
        .and_python("skewness", "i", SHAPE_ULPS),
    near(
        "skew_pop(x)",
        concat!(
            tame!("skewness"),
            " * (count(x) {over} - 2) / sqrt(count(x) {over} * (count(x) {over} - 1))"
        ),
        1e-6,
        SHAPES,
    )
    .and_python("skew_pop", "x", SHAPE_ULPS),
    near("kurtosis(x)", tame!("kurtosis"), 1e-6, SHAPES).and_python("kurtosis", "x", SHAPE_ULPS),
    near(
        "kurtosis_pop(x)",
        concat!("CASE WHEN count(x) {over} > 3 THEN ", tame!("kurtosis_pop"), " END"),
        1e-6,
        SHAPES,
    )
    .and_python("kurtosis_pop", "x", SHAPE_ULPS),
    near("kurtosis_pop(i)", "kurtosis_pop(i) {over}", 0.0, "'inf'::DOUBLE").and_python(
        "kurtosis_pop",
        "i",
        SHAPE_ULPS,
    ),
    near("geometric_mean(x)", "geomean(x) {over}", 1e-9, SIZE).and_python(
        "geometric_mean",
        "x",
        3e-13,
    ),
    equal("change(x)", concat!(not_null!("x"), "[-1] - ", not_null!("x"), "[-2]")),
    equal("delta(x)", delta_of!("x")),
    equal("change(i)", CHANGE_OF_INTS),
    equal(
        "rate(x)",
        concat!(
            "(",
            delta_of!("x"),
            ") / nullif((",
            times!("x"),
            "[-1] - ",
            times!("x"),
            "[1]) / 1e6, 0)"
        ),
    ),
    equal("time_since_last(x)", concat!("(time - ", times!("x"), "[-1]) / 1e6")),
    equal("time_since_last(s)", concat!("(time - ", times!("s"), "[-1]) / 1e6")),
    equal("time_since_first(b)", concat!("(time - ", times!("b"), "[1]) / 1e6")),
];
