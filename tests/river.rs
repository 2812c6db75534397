//! The river from source to score: every row is accounted for, and nothing but the data shows in
//! what comes out.

#[path = "support/flights.rs"]
mod flights;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use flights::{Data, summary};
use serde_json::Value as Json;

/// What a run wrote for others.
fn outputs(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["scores.jsonl", "models.jsonl", "alerts.jsonl", "dead_letters.jsonl"];
    let read = |name: &str| (name.to_string(), fs::read(folder.join(name)).expect(name));
    names.into_iter().map(read).collect()
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}

#[test]
fn every_departure_is_accounted_for() {
    let data = Data::of_days(31);
    let told = summary(&data.run("out", &[]));
    let rows = fs::read(data.path("flights.csv")).expect("flights");
    let count = |name: &str| told[name].as_u64().expect(name);
    assert_eq!(count("scores"), lines(&rows) as u64 - 1);
    assert_eq!(count("labelled") + count("timed_out") + count("pending"), count("scores"));
    assert_eq!(count("late"), 0);
    assert!(count("promotions") >= 1, "{told}");
    let out = outputs(&data.path("out"));
    assert_eq!(lines(&out["scores.jsonl"]) as u64, count("scores"));
    assert_eq!(lines(&out["alerts.jsonl"]) as u64, count("alerts"));
    assert!(out["dead_letters.jsonl"].is_empty());
    assert!(data.path("out/report.html").exists());
    // What was served was made of the trees' margin, and says of which version.
    let text = String::from_utf8(out["scores.jsonl"].clone()).expect("text");
    let mut upstream = "trees:0".to_string();
    for line in text.lines() {
        let row: Json = serde_json::from_str(line).expect("JSON");
        if row["model"] == "online" {
            let made_of = row["upstream"].as_str().expect("what it was made of").to_string();
            assert!(made_of >= upstream, "{row} after {upstream}");
            upstream = made_of;
        } else {
            assert!(row["upstream"].is_null(), "{row}");
        }
    }
    assert_ne!(upstream, "trees:0", "no version of the trees was ever read");
}

/// A version says how far each partition was read when its training was triggered: here, which line
/// of the file was the last departure before it.
#[test]
fn a_version_knows_its_offsets() {
    let data = Data::of_days(31);
    summary(&data.run("out", &[]));
    let models = fs::read_to_string(data.path("out/models.jsonl")).expect("models");
    let versions = models.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
    let trees: Vec<Json> = versions
        .filter(|version| version["model"] == "trees")
        .map(|version| serde_json::from_str(version["manifest"].as_str().unwrap()).expect("JSON"))
        .collect();
    assert!(!trees.is_empty());
    let flights = fs::read_to_string(data.path("flights.csv")).expect("flights");
    let triggered = |version: &Json| version["lineage"]["labels"][1].as_i64().expect("a time");
    // A flight's hour tells whether it came before; what waited for another training began as that ended.
    let on_the_hour = |version: &&Json| triggered(version) % 3_600_000_000 == 0;
    assert!(trees.iter().any(|version| on_the_hour(&version)), "{trees:?}");
    for version in trees.iter().filter(on_the_hour) {
        let triggered = triggered(version);
        let triggered = tidemill_types::time::to_rfc3339(triggered);
        let before = |line: &str| line.split(',').nth(17).is_some_and(|hour| *hour < *triggered);
        let lines = flights.lines().enumerate().skip(1).filter(|(_, line)| before(line));
        let last = lines.map(|(n, _)| n as u64 + 1).max();
        let offsets = version["lineage"]["offsets"].as_array().expect("offsets");
        let names: Vec<&str> = offsets.iter().filter_map(|offset| offset[0].as_str()).collect();
        assert_eq!(names, ["arrivals/0", "departures/0", "takeoffs/0", "weather/0"]);
        assert_eq!(offsets[1][1].as_u64(), last);
    }
}

/// Workers, bundles and a second run do not show; nor does a run into the same folder, which takes
/// the trainings from its journal.
#[test]
fn only_the_data_show() {
    let data = Data::of_days(45);
    let told = summary(&data.run("one", &[]));
    assert!(told["retrainings"].as_array().is_some_and(|r| r.len() >= 3), "{told}");
    let wanted = outputs(&data.path("one"));
    let cases: [(&str, &[&str]); 4] = [
        ("two", &["--workers", "2"]),
        ("three", &["--workers", "3", "--set", "pipeline.bundle=7"]),
        ("tick", &["--set", "pipeline.bundle=1"]),
        ("long", &["--set", "pipeline.bundle=10000"]),
    ];
    for (folder, more) in cases {
        summary(&data.run(folder, more));
        assert!(outputs(&data.path(folder)) == wanted, "{more:?} shows in the output");
    }
    let again = summary(&data.run("one", &[]));
    assert!(outputs(&data.path("one")) == wanted, "a second run gives other bytes");
    assert_eq!(again["retrainings"][0]["seconds"], 0.0, "the journal's trainings are not repeated");
    let journal = |folder: &str| {
        let path = data.path(folder).join("journal");
        let file = fs::read_dir(path).expect("a journal").map(|f| f.expect("a file").path());
        let mut files: Vec<_> = file.filter(|f| f.extension().is_some()).collect();
        files.sort();
        files.into_iter().map(|f| fs::read(f).expect("a file")).collect::<Vec<_>>()
    };
    assert!(journal("two") == journal("tick"), "journals differ");
}

/// What happens later cannot show: rows after a day, dropped or shuffled, change no score before it.
#[test]
fn the_future_does_not_show() {
    let short = Data::of_days(20);
    let long = Data::of_days(33);
    summary(&short.run("out", &[]));
    summary(&long.run("out", &[]));
    let scores = |data: &Data| {
        let text = fs::read_to_string(data.path("out/scores.jsonl")).expect("scores");
        let before = |line: &&str| line.contains("\"event_time\":\"2013-01-1");
        text.lines().filter(before).map(str::to_string).collect::<Vec<_>>()
    };
    let (short, long) = (scores(&short), scores(&long));
    assert!(short.len() > 5_000);
    assert!(short == long, "a score depends on what happened after it");
}
