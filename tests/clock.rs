//! The wall clock jumps (libfaketime, under the whole program): a run counts event time, and time that only runs
//! forward.

#[path = "support/python.rs"]
mod python;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PIPELINE: &str = r#"
[pipeline]
name = "clock"
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

[sink.dead_letters]
type = "file"
path = "dead.jsonl"
"#;

const PAYMENTS: u64 = 60_000;

fn payment(id: u64) -> String {
    let (ts, card) = (1_600_000_000_000 + id * 200, id * 7 % 400);
    format!(r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, id * 13 % 997)
}

fn over_file(folder: &Path) -> PathBuf {
    let mut lines = String::new();
    (0..PAYMENTS).for_each(|id| writeln!(lines, "{}", payment(id)).expect("a line"));
    fs::write(folder.join("payments.jsonl"), lines).expect("payments");
    let file = folder.join("clock.toml");
    fs::write(&file, PIPELINE).expect("a pipeline");
    file
}

fn run(file: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("run").arg(file).arg("--folder").arg(out);
    command.args(["--set", "checkpoint.interval=50ms"]).stdout(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A clock that can be set.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes right.
    fn new(folder: &Path) -> Clock {
        let mut python = python::command("clock", "libfaketime==3.0.1");
        python.args(["-c", "import libfaketime; print(libfaketime.__path__[0])"]);
        let place = String::from_utf8(python.output().expect("python").stdout).expect("a path");
        let library = "vendor/libfaketime/src/libfaketime.so.1";
        let clock =
            Clock { library: Path::new(place.trim()).join(library), file: folder.join("clock") };
        assert!(clock.library.exists(), "{}", clock.library.display());
        clock.set("+0");
        clock
    }

    /// Moves it by so much, `-400d` for example, from the right time.
    fn set(&self, by: &str) {
        let new = self.file.with_extension("new");
        fs::write(&new, by).expect("written");
        fs::rename(new, &self.file).expect("set");
    }

    /// Has a program live by it. What runs forward only, does.
    fn rules(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Runs a program to its end, the clock jumping to each of these in turn, again and again.
    fn run(&self, mut command: Command, jumps: &[&str]) -> Output {
        self.rules(&mut command);
        let child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let going = |_: &&&str| !over.load(Ordering::SeqCst);
                for by in jumps.iter().cycle().take_while(going) {
                    self.set(by);
                    std::thread::sleep(Duration::from_millis(30));
                }
            });
            let output = child.wait_with_output().expect("it ends");
            over.store(true, Ordering::SeqCst);
            output
        })
    }
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path());
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    assert!(run(&file, &whole).output().expect("it ends").status.success());
    let clock = Clock::new(folder.path());
    // Long enough for some jumps: 12,000 s of events, 8,000 to a second.
    for mode in ["final", "at_once"] {
        let mut jumping = run(&file, &out.join(mode));
        jumping.args(["--speed", "8000x", "--set", &format!("pipeline.mode={mode}")]);
        let ended = clock.run(jumping, &["+400d", "-400d", "+0", "-1h"]);
        assert!(ended.status.success(), "{}", said(&ended));
        assert_eq!(fs::read_to_string(out.join(mode).join("dead.jsonl")).expect("none"), "");
    }
    let features = |out: &Path| fs::read(out.join("features.csv")).expect("features");
    assert!(features(&out.join("final")) == features(&whole), "other features");
    let rows = String::from_utf8(features(&out.join("at_once"))).expect("a text");
    assert_eq!(rows.lines().count() as u64, PAYMENTS + 1, "all in order: none is corrected");
}

/// A clock that has fallen back takes events for ones of the future: they are refused, and none is lost.
#[test]
fn a_clock_that_falls_behind_the_events_refuses_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = over_file(folder.path());
    let clock = Clock::new(folder.path());
    let out = folder.path().join("out");
    let mut jumping = run(&file, &out);
    jumping.args(["--speed", "8000x"]);
    let ended = clock.run(jumping, &["+0", "-9000d"]);
    assert!(ended.status.success(), "{}", said(&ended));
    let text = fs::read_to_string(out.join("dead.jsonl")).expect("dead letters");
    let refused = text.lines().filter(|line| line.contains("\"reason\":\"future\"")).count();
    let scored = fs::read_to_string(out.join("features.csv")).expect("features").lines().count();
    assert!(refused > 0 && scored > 1, "{refused} refused, {scored} scored");
    assert_eq!((refused + scored - 1) as u64, PAYMENTS, "each event is one or the other");
}
