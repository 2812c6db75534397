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
pub const NOT_IN_DUCKDB: &[(&str, &str)] = &[];

const fn equal(ours: &'static str, duckdb: &'static str) -> Spelling {
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

/// Every call that is compared.
pub static SPELLINGS: &[Spelling] = &[
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
];
