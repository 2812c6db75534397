//! Decades without a row: nothing is made of them, and they cost nothing.

#[path = "support/turncoat.rs"]
mod turncoat;

use std::fs;

use serde_json::Value as Json;
use turncoat::Turncoat;

/// What has something to do every hour, if there is anything.
const HOURLY: &str = r#"
[model.online]
type = "logistic_regression"
label = "yes"
inputs = ["x"]
publish = "1h"

[drift.x]
of = ["x"]
detect = ["psi"]
model = "trees"
window = "2h"
every = "1h"
"#;

/// So many hours of 1970, and the same again in 2025 where `late` says so.
fn data(hours: i64, late: bool) -> Turncoat {
    let data = Turncoat::new(hours, &[], HOURLY);
    if late {
        let rows = fs::read_to_string(data.path("rows.csv")).expect("rows");
        let again: String = rows.lines().skip(1).map(|row| format!("1{row}\n")).collect();
        let again = again.replace("1970-01-0", "2025-01-0");
        fs::write(data.path("rows.csv"), rows + &again).expect("written");
    }
    data
}

fn versions(data: &Turncoat, folder: &str) -> Vec<Json> {
    let listed = data.models(&["list", folder]);
    let all = listed["versions"].as_array().expect("versions").iter();
    all.filter(|version| version["model"] == "online").cloned().collect()
}

/// A version an hour while labels come, as without the gap, and one for what came last before it.
#[test]
fn nothing_is_published_of_a_gap() {
    let (alone, both) = (data(12, false), data(12, true));
    let told = alone.run("out", &[]);
    assert_eq!(told["scores"], 12 * 120, "{told}");
    let told = both.run("out", &[]);
    assert_eq!(told["scores"], 2 * 12 * 120, "{told}");
    let (before, all) = (versions(&alone, "out"), versions(&both, "out"));
    for (alone, both) in before.iter().zip(&all) {
        assert_eq!((&alone["artifact"], &alone["since"]), (&both["artifact"], &both["since"]));
    }
    let hour = 3_600_000_000;
    let since: Vec<i64> = all.iter().filter_map(|v| v["since"].as_i64()).collect();
    assert!(since.iter().all(|time| time % hour == 0), "{since:?}");
    let early: Vec<i64> = since.iter().copied().filter(|time| *time < 100 * hour).collect();
    let hours: Vec<i64> = (1..=13).map(|n| n * hour).collect();
    assert_eq!((early, before.len()), (hours, 12), "labels came until shortly after noon");
    assert_eq!(since.len(), 13 + 12, "{since:?}");
    let rows: Vec<u64> = all.iter().filter_map(|v| v["lineage"]["rows"].as_u64()).collect();
    assert!(rows.is_sorted_by(|a, b| a < b), "a version without anything new: {rows:?}");

    let outputs = |folder: &str| {
        ["scores.jsonl", "models.jsonl", "alerts.jsonl"]
            .map(|name| fs::read(both.path(folder).join(name)).expect(name))
    };
    let wanted = outputs("out");
    for (folder, more) in [
        ("one", &["--set", "pipeline.bundle=1", "--workers", "2"][..]),
        ("all", &["--set", "pipeline.bundle=100000"]),
        ("out", &[]),
    ] {
        both.run(folder, more);
        assert!(outputs(folder) == wanted, "{more:?} shows in the output");
    }
}

/// A run that goes on knows what its last version had learnt.
#[test]
fn a_killed_run_publishes_nothing_twice() {
    let data = data(96, true);
    let words = ["crash-test", "turncoat.toml", "--kills", "12", "--seed", "5", "--folder", "runs"];
    let more = ["--set", "pipeline.bundle=30", "--output", "json"];
    let told = turncoat::json(&data.tidemill(&words).args(more).output().expect("it starts"));
    assert!(told["went_on"].as_u64().is_some_and(|n| n > 0), "no restart went on: {told}");
}

/// One row that is dated centuries before the others is one row.
#[test]
fn a_row_of_the_year_one_costs_nothing() {
    let data = data(12, false);
    let rows = fs::read_to_string(data.path("rows.csv")).expect("rows");
    let (head, rows) = rows.split_once('\n').expect("a head");
    let first = "999999,0001-01-01T00:00:00Z,1,0.5,1,0001-01-01T00:10:00Z";
    fs::write(data.path("rows.csv"), format!("{head}\n{first}\n{rows}")).expect("written");
    let told = data.run("out", &[]);
    assert_eq!(told["scores"], 12 * 120 + 1, "{told}");
    assert_eq!(versions(&data, "out").len(), 1 + 12, "one of the first row, and one an hour");
}
