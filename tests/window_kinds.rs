//! Every kind of window through the whole engine: neither workers nor bundles show, and in `at_once`
//! mode features are corrected to those of `final`.

#[path = "support/corrections.rs"]
mod corrections;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const SOURCES: &str = r#"
[pipeline]
name = "kinds"
spine = "orders"
tick = "1m"

[source.orders]
type = "file"
path = "orders.csv"
schema = { id = "int64", card = "string", amount = "float64", at = "timestamp" }
columns = { shop = "id % 5" }
event_time = "at"
id = "id"
lateness = "3h"

[source.refunds]
type = "file"
path = "refunds.csv"
schema = { id = "int64", card = "string", amount = "float64", at = "timestamp" }
event_time = "at"
id = "id"
lateness = "3h"

[sink.features]
type = "file"
path = "features.jsonl"
"#;

const WINDOWS: [&str; 18] = [
    r#"last = "2h""#,
    r#"rows = 4, last = "6h""#,
    r#"last = "2h", offset = "1d""#,
    r#"last = "2h", exclude = "row""#,
    r#"last = "2h", exclude = "time""#,
    r#"tumbling = "6h", origin = "2013-01-01T01:00:00Z""#,
    r#"hopping = { size = "4h", every = "90m" }"#,
    r#"calendar = "day", timezone = "America/New_York""#,
    r#"calendar = "week""#,
    r#"session = "20m""#,
    r#"session = "20m", offset = "2h""#,
    r#"last = "5h", resolution = "1h""#,
    r#"over = "refunds", session = "1h""#,
    r#"over = "refunds", rows = 3, exclude = "time""#,
    r#"over = "refunds", calendar = "month", timezone = "Asia/Tokyo", offset = "12h""#,
    r#"over = "refunds", lifetime = true, offset = "1d""#,
    r#"last = "2h", exclude = "row", series = { step = "1h", count = 4 }"#,
    r#"last = "2h", secondary = "shop""#,
];

/// Three days from before New York's clocks are set; rows come up to two hours late.
fn write(folder: &Path) {
    let mut state = 7u64;
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for (name, rows) in [("orders", 1_500), ("refunds", 500)] {
        let mut file = File::create(folder.join(format!("{name}.csv"))).expect("a file");
        writeln!(file, "id,card,amount,at").expect("written");
        let mut lines: Vec<(u64, String)> = (0..rows)
            .map(|id| {
                // Whole minutes, so that many rows are of one time.
                let minute = next(3 * 24 * 60);
                let at = 1_362_787_200 + minute as i64 * 60;
                let at = tidemill_types::time::to_rfc3339(at * 1_000_000);
                let (card, cents) = (next(6), next(10_000));
                (
                    minute + next(120),
                    format!("{id},c{card},{}.{:02},{at}", cents / 100, cents % 100),
                )
            })
            .collect();
        lines.sort();
        lines.iter().for_each(|(_, line)| writeln!(file, "{line}").expect("written"));
    }
    let mut pipeline = File::create(folder.join("kinds.toml")).expect("a file");
    let mut text = format!("{SOURCES}\n[windows]\n");
    for (n, window) in WINDOWS.iter().enumerate() {
        text += &format!("w{n} = {{ by = \"card\", {window} }}\n");
    }
    text += "halved = { by = \"card\", half_life = \"3h\" }\n";
    text += "halved_per_shop = { by = \"card\", half_life = \"3h\", secondary = \"shop\" }\n\n";
    text += "[features]\n";
    for n in 0..WINDOWS.len() {
        text += &format!("sum_{n} = \"sum(amount) over w{n}\"\n");
        text += &format!("most_{n} = \"max(amount) filter (where id % 3 > 0) over w{n}\"\n");
        text += &format!("last_{n} = \"last_value(id) over w{n}\"\n");
    }
    text += "by_call = \"sum_per(amount, shop) over w0\"\n";
    text += "halved_sum = \"sum(amount) over halved\"\nhalved_count = \"count(*) over halved\"\n";
    text += "halved_by_key = \"avg(amount) over halved_per_shop\"\n";
    text += "halved_by_call = \"avg_per(amount, shop) over halved\"\n";
    pipeline.write_all(text.as_bytes()).expect("written");
}

/// The features of a run, by id, after all corrections; and how many rows were corrected.
fn run(folder: &Path, out: &str, more: &[&str]) -> (BTreeMap<i64, String>, usize) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "kinds.toml", "--quiet", "--folder", out])
        .args(more)
        .current_dir(folder)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    corrections::net(&folder.join(out).join("features.jsonl"))
}

#[test]
fn every_kind_of_window_is_the_same_however_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let (wanted, _) = run(folder.path(), "final", &[]);
    assert_eq!(wanted.len(), 1_500);
    series_are_lists_of_the_window_as_it_was(&wanted);
    a_secondary_key_is_what_the_call_per_key_is(&wanted);
    for (out, more) in [
        ("two", &["--workers", "2"][..]),
        ("short", &["--set", "pipeline.bundle=1"]),
        ("long", &["--set", "pipeline.bundle=10000", "--workers", "2"]),
        ("at_once", &["--set", "pipeline.mode=at_once"]),
        ("at_once_two", &["--set", "pipeline.mode=at_once", "--workers", "2"]),
    ] {
        let (found, corrected) = run(folder.path(), out, more);
        assert!(found == wanted, "{out}: other features");
        eprintln!("{out}: {corrected} rows were corrected");
    }
}

fn a_secondary_key_is_what_the_call_per_key_is(found: &BTreeMap<i64, String>) {
    let mut keys = [0; 2];
    for row in found.values() {
        let row: Value = serde_json::from_str(row).expect("JSON");
        assert_eq!(row["sum_17"], row["by_call"], "{row}");
        assert_eq!(row["halved_by_key"], row["halved_by_call"], "{row}");
        for (most, column) in keys.iter_mut().zip(["sum_17", "halved_by_key"]) {
            *most = row[column].as_object().map_or(0, |of| of.len()).max(*most);
        }
    }
    assert!(keys.iter().all(|most| *most > 2), "{keys:?} keys at most");
}

/// Every row has all steps, the first being the window as of now.
fn series_are_lists_of_the_window_as_it_was(found: &BTreeMap<i64, String>) {
    let rows: Vec<Value> =
        found.values().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let mut lengths = [0; 2];
    for row in &rows {
        let list = row["sum_16"].as_array().expect("a list");
        assert_eq!(list.len(), 4, "{row}");
        assert_eq!(list[0], row["sum_3"], "the first step is the window itself");
        lengths[usize::from(list[2].is_null())] += 1;
    }
    assert!(lengths[0] > 100, "{lengths:?} windows of two hours ago with and without rows");
}

/// Every type of feature, each alone: another one that changes in the same row must not hide that it is compared.
const ALONE: [&str; 6] = [
    "array_agg(id, 50) over near",
    "sum_per(amount, shop) over near",
    "count(*) over steps",
    "sum(amount) over by_shop",
    // As a float it has one value for two counts.
    "count(*) over near + 9007199254740992",
    "case when count(*) over near % 2 = 1 then null else cast('NaN' as double) end",
];

/// The late rows come when most others have been answered for long: `at_once` takes back what they change.
#[test]
fn a_feature_of_any_type_is_corrected() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = File::create(folder.path().join("orders.jsonl")).expect("a file");
    let mut write = |id: u64, hundredths: u64| {
        let (card, shop) = (hundredths % 50, id % 5);
        let at = 1_700_000_000_000_000 + hundredths * 10_000;
        let row =
            format!(r#"{{"id":{id},"ts":{at},"card":{card},"shop":{shop},"amount":{id}.25}}"#);
        writeln!(rows, "{row}").expect("written");
    };
    (0..120_000).for_each(|id| write(id, id));
    (0..600).for_each(|late| write(120_000 + late, late * 150));
    for (n, feature) in ALONE.iter().enumerate() {
        let text = format!(
            r#"
[pipeline]
name = "alone"
spine = "orders"
tick = "1s"
[source.orders]
type = "file"
path = "orders.jsonl"
schema = {{ id = "int64", ts = "int64", card = "int64", shop = "int64", amount = "float64" }}
columns = {{ at = "to_timestamp_micros(ts)" }}
event_time = "at"
id = "id"
lateness = "1h"
[windows]
near = {{ by = "card", last = "2s" }}
steps = {{ by = "card", last = "2s", exclude = "row", series = {{ step = "1s", count = 3 }} }}
by_shop = {{ by = "card", last = "2s", secondary = "shop" }}
[features]
only = "{feature}"
[sink.features]
type = "file"
path = "features.jsonl"
"#
        );
        std::fs::write(folder.path().join("kinds.toml"), text).expect("written");
        let (wanted, _) = run(folder.path(), &format!("final-{n}"), &[]);
        let at_once = ["--set", "pipeline.mode=at_once"];
        let (found, corrected) = run(folder.path(), &format!("at_once-{n}"), &at_once);
        assert_eq!(wanted.len(), 120_600, "{feature}");
        assert!(corrected >= 600, "{feature}: {corrected} rows were corrected");
        let wrong = wanted.iter().filter(|(id, row)| found.get(*id) != Some(*row)).count();
        assert_eq!(wrong, 0, "{feature}: wrong rows are left");
        assert_eq!(found.len(), wanted.len(), "{feature}");
    }
}
