//! A stream whose truth turns: what means yes on some hours means no on others, so that a version
//! trained on them is much better or much worse than the one before, as a test wants it.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One row each half minute.
const EVERY: i64 = 30;

/// A row of the data.
pub struct Event {
    /// Its number.
    pub id: i64,
    /// One of 97.
    pub user: i64,
    /// From 0 to 1; nothing is NULL.
    pub x: Option<f64>,
    /// The label: likely where x is above a half.
    pub yes: bool,
    /// From 0 to 1: what made the label what it is.
    pub luck: f64,
}

/// A pipeline with its data.
pub struct Turncoat {
    folder: tempfile::TempDir,
}

impl Turncoat {
    /// So many hours; in those of `turned` (from, to) the truth is the opposite.
    pub fn new(hours: i64, turned: &[(i64, i64)], more: &str) -> Turncoat {
        Turncoat::with(hours, more, |at, row| {
            let opposite = turned.iter().any(|(from, to)| (from * 3600..to * 3600).contains(&at));
            row.yes = row.yes != opposite;
            true
        })
    }

    /// So many hours; `change` changes a row of this second, or leaves it out.
    pub fn with(
        hours: i64,
        more: &str,
        mut change: impl FnMut(i64, &mut Event) -> bool,
    ) -> Turncoat {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = "id,at,user,x,yes,known\n".to_string();
        let mut state = 1u64;
        for id in 0..hours * 3600 / EVERY {
            let mut chance = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as f64 / (1u64 << 31) as f64
            };
            let (x, luck, wait) = (chance(), chance(), chance());
            let at = id * EVERY;
            let known = at + 60 + (wait * 1_200.0) as i64;
            let time = |t: i64| tidemill_types::time::to_rfc3339(t * 1_000_000);
            let yes = luck < if x > 0.5 { 0.9 } else { 0.1 };
            let mut row = Event { id, user: id * 7_919 % 97, x: Some(x), yes, luck };
            if !change(at, &mut row) {
                continue;
            }
            let Event { user, x, yes, .. } = row;
            let x = x.map_or(String::new(), |x| x.to_string());
            writeln!(rows, "{id},{},{user},{x},{},{}", time(at), u8::from(yes), time(known))
                .expect("a text");
        }
        std::fs::write(folder.path().join("rows.csv"), rows).expect("written");
        let file = format!("{PIPELINE}{more}\n{SINKS}");
        std::fs::write(folder.path().join("turncoat.toml"), file).expect("written");
        Turncoat { folder }
    }

    /// A file or folder beside the data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, to be started with these words.
    pub fn tidemill(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(words).current_dir(self.folder.path()).env_remove("TIDEMILL_TOKEN");
        command
    }

    /// A run into a folder, to be started.
    pub fn command(&self, folder: &str, more: &[&str]) -> Command {
        let mut command = self.tidemill(&["run", "turncoat.toml", "--output", "json", "--folder"]);
        command.arg(folder).args(more);
        command
    }

    /// Runs into a folder; the JSON object that it ends with.
    pub fn run(&self, folder: &str, more: &[&str]) -> serde_json::Value {
        json(&self.command(folder, more).arg("--quiet").output().expect("the program starts"))
    }

    /// `tidemill models ... --output json`: the object.
    pub fn models(&self, words: &[&str]) -> serde_json::Value {
        let words = [&["--output", "json", "models"], words].concat();
        json(&self.tidemill(&words).output().expect("the program starts"))
    }

    /// The records of a run's journal, of one kind.
    pub fn journal(&self, folder: &str, kind: &str) -> Vec<serde_json::Value> {
        let journal = format!("{folder}/journal");
        let words = ["--output", "json", "journal", "show", &journal];
        let shown = json(&self.tidemill(&words).output().expect("the program starts"));
        let all = shown["records"].as_array().expect("records").clone();
        let records = all.into_iter().map(|entry| entry["record"].clone());
        records.filter(|record| record["kind"] == kind).collect()
    }

    /// The scores of a run, in order.
    pub fn scores(&self, folder: &str) -> Vec<serde_json::Value> {
        lines(&self.path(folder).join("scores.jsonl"))
    }
}

/// The JSON lines of a file.
pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The JSON object that a command said; one that failed fails the test.
pub fn json(output: &Output) -> serde_json::Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

const PIPELINE: &str = r#"
[pipeline]
name = "turncoat"
spine = "events"
tick = "1m"

[source.events]
type = "file"
path = "rows.csv"
schema = { id = "int64", at = "timestamp", user = "int64", x = "float64", yes = "int64", known = "timestamp" }
event_time = "at"
id = "id"

[source.truth]
type = "file"
path = "rows.csv"
schema = { id = "int64", at = "timestamp", user = "int64", x = "float64", yes = "int64", known = "timestamp" }
event_time = "known"
id = "id"
sort = "1h"

[features]
x = "x"
user = "user"

[label.yes]
over = "truth"
value = "yes = 1"
wait = "1h"

[model.trees]
type = "gradient_boosting"
label = "yes"
inputs = ["x"]
trees = 20
min_rows_per_leaf = 50
retrain = { on = ["every 1d"], takes = "1m" }
training = { last = "1d", min_rows = 500 }
"#;

const SINKS: &str = r#"
[score]
champion = "trees"
fallback = [0.5]

[sink.scores]
type = "file"
path = "scores.jsonl"

[sink.models]
type = "file"
path = "models.jsonl"

[sink.alerts]
type = "file"
path = "alerts.jsonl"
"#;
