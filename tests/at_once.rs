//! `mode = "at_once"`: rows are scored as they come, and features corrected once.

#[path = "support/corrections.rs"]
mod corrections;
#[path = "support/flights.rs"]
mod flights;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

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

/// Without labels nobody knows ids: a row of an id that came before is another row, in both modes, and what was
/// said of it is corrected as that of any other.
#[test]
fn ids_that_come_again_are_rows_of_their_own_where_nothing_is_labelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows: Vec<(u64, u64)> = (0..15_000).map(|id| (id, id * 1_000)).collect();
    rows.extend((0..15_000).step_by(7).map(|id| (id, id * 1_000)));
    rows.extend((0..15_000).step_by(11).map(|id| (id, id * 1_000 + 1_500)));
    // Up to half a minute out of order, over several chunks.
    rows.sort_by_key(|(id, at)| (at + id * 7_919 % 30_000, *at));
    let text = rows.iter().map(|(id, at)| {
        format!("{{\"id\":{id},\"ms\":{},\"card\":{}}}\n", 1_600_000_000_000 + at, id % 3)
    });
    fs::write(folder.path().join("rows.jsonl"), text.collect::<String>()).expect("rows");
    let file = folder.path().join("ids.toml");
    let pipeline = r#"
        [pipeline]
        name = "ids"
        spine = "rows"
        bundle = 60

        [source.rows]
        type = "file"
        path = "rows.jsonl"
        schema = { id = "int64", ms = "int64", card = "int64" }
        columns = { at = "to_timestamp_millis(ms)" }
        event_time = "at"
        id = "id"
        lateness = "40s"

        [windows]
        minute = { by = "card", last = "1m" }

        [features]
        n = "count(*) over minute"

        [sink.features]
        type = "file"
        path = "features.jsonl"
    "#;
    fs::write(&file, pipeline).expect("a pipeline");
    let net = |mode: &str| {
        let out = folder.path().join(mode);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("--output").arg("json").arg("run").arg(&file).arg("--folder").arg(&out);
        command.args(["--set", &format!("pipeline.mode={mode}")]);
        let told = summary(&command.output().expect("it ends"));
        assert_eq!(told["dead_letters"], serde_json::json!([]), "{mode}");
        let (mut net, mut taken_back) = (BTreeMap::<String, i64>::new(), 0);
        for mut row in lines(&out.join("features.jsonl")) {
            let diff = row.as_object_mut().and_then(|row| row.remove("diff"));
            let diff = diff.and_then(|diff| diff.as_i64()).expect("a diff");
            taken_back += usize::from(diff < 0);
            *net.entry(row.to_string()).or_default() += diff;
        }
        net.retain(|_, n| *n != 0);
        (net, taken_back)
    };
    let (wanted, _) = net("final");
    assert_eq!(wanted.values().sum::<i64>(), rows.len() as i64);
    let (found, taken_back) = net("at_once");
    assert!(taken_back > 0, "nothing was corrected");
    assert!(found == wanted, "other rows than those of `final`");
}
