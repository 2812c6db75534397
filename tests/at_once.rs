//! `mode = "at_once"`: rows are scored as they come, and features corrected once.

#[path = "support/corrections.rs"]
mod corrections;
#[path = "support/flights.rs"]
mod flights;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use corrections::net;
use flights::{Data, summary};
use serde_json::Value;

const FEATURES: [&str; 4] =
    ["--set", "sink.features.type=file", "--set", "sink.features.path=features.jsonl"];

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// After all corrections the features are those of `final`, though rows came in any order; every
/// row was scored once, and every label found its row.
#[test]
fn corrected_features_are_the_final_ones() {
    let data = Data::of_days(24);
    let wanted = summary(&data.run("final", &FEATURES));
    // Without the reorder buffer arrivals come as the file has them: up to a day out of order.
    let unsorted: &[&str] = &[
        "--set",
        "source.arrivals.sort=",
        "--set",
        "source.arrivals.lateness=36h",
        "--set",
        "source.takeoffs.sort=",
        "--set",
        "source.takeoffs.lateness=36h",
    ];
    for (folder, more) in [("sorted", &[][..]), ("unsorted", unsorted)] {
        for workers in ["1", "2"] {
            let folder = format!("{folder}-{workers}");
            let mut all = vec!["--set", "pipeline.mode=at_once", "--workers", workers];
            all.extend(FEATURES.iter().chain(more).copied());
            let told = summary(&data.run(&folder, &all));
            for count in ["scores", "labelled", "timed_out", "late"] {
                assert_eq!(told[count], wanted[count], "{folder}: {count} of {told}");
            }
            let features = |folder: &str| net(&data.path(folder).join("features.jsonl")).0;
            assert!(features(&folder) == features("final"), "{folder}: other features");
            let scores = lines(&data.path(&folder).join("scores.jsonl"));
            let ids: BTreeMap<i64, ()> =
                scores.iter().map(|s| (s["id"].as_i64().expect("id"), ())).collect();
            assert_eq!(ids.len(), scores.len(), "{folder}: a row was scored twice");
        }
    }
}

/// A run that came to its end keeps its epochs: started again it is the same, byte for byte, with any number of
/// workers. Over an input of which something is gone it is refused.
#[test]
fn a_run_repeats_itself_unless_its_input_has_changed() {
    let data = Data::of_days(12);
    let more = ["--set", "pipeline.mode=at_once", "--workers"];
    let run = |workers: &str| {
        let more: Vec<&str> = more.into_iter().chain([workers]).chain(FEATURES).collect();
        data.run("again", &more)
    };
    let read = || {
        let of = |name: &str| fs::read(data.path("again").join(name)).expect(name);
        (of("features.jsonl"), of("scores.jsonl"))
    };
    summary(&run("1"));
    let first = read();
    for workers in ["3", "2"] {
        summary(&run(workers));
        assert!(read() == first, "{workers} workers: other rows");
    }
    let weather = data.path("weather.csv");
    let text = fs::read_to_string(&weather).expect("weather");
    let less = text.lines().count() - 40;
    let kept: Vec<&str> = text.lines().take(less).collect();
    fs::write(&weather, kept.join("\n") + "\n").expect("written");
    let refused = run("1");
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("is not what it was when rows of it were scored"), "{said}");
    assert!(said.contains("weather"), "{said}");
}

/// What is later than the lateness allows goes to the late stream, whole, and nothing else does.
#[test]
fn late_rows_are_kept_apart() {
    let data = Data::of_days(10);
    let late = [
        "--set",
        "source.arrivals.sort=",
        "--set",
        "source.arrivals.lateness=2h",
        "--set",
        "sink.late.type=file",
        "--set",
        "sink.late.path=late.jsonl",
    ];
    for mode in ["final", "at_once"] {
        let mode_is = format!("pipeline.mode={mode}");
        let mut all = vec!["--set", mode_is.as_str()];
        all.extend(late);
        let told = summary(&data.run(mode, &all));
        let rows = lines(&data.path(mode).join("late.jsonl"));
        assert!(rows.len() > 100, "{mode}: {} late rows", rows.len());
        assert_eq!(told["late"], rows.len(), "{mode}");
        for row in rows {
            assert_eq!(row["source"], "arrivals");
            let whole: Value =
                serde_json::from_str(row["row"].as_str().expect("text")).expect("JSON");
            assert_eq!(whole["seq"].to_string(), row["id"].as_str().expect("an id"));
        }
    }
}
