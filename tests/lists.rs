//! Columns of lists through the whole engine: the same features from JSON, CSV, Parquet and Arrow, whatever the
//! number of workers, in `at_once` after all corrections, and after a run was cut off; and what does not fit among
//! the dead letters.

#[path = "support/corrections.rs"]
mod corrections;
#[path = "support/nested.rs"]
mod nested;
#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;

use nested::{Pipeline, ask, lines};
use serde_json::{Value, json};

const PIPELINE: &str = r#"
[pipeline]
name = "baskets"
spine = "orders"
tick = "1m"

[source.orders]
type = "file"
path = "orders.jsonl"
schema = { id = "int64", at = "timestamp", card = "string", amount = "float64", tags = "list<string>", prices = "list<float64>", taste = "vector(3)" }
columns = { pieces = "cardinality(prices)", dear = "array_max(prices) > 80" }
event_time = "at"
id = "id"
lateness = "3h"

[windows]
day  = { by = "card", last = "1d" }
few  = { by = "card", rows = 3 }
ever = { by = "card", lifetime = true }

[features]
tags           = "tags"
pieces         = "sum(pieces) over day"
prices_sum     = "sum(unnest(prices)) over day"
prices_top     = "top_k(unnest(prices), 3) filter (where dear) over day"
tags_different = "count(distinct unnest(tags)) over day"
tags_all       = "set_union(tags, 5) over day"
tags_ever      = "histogram(unnest(tags)) over ever"
by_tag         = "sum_per(amount, unnest(tags)) over day"
taste_sum      = "vector_sum(taste) over day"
taste_mean     = "vector_mean(taste) over ever"
taste_most     = "vector_max(taste) over few"
taste_spread   = "vector_stddev_pop(taste) over day"
off            = "inner_product(taste, vector_avg(taste) over few)"
last           = "last_value(prices) over few"
newest         = "last_k(unnest(tags), 4) over day"

[sink.features]
type = "file"
path = "features.jsonl"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"
"#;

const BASKETS: Pipeline = Pipeline {
    text: PIPELINE,
    source: "orders",
    names: &["id", "at", "card", "amount", "tags", "prices", "taste"],
};

/// Two days of orders; some lists are NULL or empty, some items NULL.
fn orders() -> Vec<Value> {
    let mut state = 7u64;
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let row = |id: u64| {
        let at = 1_362_787_200 + (id * 3 + next(90)) as i64 * 60;
        let at = tidemill_types::time::to_rfc3339(at * 1_000_000);
        let names = ["tea", "milk, fresh", "\"bread\"", "é", "rice", "salt", "oil"];
        let mut list = |item: &mut dyn FnMut(u64) -> Value| {
            let length = next(6);
            match length {
                5 => Value::Null,
                _ => (0..length).map(|_| item(next(9_000))).collect(),
            }
        };
        let tags = list(&mut |n| if n < 500 { Value::Null } else { json!(names[n as usize % 7]) });
        let prices = list(&mut |n| if n < 500 { Value::Null } else { json!(n as f64 / 64.0) });
        let taste = match next(8) {
            0 => Value::Null,
            _ => (0..3).map(|_| json!(next(1_000) as f64 / 7.0)).collect(),
        };
        json!({ "id": id, "at": at, "card": format!("c{}", next(5)), "amount": next(5_000) as f64 / 100.0,
                "tags": tags, "prices": prices, "taste": taste })
    };
    (0..900).map(row).collect()
}

#[test]
fn lists_are_the_same_however_they_come_and_run() {
    let rows = orders();
    said(&rows, &BASKETS.everywhere(&rows));
}

/// Some features by definition: of the first rows of each card, all of whose rows are in every window.
fn said(rows: &[Value], found: &BTreeMap<i64, String>) {
    let mut sorted: Vec<&Value> = rows.iter().collect();
    sorted.sort_by_key(|row| (row["at"].as_str().map(str::to_string), row["id"].as_i64()));
    let mut before: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let mut looked = 0;
    for row in sorted.into_iter().take(300) {
        let seen = before.entry(row["card"].as_str().expect("a card")).or_default();
        seen.push(row);
        let got: Value =
            serde_json::from_str(&found[&row["id"].as_i64().expect("an id")]).expect("JSON");
        let of = |name: &str| -> Vec<&Value> {
            let lists = seen.iter().filter_map(|row| row[name].as_array());
            lists.flatten().filter(|item| !item.is_null()).collect()
        };
        let prices: f64 = of("prices").into_iter().filter_map(Value::as_f64).sum();
        if !of("prices").is_empty() {
            assert_eq!(
                got["prices_sum"].as_f64(),
                Some(prices),
                "multiples of 1/64 are summed exactly"
            );
        }
        let mut tags: Vec<&str> = of("tags").into_iter().filter_map(Value::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(got["tags_different"].as_u64(), Some(tags.len() as u64));
        let shown = &tags[..tags.len().min(5)];
        assert_eq!(got["tags_all"], if tags.is_empty() { Value::Null } else { json!(shown) });
        assert_eq!(got["tags"], row["tags"]);
        assert_eq!(got["last"], row["prices"]);
        let few = &seen[seen.len().saturating_sub(3)..];
        let vectors: Vec<&Vec<Value>> =
            few.iter().filter_map(|row| row["taste"].as_array()).collect();
        let most = |at: usize| {
            let all = vectors.iter().filter_map(|v| v[at].as_f64());
            all.fold(f64::NEG_INFINITY, f64::max)
        };
        if !vectors.is_empty() {
            assert_eq!(got["taste_most"], json!([most(0), most(1), most(2)]));
            looked += 1;
        }
    }
    assert!(looked > 200, "{looked} vectors");
}

#[test]
fn lists_outlive_a_run_that_is_cut_off() {
    BASKETS.outlives_kills(&orders());
}

#[test]
fn a_list_that_does_not_fit_is_a_dead_letter() {
    let rows: Vec<Value> = orders().into_iter().take(50).collect();
    let mut all = rows.clone();
    let long: Value = (0..5_000).map(|n| json!(n)).collect();
    let wrong =
        [("taste", json!([1, 2])), ("tags", json!([1])), ("prices", long), ("tags", json!("tea"))];
    for (n, (column, value)) in wrong.into_iter().enumerate() {
        let mut row = all[n].clone();
        row["id"] = json!(1_000 + n);
        row[column] = value;
        all.insert(10 * (n + 1), row);
    }
    let told = BASKETS.dead_letters(&rows, &lines(&all));
    let told: Vec<(u64, &str)> = told.iter().map(|(line, detail)| (*line, &**detail)).collect();
    assert_eq!(
        told,
        [
            (11, "column taste: found a list of 2 items, wanted vector(3)"),
            (21, "column tags: found the number 1 in the array, wanted list<string>"),
            (
                31,
                "column prices: found a list of more than 4096 items, wanted list<float64> of at most 4096"
            ),
            (41, "column tags: found the string \"tea\", wanted list<string>"),
        ]
    );
}

/// A list in a request is one as in a row.
#[test]
fn a_request_may_give_a_list() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = BASKETS.serve(folder.path(), PIPELINE, "card", &orders());
    let wanted = ["off", "taste_mean", "last"];
    let ask = |taste| ask(&server, ["card", "c1"], wanted, [json!("taste"), taste]);
    let (status, [once, mean, last], told) = ask(json!([1, 0.5, -2]));
    assert_eq!(status, 200, "{told}");
    assert!(mean.as_array().is_some_and(|mean| mean.len() == 3), "{told}");
    assert!(last.is_array() || last.is_null(), "{told}");
    let (_, [twice, ..], _) = ask(json!([2, 1, -4]));
    assert_eq!(twice.as_f64(), once.as_f64().map(|once| 2.0 * once), "{told}");
    assert!(once.is_number(), "{told}");
    let (status, _, told) = ask(json!([1, 2]));
    assert!(status == 422 || status == 400, "{told}");
    assert!(told.contains("vector(3)"), "{told}");
    server.stop();
}

#[test]
fn lists_where_single_values_belong_are_refused() {
    BASKETS.refuses(&[
        ("by = \"card\", last", "by = \"tags\", last", "cannot be the key of a window"),
        ("id = \"id\"", "id = \"tags\"", "is no single value"),
        ("rows = 3", "rows = 3, secondary = \"tags\"", "cannot be a secondary key"),
        ("sum(pieces)", "sum(prices)", "sum(unnest(x)) is over the items of lists"),
        ("sum(pieces)", "sum(unnest(pieces))", "unnest takes a column of lists; found int64"),
        ("sum(pieces)", "vector_sum(pieces)", "takes a column of lists; found int64"),
        ("vector_sum(taste)", "vector_top_k(taste, 3)", "a list holds single values"),
        ("vector(3)", "vector", "write how long each is"),
        ("vector(3)", "list<list<int64>>", "is no type"),
        ("[windows]", "[online]\nentity = \"tags\"\n[windows]", "cannot name an entity"),
        (
            "[windows]",
            "[label.l]\nover = \"orders\"\nvalue = \"tags\"\nwait = \"1h\"\notherwise = \"drop\"\n[windows]",
            "neither a condition nor a number",
        ),
    ]);
}
