//! Calls over maps, compared with DuckDB, where each key is an aggregate of its own. Their columns are made by
//! `Row::columns` and `windows.py`: a map has the key p, or q and p, or none.

use super::calls::{Spelling, equal};

/// What stands under a key.
macro_rules! under {
    ($column:literal, $key:literal) => {
        concat!("map_extract(", $column, ", '", $key, "')[1]")
    };
}
/// As many keys as the largest map has.
macro_rules! of_keys {
    ($column:literal, $p:expr, $q:expr) => {
        concat!(
            "CASE max(cardinality(",
            $column,
            ")) {over} WHEN 1 THEN MAP {'p': ",
            $p,
            "} WHEN 2 THEN MAP {'p': ",
            $p,
            ", 'q': ",
            $q,
            "} END"
        )
    };
}
/// A function of the values under each key.
macro_rules! each_key {
    ($function:literal, $column:literal) => {
        each_key!($function, $column, "")
    };
    ($function:literal, $column:literal, $cast:literal) => {
        of_keys!(
            $column,
            concat!($function, "(", under!($column, "p"), $cast, ") {over}"),
            concat!($function, "(", under!($column, "q"), $cast, ") {over}")
        )
    };
}
/// A sum of whole numbers, NULL beyond 64 bits.
macro_rules! whole_sum {
    ($column:literal, $key:literal) => {
        concat!(
            "CASE WHEN sum(",
            under!($column, $key),
            ") {over} BETWEEN -9223372036854775808 AND 9223372036854775807 THEN sum(",
            under!($column, $key),
            ") {over} END"
        )
    };
}

/// Every call over maps that is compared.
pub static SPELLINGS: &[Spelling] = &[
    equal("count(mx)", "count(mx) {over}"),
    equal("last_value(mi)", "list_extract(list(mi ORDER BY place_in_order) {over}, -1)"),
    equal("map_count(mx)", each_key!("count", "mx")),
    equal(
        "map_count(distinct ms)",
        of_keys!(
            "ms",
            concat!("count(DISTINCT ", under!("ms", "p"), ") {over}"),
            concat!("count(DISTINCT ", under!("ms", "q"), ") {over}")
        ),
    ),
    equal("map_sum(mi)", of_keys!("mi", whole_sum!("mi", "p"), whole_sum!("mi", "q"))),
    equal("map_avg(mb)", each_key!("avg", "mb", "::BIGINT")),
    equal("map_min(mx)", each_key!("min", "mx")),
    equal("map_min(mi)", each_key!("min", "mi")),
    equal("map_max(ms)", each_key!("max", "ms")),
    equal("map_max(mb)", each_key!("max", "mb")),
];
