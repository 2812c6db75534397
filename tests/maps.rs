//! Columns of maps through the whole engine: the same features from JSON, CSV, Parquet and Arrow, whatever the
//! number of workers, in `at_once` after all corrections, and after a run was cut off; and what does not fit among
//! the dead letters.

#[path = "support/corrections.rs"]
mod corrections;
#[path = "support/nested.rs"]
mod nested;
#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;

use nested::{Pipeline, ask};
use serde_json::{Map, Value, json};

const PIPELINE: &str = r#"
[pipeline]
name = "sensors"
spine = "readings"
tick = "1m"

[source.readings]
type = "file"
path = "readings.jsonl"
schema = { id = "int64", at = "timestamp", device = "string", measures = "map<float64>", hits = "map<string, int64>", labels = "map<string>" }
columns = { kinds = "cardinality(measures)", heat = "measures['heat']" }
event_time = "at"
id = "id"
lateness = "3h"

[windows]
day  = { by = "device", last = "1d" }
few  = { by = "device", rows = 3 }
ever = { by = "device", lifetime = true }
halved = { by = "device", half_life = "1d" }

[features]
as_read     = "measures"
kinds       = "sum(kinds) over day"
hottest     = "max(heat) over day"
rise        = "heat - (map_avg(measures) over few)['heat']"
sums        = "map_sum(hits) over day"
sums_true   = "map_sum(hits) filter (where kinds > 1) over day"
means       = "map_mean(measures) over ever"
least       = "map_min(measures) over few"
greatest    = "map_max(labels) over day"
counts      = "map_count(labels) over ever"
different   = "map_count(distinct labels) over day"
middle      = "map_median(measures) over day"
fading      = "map_avg(measures) over halved"
latest      = "map_last_value(hits) over few"
newest      = "last_value(labels) over few"
names       = "set_union(map_keys(hits)) over day"
all_hits    = "sum(unnest(map_values(hits))) over day"

[sink.features]
type = "file"
path = "features.jsonl"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"
"#;

const SENSORS: Pipeline = Pipeline {
    text: PIPELINE,
    source: "readings",
    names: &["id", "at", "device", "measures", "hits", "labels"],
};

/// Two days of readings; some maps are NULL or empty, some values NULL.
fn readings() -> Vec<Value> {
    let mut state = 11u64;
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let row = |id: u64| {
        let at = 1_362_787_200 + (id * 3 + next(90)) as i64 * 60;
        let at = tidemill_types::time::to_rfc3339(at * 1_000_000);
        let mut map = |value: &mut dyn FnMut(u64) -> Value| {
            let length = next(6);
            if length == 5 {
                return Value::Null;
            }
            let keys = ["heat", "a, b", "\"q\"", "é", "Z", "", "rain"];
            let entry = |_| {
                let (key, n) = (next(7), next(9_000));
                let value = if n < 500 { Value::Null } else { value(n) };
                (keys[key as usize].to_string(), value)
            };
            Value::Object((0..length).map(entry).collect::<Map<String, Value>>())
        };
        let measures = map(&mut |n| json!(n as f64 / 64.0));
        let hits = map(&mut |n| json!(n % 50));
        let labels = map(&mut |n| json!(format!("l{}", n % 9)));
        json!({ "id": id, "at": at, "device": format!("d{}", next(5)), "measures": measures, "hits": hits, "labels": labels })
    };
    (0..900).map(row).collect()
}

#[test]
fn maps_are_the_same_however_they_come_and_run() {
    let rows = readings();
    said(&rows, &SENSORS.everywhere(&rows));
}

/// Some features by definition: of the first rows of each device, all of whose rows are in every window.
fn said(rows: &[Value], found: &BTreeMap<i64, String>) {
    let mut sorted: Vec<&Value> = rows.iter().collect();
    sorted.sort_by_key(|row| (row["at"].as_str().map(str::to_string), row["id"].as_i64()));
    let mut before: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let mut looked = 0;
    for row in sorted.into_iter().take(300) {
        let seen = before.entry(row["device"].as_str().expect("a device")).or_default();
        seen.push(row);
        let got: Value =
            serde_json::from_str(&found[&row["id"].as_i64().expect("an id")]).expect("JSON");
        // The values under each key, those that are there.
        let of = |rows: &[&Value], name: &str| {
            let mut of: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            let maps = rows.iter().filter_map(|row| row[name].as_object());
            for (key, value) in maps.flatten() {
                let values = of.entry(key.clone()).or_default();
                values.extend(Some(value).filter(|value| !value.is_null()).cloned());
            }
            of
        };
        let each =
            |of: BTreeMap<String, Vec<Value>>, f: &dyn Fn(&[Value]) -> Value| match of.is_empty() {
                true => Value::Null,
                false => of
                    .iter()
                    .map(|(key, values)| (key.clone(), f(values)))
                    .collect::<Map<_, _>>()
                    .into(),
            };
        let sum = |values: &[Value]| match values {
            [] => Value::Null,
            values => json!(values.iter().filter_map(Value::as_i64).sum::<i64>()),
        };
        let least = |values: &[Value]| {
            let values = values.iter().filter_map(Value::as_f64);
            values.reduce(f64::min).map_or(Value::Null, |least| json!(least))
        };
        assert_eq!(got["as_read"], row["measures"]);
        assert_eq!(got["newest"], row["labels"]);
        assert_eq!(got["sums"], each(of(seen, "hits"), &sum));
        assert_eq!(got["counts"], each(of(seen, "labels"), &|values| json!(values.len())));
        let few = &seen[seen.len().saturating_sub(3)..];
        assert_eq!(got["least"], each(of(few, "measures"), &least));
        let heat = of(seen, "measures").remove("heat").unwrap_or_default();
        let hottest = heat.iter().filter_map(Value::as_f64).reduce(f64::max);
        assert_eq!(got["hottest"].as_f64(), hottest);
        looked += usize::from(got["rise"].is_number());
    }
    assert!(looked > 30, "{looked} rises");
}

#[test]
fn maps_outlive_a_run_that_is_cut_off() {
    SENSORS.outlives_kills(&readings());
}

#[test]
fn a_map_that_does_not_fit_is_a_dead_letter() {
    let rows: Vec<Value> = readings().into_iter().take(50).collect();
    let many: Map<String, Value> = (0..5_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let mut all: Vec<String> = rows.iter().map(Value::to_string).collect();
    let wrong = [
        ("measures", json!({"heat": "hot"})),
        ("hits", json!({"a": 1.5})),
        ("hits", Value::Object(many)),
        ("labels", json!(["tea"])),
    ];
    for (n, (column, value)) in wrong.into_iter().enumerate() {
        let mut row = rows[n].clone();
        row["id"] = json!(1_000 + n);
        row[column] = value;
        all.insert(10 * (n + 1), row.to_string());
    }
    let row =
        json!({ "id": 1_004, "at": rows[4]["at"], "device": "d1", "hits": { "b": 1, "a": 2 } });
    all.push(row.to_string().replace("\"a\":2", "\"a\":2,\"b\":1"));
    let told = SENSORS.dead_letters(&rows, &all.join("\n"));
    let told: Vec<(u64, &str)> = told.iter().map(|(line, detail)| (*line, &**detail)).collect();
    assert_eq!(
        told,
        [
            (
                11,
                "column measures: found the string \"hot\" in the object, wanted map<string, float64>"
            ),
            (21, "column hits: found 1.5, wanted map<string, int64>"),
            (
                31,
                "column hits: found a map of more than 4096 entries, wanted map<string, int64> of at most 4096"
            ),
            (41, "column labels: found an array, wanted map<string, string>"),
            (55, "column hits: found the key \"b\" twice, wanted map<string, int64>"),
        ]
    );
}

/// A map in a request is one as in a row.
#[test]
fn a_request_may_give_a_map() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = PIPELINE.replace("\"heat - (", "\"measures['heat'] - (");
    let server = SENSORS.serve(folder.path(), &text, "device", &readings());
    let wanted = ["as_read", "rise", "sums"];
    let ask = |measures| ask(&server, ["device", "d1"], wanted, [json!("measures"), measures]);
    let given = json!({"heat": 100, "rain": null});
    let (status, [measures, low, sums], told) = ask(given);
    assert_eq!(status, 200, "{told}");
    assert_eq!(measures, json!({"heat": 100.0, "rain": null}), "{told}");
    assert!(sums.is_object(), "{told}");
    let (_, [_, high, _], _) = ask(json!({"heat": 164.0}));
    assert_eq!(high.as_f64(), low.as_f64().map(|low| low + 64.0), "{told}");
    let (status, _, told) = ask(json!({"heat": "hot"}));
    assert!(status == 422 || status == 400, "{told}");
    assert!(told.contains("map<string, float64>"), "{told}");
    server.stop();
}

#[test]
fn maps_where_single_values_belong_are_refused() {
    SENSORS.refuses(&[
        ("by = \"device\", last", "by = \"hits\", last", "cannot be the key of a window"),
        ("id = \"id\"", "id = \"hits\"", "is no single value"),
        ("rows = 3", "rows = 3, secondary = \"hits\"", "cannot be a secondary key"),
        ("sum(kinds)", "sum(hits)", "map_sum(x) is for each key of maps"),
        ("sum(kinds)", "map_sum(kinds)", "takes a column of maps; found int64"),
        (
            "sum(kinds)",
            "sum(unnest(hits))",
            "unnest takes a column of lists; found map<string, int64>",
        ),
        ("map_sum(hits) over", "map_top_k(hits, 3) over", "a map holds single values"),
        ("map<float64>", "map", "its keys are texts"),
        ("map<float64>", "map<int64, float64>", "its keys are texts"),
        ("map<float64>", "map<flaot64>", "did you mean `map<float64>`"),
        ("measures['heat']\"", "measures[1]\"", "a map is read by a text"),
        ("[windows]", "[online]\nentity = \"hits\"\n[windows]", "cannot name an entity"),
        ("map_count(labels) over ever", "map_max(labels) over halved", "sum, count and avg; found max"),
        (
            "[windows]",
            "[label.l]\nover = \"readings\"\nvalue = \"hits\"\nwait = \"1h\"\notherwise = \"drop\"\n[windows]",
            "neither a condition nor a number",
        ),
    ]);
}
