//! The main job in small: the first weeks of the year.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The pipeline of the main job.
pub const PIPELINE: &str = "config/pipelines/flight_delays.toml";

/// Flights and weather of the first days of the year, as files of their own.
pub struct Data {
    folder: tempfile::TempDir,
}

impl Data {
    /// The first `days` days.
    pub fn of_days(days: u32) -> Data {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, time) in [("flights", 17), ("weather", 14)] {
            let text = unpacked(name);
            let mut lines = text.lines();
            let mut out =
                std::fs::File::create(folder.path().join(format!("{name}.csv"))).expect("a file");
            writeln!(out, "{}", lines.next().expect("a header")).expect("written");
            for line in lines {
                let day = line.split(',').nth(time).map(day_of_year).expect("a time");
                if day < days {
                    writeln!(out, "{line}").expect("written");
                }
            }
        }
        Data { folder }
    }

    /// A file or folder beside the data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the pipeline over these days into `folder`, with small trees that are trained early.
    pub fn run(&self, folder: &str, more: &[&str]) -> Output {
        self.command(folder, more).arg("--quiet").output().expect("the program starts")
    }

    /// The same, to be started.
    pub fn command(&self, folder: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["run", PIPELINE, "--output", "json"]).arg("--folder").arg(self.path(folder));
        self.with_data(&mut command);
        for (key, value) in [
            ("model.trees.trees", "20"),
            ("model.trees.training.min_rows", "5000"),
            ("model.trees.promote.min_rows", "500"),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(more);
        command
    }
}

impl Data {
    /// Sets the paths of the sources.
    pub fn with_data<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        for source in ["departures", "takeoffs", "arrivals", "weather"] {
            let name = if source == "weather" { "weather.csv" } else { "flights.csv" };
            let path = self.path(name);
            command.arg("--set").arg(format!("source.{source}.path={}", path.display()));
        }
        command
    }
}

/// The JSON object that a run ends with; a failed run fails the test.
pub fn summary(output: &Output) -> serde_json::Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn unpacked(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("config/pipelines/data/{name}.csv.zst"));
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).expect("the data"))
        .and_then(|mut decoder| decoder.read_to_string(&mut text))
        .expect("text");
    text
}

/// Days since the first of January of `2013-..`; beyond the year for what is after it.
fn day_of_year(time: &str) -> u32 {
    let number =
        |range| -> u32 { time.get(range).and_then(|t: &str| t.parse().ok()).expect("a date") };
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    (number(0..4) - 2013) * 365 + before[number(5..7) as usize - 1] + number(8..10) - 1
}
