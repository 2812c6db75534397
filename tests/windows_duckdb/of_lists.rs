//! Calls over lists, compared with DuckDB. There is no aggregate over lists: those of a frame are flattened, or each
//! place is an aggregate of its own. Their columns are made by `Row::columns` and `windows.py`.

use super::calls::{Spelling, equal};

/// The lists of a column that are not NULL, in order.
macro_rules! lists {
    ($column:literal) => {
        concat!(
            "list_filter(list(",
            $column,
            " ORDER BY place_in_order) {over}, lambda v: v IS NOT NULL)"
        )
    };
}
/// The items of these lists, in order, NULL among them.
macro_rules! items {
    ($column:literal) => {
        concat!("flatten(", lists!($column), ")")
    };
}
/// Those that are not NULL.
macro_rules! items_there {
    ($column:literal) => {
        concat!("list_filter(", items!($column), ", lambda e: e IS NOT NULL)")
    };
}
/// The different ones, in order.
macro_rules! different_items {
    ($column:literal) => {
        concat!(
            "CASE WHEN len(list_distinct(",
            items!($column),
            ")) > 0 THEN list_sort(list_distinct(",
            items!($column),
            ")) END"
        )
    };
}
/// As many places as the longest list has, which is at most two.
macro_rules! at_places {
    ($column:literal, $first:expr, $second:expr) => {
        concat!(
            "CASE max(len(",
            $column,
            ")) {over} WHEN 1 THEN [",
            $first,
            "] WHEN 2 THEN [",
            $first,
            ", ",
            $second,
            "] END"
        )
    };
}
/// A sum of whole numbers, NULL beyond 64 bits.
macro_rules! whole_sum {
    ($of:literal) => {
        concat!(
            "CASE WHEN sum(",
            $of,
            ") {over} BETWEEN -9223372036854775808 AND 9223372036854775807 THEN sum(",
            $of,
            ") {over} END"
        )
    };
}
/// Every call over lists that is compared.
pub static SPELLINGS: &[Spelling] = &[
    equal("count(vx)", "count(vx) {over}"),
    equal("last_value(vi)", "list_extract(list(vi ORDER BY place_in_order) {over}, -1)"),
    equal("count(unnest(vi))", concat!("coalesce(len(", items_there!("vi"), "), 0)")),
    equal(
        "count(distinct unnest(tags))",
        concat!("coalesce(len(list_distinct(", items!("tags"), ")), 0)"),
    ),
    equal(
        "sum(unnest(vi))",
        concat!(
            "CASE WHEN list_sum(",
            items!("vi"),
            ") BETWEEN -9223372036854775808 AND 9223372036854775807 THEN list_sum(",
            items!("vi"),
            ") END"
        ),
    ),
    equal("max(unnest(vx))", concat!("list_max(", items_there!("vx"), ")")),
    equal("min(unnest(tags))", concat!("list_min(", items_there!("tags"), ")")),
    equal("last_value(unnest(tags))", concat!("list_extract(", items!("tags"), ", -1)")),
    equal(
        "array_agg(unnest(vi), 3)",
        concat!(
            "CASE WHEN len(",
            items!("vi"),
            ") > 0 THEN list_slice(",
            items!("vi"),
            ", -3, -1) END"
        ),
    ),
    equal(
        "histogram(unnest(tags))",
        concat!(
            "CASE WHEN len(",
            items_there!("tags"),
            ") > 0 THEN map_from_entries(list_transform(list_distinct(",
            items!("tags"),
            "), lambda k: struct_pack(k := k, v := len(list_filter(",
            items!("tags"),
            ", lambda e: e = k))))) END"
        ),
    ),
    equal("set_union(tags)", different_items!("tags")),
    equal("set_union(vi, 2)", concat!("list_slice(", different_items!("vi"), ", 1, 2)")),
    equal("vector_sum(vi)", at_places!("vi", whole_sum!("vi[1]"), whole_sum!("vi[2]"))),
    equal(
        "vector_avg(vb)",
        at_places!("vb", "avg(vb[1]::BIGINT) {over}", "avg(vb[2]::BIGINT) {over}"),
    ),
    equal("vector_min(vx)", at_places!("vx", "min(vx[1]) {over}", "min(vx[2]) {over}")),
    equal("vector_max(tags)", at_places!("tags", "max(tags[1]) {over}", "max(tags[2]) {over}")),
];
