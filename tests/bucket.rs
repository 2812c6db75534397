//! Checkpoints in a bucket: a server of S3's interface keeps what a folder would.

#[path = "support/bucket.rs"]
mod bucket;
#[path = "support/python.rs"]
mod python;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bucket::{Bucket, SECRET};
use serde_json::{Value as Json, json};

const PIPELINE: &str = r#"
[pipeline]
name = "bucket"
spine = "payments"
bundle = 60

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", ts = "int64", card = "int64", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "5s"

[windows]
last_10m = { by = "card", last = "10m" }

[features]
card = "card"
n = "count(*) over last_10m"
total = "sum(amount) over last_10m"

[sink.features]
type = "file"
path = "features.csv"
"#;

/// A pipeline over a file of payments.
fn pipeline(folder: &Path, payments: u64) -> PathBuf {
    let mut lines = String::new();
    for id in 0..payments {
        let (ts, card) = (1_600_000_000_000 + id * 200, id * 7 % 400);
        writeln!(lines, r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, id * 13 % 997)
            .expect("a line");
    }
    fs::write(folder.join("payments.jsonl"), lines).expect("payments");
    let file = folder.join("bucket.toml");
    fs::write(&file, PIPELINE).expect("a pipeline");
    file
}

/// A run with a checkpoint every ten milliseconds.
fn run(file: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("run").arg(file).arg("--folder").arg(out);
    command.args(["--set", "checkpoint.interval=10ms", "--set", "pipeline.ahead=1000"]);
    command.stdout(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn features(out: &Path) -> Vec<u8> {
    fs::read(out.join("features.csv")).expect("features")
}

/// The crash kit, each life below a prefix of its own; a life that came to its end leaves nothing.
#[test]
fn killed_runs_go_on_from_a_bucket() {
    let mut bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = pipeline(folder.path(), 150_000);
    for (mode, kills, seed) in [("final", "8", "4"), ("at_once", "6", "5")] {
        let mut kit = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        kit.arg("crash-test").arg(&file).args(["--kills", kills, "--seed", seed]);
        kit.args(["--output", "json", "--set", &format!("pipeline.mode={mode}"), "--folder"]);
        kit.arg(folder.path().join(mode));
        bucket.keeps(&mut kit, "crash");
        let ended = kit.output().expect("it ends");
        assert!(ended.status.success(), "{}", said(&ended));
        let told: Json = serde_json::from_slice(&ended.stdout).expect("JSON");
        assert!(told["went_on"].as_u64() > Some(0), "no restart went on: {told}");
        assert!(!folder.path().join(mode).join("killed/checkpoints").exists());
    }
    assert_eq!(bucket.keys(""), Vec::<String>::new());
}

/// A run that is killed behind its second checkpoint.
fn died(bucket: &Bucket, file: &Path, out: &Path, prefix: &str) {
    let mut run = run(file, out);
    bucket.keeps(&mut run, prefix);
    let ended = run.env("TIDEMILL_FAIL_AT", "line.committed:2").output().expect("it ends");
    assert_eq!(ended.status.code(), None, "it was killed: {}", said(&ended));
}

#[test]
fn damage_in_a_bucket_is_named_and_the_line_before_is_taken() {
    let mut bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = pipeline(folder.path(), 150_000);
    let whole = folder.path().join("whole");
    let ended = run(&file, &whole).output().expect("it ends");
    assert!(ended.status.success(), "{}", said(&ended));

    let out = folder.path().join("out");
    died(&bucket, &file, &out, "damage");
    let newest = bucket.keys("damage/lines/").pop().expect("a manifest");
    let manifest = bucket.ask(json!(["read", newest]));
    let manifest: Json = serde_json::from_str(manifest.as_str().expect("a text")).expect("JSON");
    let parts = manifest["line"]["parts"].as_array().expect("parts");
    let windows = parts.iter().find(|part| part["name"].as_str().unwrap().starts_with("windows/"));
    let hash = windows.expect("windows")["hash"].as_str().expect("a hash");
    bucket.ask(json!(["bend", format!("damage/parts/{hash}")]));
    let mut again = run(&file, &out);
    bucket.keeps(&mut again, "damage");
    let ended = again.output().expect("it ends");
    let text = said(&ended);
    assert!(ended.status.success(), "{text}");
    assert!(text.contains("s3://tidemill/damage/parts/") && text.contains("is damaged"), "{text}");
    assert!(text.contains("going on from the checkpoint") && text.contains("line=1"), "{text}");
    assert!(features(&out) == features(&whole), "other features");
}

/// A bucket that is away for a while costs checkpoints and no rows; one that is not there is told with its cure.
#[test]
fn a_bucket_that_is_away_is_waited_for_and_one_that_is_missing_is_told() {
    let mut bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = pipeline(folder.path(), 150_000);
    let whole = folder.path().join("whole");
    assert!(run(&file, &whole).output().expect("it ends").status.success());

    // Slow enough that it is still under way when the bucket is back: 30,000 s of events at 5,000 to one.
    let out = folder.path().join("out");
    let mut slow = run(&file, &out);
    bucket.keeps(&mut slow, "away");
    slow.args(["--speed", "5000x"]).env("TIDEMILL_LOG", "tidemill=debug");
    let child = slow.stderr(Stdio::piped()).spawn().expect("it starts");
    wait("a first checkpoint", || !bucket.keys("away/lines/").is_empty());
    bucket.ask(json!(["away"]));
    std::thread::sleep(Duration::from_millis(300));
    bucket.ask(json!(["back"]));
    let ended = child.wait_with_output().expect("it ends");
    let text = said(&ended);
    assert!(ended.status.success(), "{text}");
    assert!(features(&out) == features(&whole), "other features");
    assert_eq!(bucket.keys("away/"), Vec::<String>::new(), "a run that ended leaves nothing");
    assert!(!text.contains(SECRET), "{text}");

    let mut nowhere = run(&file, &folder.path().join("nowhere"));
    bucket.keeps(&mut nowhere, "x");
    nowhere.args(["--set", "checkpoint.store=s3://nobodys/lines"]);
    let ended = nowhere.output().expect("it ends");
    let text = said(&ended);
    assert_eq!(ended.status.code(), Some(69), "{text}");
    assert!(text.contains("s3://nobodys/lines") && text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(20));
    }
}
