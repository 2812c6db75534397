//! Decades without a row: nothing is made of them, and they cost nothing.

#[path = "support/turncoat.rs"]
mod turncoat;

use std::fs;

use serde_json::{Value as Json, json};
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
    // What it published last is in charge, and waits for nobody.
    let (last, former) = all.split_last().expect("versions");
    assert_eq!((&last["stage"], &last["aliases"]), (&json!("champion"), &json!(["champion"])));
    assert!(former.iter().all(|v| v["stage"] == "former" && v["aliases"] == json!([])));

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
    let data = keeping_all(96);
    let words = ["crash-test", "turncoat.toml", "--kills", "12", "--seed", "5", "--folder", "runs"];
    let more = ["--set", "pipeline.bundle=30", "--output", "json"];
    let told = turncoat::json(&data.tidemill(&words).args(more).output().expect("it starts"));
    assert!(told["went_on"].as_u64().is_some_and(|n| n > 0), "no restart went on: {told}");
}

/// What stands in `last` aside, nothing leaves a training set: over a gap it stays the same.
fn keeping_all(hours: i64) -> Turncoat {
    let data = data(hours, true);
    let file = data.path("turncoat.toml");
    let text = fs::read_to_string(&file).expect("a pipeline");
    let kept = text.replace("training = { last = \"1d\", ", "training = { ");
    assert_ne!(kept, text);
    fs::write(file, kept).expect("written");
    data
}

/// Of the labels before a gap a version is trained once, and not each day of it.
#[test]
fn nothing_is_trained_again_in_a_gap() {
    let data = keeping_all(30);
    let told = data.run("out", &[]);
    let trainings = told["retrainings"].as_array().expect("a list").iter();
    let of = |key: &str| -> Vec<i64> {
        trainings.clone().filter_map(|training| training[key].as_i64()).collect()
    };
    let day = 86_400_000_000;
    let late = tidemill_types::time::from_rfc3339("2025-01-02").expect("a day");
    // The last labels of the second night are learnt on the third day, a gap away from the next ones.
    assert_eq!(of("triggered_at"), [day, 2 * day, late], "{told}");
    assert!(of("rows").is_sorted_by(|a, b| a < b), "{told}");
    let scores = fs::read(data.path("out/scores.jsonl")).expect("scores");
    data.run("one", &["--set", "pipeline.bundle=1", "--workers", "2"]);
    assert!(fs::read(data.path("one/scores.jsonl")).expect("scores") == scores);
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
