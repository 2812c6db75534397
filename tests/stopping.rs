//! A run that is asked to stop says what was done; one that was killed is run again from the start
//! and gives the same bytes.

#[path = "support/flights.rs"]
mod flights;
#[path = "support/turncoat.rs"]
mod turncoat;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flights::{Data, PIPELINE, summary};
use serde_json::Value;
use turncoat::Turncoat;

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// Waits until the run has written scores.
fn under_way(data: &Data, folder: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let files = fs::read_dir(data.path(folder)).into_iter().flatten().flatten();
        let mut sizes = files
            .filter(|f| f.file_name().to_string_lossy().contains("scores.jsonl"))
            .filter_map(|f| f.metadata().ok().map(|m| m.len()));
        if sizes.any(|size| size > 10_000) {
            return;
        }
        assert!(Instant::now() < deadline, "no scores after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stopped_run_says_what_was_done_and_a_killed_one_repeats() {
    let data = Data::of_days(30);
    let wanted = summary(&data.run("whole", &[]));
    let scores = fs::read(data.path("whole/scores.jsonl")).expect("scores");
    // A day of events in a tenth of a second, so that there is time to stop it.
    let slow = ["--speed", "864000x", "--quiet"];
    for how in ["INT", "TERM"] {
        let mut command = data.command(how, &slow);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        under_way(&data, how);
        signal(&child, how);
        let output = child.wait_with_output().expect("it ends");
        let told: Value = serde_json::from_slice(&output.stdout).expect("a summary");
        assert!(output.status.success(), "SIG{how}: {}", output.status);
        assert_eq!(told["stopped"], true);
        let count = |name: &str| told[name].as_u64().expect(name);
        assert!(
            count("scores") > 0 && count("scores") < wanted["scores"].as_u64().expect("scores")
        );
        assert_eq!(count("labelled") + count("timed_out") + count("pending"), count("scores"));
        let some = fs::read(data.path(how).join("scores.jsonl")).expect("scores");
        assert!(scores.starts_with(&some) && !some.is_empty(), "SIG{how}: other scores");
    }

    let mut command = data.command("killed", &slow);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    under_way(&data, "killed");
    signal(&child, "KILL");
    child.wait().expect("it ends");
    for folder in ["killed", "INT"] {
        let told = summary(&data.run(folder, &[]));
        assert_eq!(told["stopped"], false);
        let again = fs::read(data.path(folder).join("scores.jsonl")).expect("scores");
        assert!(again == scores, "{folder}: a run that was cut off gives other bytes again");
    }
}

/// Whoever stops a run is told where the next one begins: at a checkpoint only where there is one.
#[test]
fn a_stopped_run_says_whether_there_is_a_checkpoint() {
    let data = Data::of_days(30);
    for (name, set, wanted) in
        [("without", "checkpoint.enabled=false", false), ("with", "checkpoint.interval=10ms", true)]
    {
        let mut command = data.command(name, &["--speed", "864000x", "--quiet", "--set", set]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        under_way(&data, name);
        let lines = data.path(name).join("checkpoints/lines");
        let deadline = Instant::now() + Duration::from_secs(60);
        while wanted && fs::read_dir(&lines).map_or(0, Iterator::count) == 0 {
            assert!(Instant::now() < deadline, "no checkpoint after a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&child, "TERM");
        let output = child.wait_with_output().expect("it ends");
        let told: Value = serde_json::from_slice(&output.stdout).expect("a summary");
        assert_eq!(
            (&told["stopped"], &told["checkpoint"]),
            (&true.into(), &wanted.into()),
            "{name}"
        );
    }
}

/// A sink that cannot write any more ends the run with its error, and not at the end of the input.
#[test]
fn a_sink_that_fails_ends_the_run() {
    let data = Data::of_days(30);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", PIPELINE, "--quiet", "--speed", "864000x", "--folder"]);
    command.arg(data.path("full"));
    data.with_data(&mut command);
    command.args(["--set", "sink.copy.of=scores", "--set", "sink.copy.type=stdout"]);
    let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
    let output = command.stdout(full).output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("error: ") && said.contains("No space left"), "{said}");
    assert!(said.contains("cure: make room"), "{said}");
    let journal = fs::read_dir(data.path("full/journal")).expect("a journal").flatten();
    let text: String = journal.map(|f| fs::read_to_string(f.path()).unwrap_or_default()).collect();
    assert!(text.contains("header") && !text.contains("finished"), "it went on to the end");
}

/// All of the input is read, and decades without a row are walked, minute by minute: whoever stops the run
/// does not wait for their end.
#[test]
fn a_run_that_walks_ticks_can_be_stopped() {
    let drift = "[drift.x]\nof = [\"x\"]\ndetect = [\"psi\"]\nmodel = \"trees\"\nwindow = \"30000d\"\nevery = \"1m\"";
    let data = Turncoat::new(30, &[], drift);
    let late = "999999,2025-01-01T00:00:00Z,1,0.5,1,2025-01-01T00:10:00Z\n";
    let rows = fs::read_to_string(data.path("rows.csv")).expect("rows");
    fs::write(data.path("rows.csv"), rows + late).expect("written");
    let mut command = data.command("out", &["--quiet"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let began = Instant::now();
    while !data.path("out/models/trees/versions").is_dir() {
        assert!(began.elapsed() < Duration::from_secs(60), "version 1 never came");
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    signal(&child, "TERM");
    let asked = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        if asked.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            panic!("it walks on");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().expect("it ends");
    let told: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    assert!(output.status.success() && told["stopped"] == true, "{told}");
    assert!(data.journal("out", "finished").is_empty());
}

/// One round holds all rows, of one key that keeps every one of them: whoever stops the run does not wait for the
/// round's end.
#[test]
fn a_run_is_stopped_within_a_round() {
    for mode in ["final", "at_once"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rows = "id,at,s\n".to_string();
        for id in 0..300_000 {
            let time = tidemill_types::time::to_rfc3339(id * 1_000);
            rows.push_str(&format!("{id},{time},word {id}\n"));
        }
        fs::write(folder.path().join("rows.csv"), rows).expect("written");
        let pipeline = format!(
            r#"
[pipeline]
name = "words"
spine = "rows"
mode = "{mode}"
[source.rows]
type = "file"
path = "rows.csv"
schema = {{ id = "int64", at = "timestamp", s = "string" }}
event_time = "at"
id = "id"
[windows]
all = {{ by = [], lifetime = true }}
[features]
words = "histogram(s, 2) over all"
[sink.features]
type = "file"
path = "features.jsonl"
"#
        );
        fs::write(folder.path().join("words.toml"), pipeline).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(folder.path().join("words.toml")).arg("--folder");
        command.arg(folder.path().join("out")).args(["--quiet", "--output", "json"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let began = Instant::now();
        while !folder.path().join("out/journal").is_dir() {
            assert!(began.elapsed() < Duration::from_secs(60), "it never began");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(3));
        assert!(child.try_wait().expect("a state").is_none(), "the run is over too early");
        signal(&child, "TERM");
        let asked = Instant::now();
        while child.try_wait().expect("a state").is_none() {
            if asked.elapsed() > Duration::from_secs(60) {
                let _ = child.kill();
                panic!("{mode}: it goes on with the round");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        let told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        assert!(output.status.success() && told["stopped"] == true, "{told} {said}");
    }
}
