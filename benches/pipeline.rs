//! The main job end to end: `cargo bench --bench pipeline`.
//!
//! The first run trains and keeps its models in the journal; five more take them from there, so that
//! they show the dataflow with everything on and nothing waiting for a training.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn run(folder: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "config/pipelines/flight_delays.toml", "--quiet", "--output", "json"])
        .arg("--folder")
        .arg(folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let number = |told: &Value, name: &str| told[name].as_f64().expect("a number");
    let say = |what: &str, told: &Value| {
        let working = number(told, "seconds") - number(told, "seconds_waiting_for_training");
        let scores = number(told, "scores");
        println!(
            "{what:<14}{:>8.1} s in all{working:>8.1} s without waiting{:>10.0} scores/s{:>8.0} MiB",
            number(told, "seconds"),
            scores / working,
            number(told, "peak_memory_bytes") / (1 << 20) as f64,
        );
        scores / working
    };
    say("with training", &run(folder.path()));
    let mut rates: Vec<f64> =
        (1..=5).map(|n| say(&format!("replayed {n}"), &run(folder.path()))).collect();
    rates.sort_by(f64::total_cmp);
    println!("median of the replays: {:.0} scores/s", rates[2]);
}
