//! A stretch of a run is computed once more, and is what the run wrote; another version of a model scores it.

#[path = "support/flights.rs"]
mod flights;

use std::path::Path;
use std::process::{Command, Output};

use flights::{Data, PIPELINE, summary};
use serde_json::Value as Json;

const FROM: &str = "2013-01-17T06:00:00Z";
const TO: &str = "2013-01-18T03:00:00Z";

/// Trees that are trained early and often, and serve by themselves.
const TREES: [&str; 8] = [
    "--set",
    "score.champion=trees",
    "--set",
    "score.challengers=",
    "--set",
    "score.fallback=[0.2]",
    "--set",
    "model.trees.retrain.on=[\"every 3d\"]",
];

fn replay(data: &Data, folder: &str, out: &str, more: &[&str]) -> Output {
    replay_of(data, folder, out, (FROM, TO), more)
}

fn replay_of(
    data: &Data,
    folder: &str,
    out: &str,
    (from, to): (&str, &str),
    more: &[&str],
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["replay", PIPELINE, "--output", "json", "--quiet", "--from", from, "--to", to]);
    command.arg("--folder").arg(data.path(folder)).arg("--out").arg(data.path(out));
    data.with_data(&mut command);
    for key in [
        "model.trees.trees=20",
        "model.trees.training.min_rows=5000",
        "model.trees.promote.min_rows=500",
    ] {
        command.args(["--set", key]);
    }
    command.args(more).output().expect("the program starts")
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_string).collect()
}

fn of_stretch(lines: Vec<String>) -> Vec<String> {
    let time = |line: &String| {
        let row: Json = serde_json::from_str(line).expect("JSON");
        row["event_time"].as_str().expect("a time").to_string()
    };
    // RFC 3339 of one form orders as times do.
    let within = |time: String| time[..19] >= FROM[..19] && time[..19] < TO[..19];
    lines.into_iter().filter(|line| within(time(line))).collect()
}

#[test]
fn a_stretch_of_the_flights_is_repeated_bit_for_bit() {
    let data = Data::of_days(24);
    summary(&data.run("run", &[]));
    let before = lines(&data.path("run").join("scores.jsonl"));
    let files = || -> Vec<Vec<u8>> {
        let all = std::fs::read_dir(data.path("run/journal")).expect("a journal");
        all.map(|entry| std::fs::read(entry.expect("a file").path()).expect("read")).collect()
    };
    let journal = files();
    assert!(journal.iter().any(|file| file.len() > 1_000));
    let wanted = of_stretch(before.clone());
    assert!(wanted.len() > 500, "{} rows", wanted.len());
    for workers in ["1", "2"] {
        let told = summary(&replay(&data, "run", "again", &["--workers", workers]));
        assert_eq!(lines(&data.path("again").join("scores.jsonl")), wanted);
        let file = told["files"].as_array().expect("files").iter().find(|f| f["compared"] == true);
        assert_eq!(file.expect("a comparison")["rows"], wanted.len());
    }
    // Nothing of the run was touched, and nothing is left beside the rows.
    assert_eq!(lines(&data.path("run").join("scores.jsonl")), before);
    assert!(journal == files(), "the run's journal was written to");
    assert!(!data.path("again").join(".work").exists());

    // A run whose output was changed since is told so, by the row.
    let changed: Vec<String> = before
        .iter()
        .map(|line| {
            if *line == wanted[100] {
                line.replace("\"score\":0.", "\"score\":0.9")
            } else {
                line.clone()
            }
        })
        .collect();
    std::fs::write(data.path("run").join("scores.jsonl"), changed.join("\n") + "\n")
        .expect("written");
    let refused = replay(&data, "run", "changed", &[]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(70), "{said}");
    assert!(said.contains("row 101 is"), "{said}");

    // One that has a row less, or more, at an end of the stretch too.
    let refused = |kept: &[String], out: &str| {
        std::fs::write(data.path("run").join("scores.jsonl"), kept.join("\n") + "\n")
            .expect("written");
        let refused = replay(&data, "run", out, &[]);
        assert_eq!(refused.status.code(), Some(70), "{out}");
        String::from_utf8_lossy(&refused.stdout).into_owned()
    };
    let but = |gone: &String| -> Vec<String> {
        before.iter().filter(|line| *line != gone).cloned().collect()
    };
    let said = refused(&but(wanted.last().expect("rows")), "less");
    assert!(said.contains(&format!("there were {}", wanted.len() - 1)), "{said}");
    let mut more = before.clone();
    let last = before.iter().position(|line| Some(line) == wanted.last()).expect("it is there");
    more.insert(last, before[last].clone());
    let said = refused(&more, "more");
    assert!(said.contains(&format!("there were {}", wanted.len() + 1)), "{said}");

    // What the run wrote is not replaced, and nothing at all is no success.
    std::fs::write(data.path("run").join("scores.jsonl"), before.join("\n") + "\n")
        .expect("written");
    let same = replay(&data, "run", "run", &[]);
    assert!(!same.status.success() && String::from_utf8_lossy(&same.stdout).contains("--out"));
    assert_eq!(lines(&data.path("run").join("scores.jsonl")), before);
    let none = replay_of(&data, "run", "none", ("2031-01-01", "2031-01-02"), &[]);
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stdout).contains("wrote no row"), "{none:?}");
}

#[test]
fn another_version_scores_the_stretch_as_it_did_in_charge() {
    let data = Data::of_days(24);
    summary(&data.run("run", &TREES));
    let scores = of_stretch(lines(&data.path("run").join("scores.jsonl")));
    let version_of = |line: &String| {
        let row: Json = serde_json::from_str(line).expect("JSON");
        assert_eq!(row["model"], "trees", "{line}");
        row["version"].as_u64().expect("a version")
    };
    let charge = version_of(&scores[0]);
    assert!(charge >= 2, "version {charge}: an earlier one is wanted too");
    for version in [charge, charge - 1] {
        let asked = format!("trees@{version}");
        let more = [&TREES[..], &["--with-model", &asked]].concat();
        let out = format!("with-{version}");
        summary(&replay(&data, "run", &out, &more));
        let found = lines(&data.path(&out).join(format!("with-trees-{version}.jsonl")));
        assert_eq!(found.len(), scores.len());
        let mut same = 0;
        for (found, line) in found.iter().zip(&scores) {
            assert_eq!(version_of(found), version);
            if version_of(line) == version {
                assert_eq!(found, line, "version {version} was in charge");
                same += 1;
            }
        }
        assert_eq!(same > 0, version == charge);
        let differ = found.iter().zip(&scores).any(|(a, b)| {
            let score =
                |line: &str| serde_json::from_str::<Json>(line).expect("JSON")["score"].clone();
            score(a) != score(b)
        });
        assert_eq!(differ, version != charge, "two versions give the same scores");
    }
    let unknown =
        replay(&data, "run", "none", &[&TREES[..], &["--with-model", "trees@99"]].concat());
    assert!(!unknown.status.success());
    let learner =
        replay(&data, "run", "none", &[&TREES[..], &["--with-model", "online@1"]].concat());
    let said = String::from_utf8_lossy(&learner.stdout).into_owned();
    assert_eq!(learner.status.code(), Some(78), "{said}");
    assert!(said.contains("reads the margin of `trees`"), "{said}");
}

/// What `explain` tells of an event is what the run wrote, and its windows hold what their counts say.
#[test]
fn an_event_is_explained() {
    let data = Data::of_days(24);
    let folder = data.path("run");
    let more = [
        &TREES[..],
        &["--set", "sink.features.type=file", "--set", "sink.features.path=features.jsonl"],
    ]
    .concat();
    summary(&data.run("run", &more));
    let scores = of_stretch(lines(&folder.join("scores.jsonl")));
    let score: Json = serde_json::from_str(&scores[77]).expect("JSON");
    let id = score["id"].to_string();
    let features = lines(&folder.join("features.jsonl"));
    let features = features.iter().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
    let features = features.into_iter().find(|row| row["id"] == score["id"]).expect("its features");
    let explain = |id: &str, output: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args([
            "explain", PIPELINE, id, "--output", output, "--quiet", "--events", "3", "--folder",
        ]);
        data.with_data(command.arg(&folder));
        for key in [
            "model.trees.trees=20",
            "model.trees.training.min_rows=5000",
            "model.trees.promote.min_rows=500",
        ] {
            command.args(["--set", key]);
        }
        command.args(TREES).output().expect("the program starts")
    };
    let told = summary(&explain(&id, "json"));
    assert_eq!(told["score"], score);
    assert_eq!(told["event"]["event_time"], score["event_time"]);
    let switch = &told["because"]["promotion"];
    assert_eq!(switch["to"], score["version"]);
    assert!(!switch["why"].as_str().expect("why").is_empty());
    assert_eq!(told["because"]["version"]["version"]["version"], score["version"]);
    let explained = told["features"].as_array().expect("features");
    let mut counts = 0;
    for feature in explained {
        let name = feature["name"].as_str().expect("a name");
        assert_eq!(feature["value"], features[name], "{name}");
        let windows = feature["windows"].as_array().expect("windows");
        let text = std::fs::read_to_string(PIPELINE).expect("the pipeline");
        let call = format!("{name} = \"count(*) over ");
        // The count of one window and nothing else.
        let plain = |line: &str| line.strip_prefix(&call).is_some_and(|rest| !rest.contains(' '));
        if text.lines().any(plain) {
            assert_eq!(windows[0]["events"], feature["value"], "{name}");
            counts += 1;
        }
        for window in windows {
            assert!(window["newest"].as_array().expect("events").len() <= 3);
            assert!(!window["window"].as_str().expect("a name").is_empty(), "{name}");
        }
    }
    assert!(counts > 0, "no count was compared");
    let said = String::from_utf8(explain(&id, "text").stdout).expect("text");
    for part in
        [&format!("event {id} of source"), "by `trees` version", "in charge since", "it has learnt"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let unknown = explain("no-such-id", "text");
    assert_eq!(unknown.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("has no event with the id"));
}
