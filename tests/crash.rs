//! Killed at any moment, a run that is started again gives what it would have given: the crash kit, which
//! the product ships, over pipelines of both kinds.

#[path = "support/flights.rs"]
mod flights;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use flights::{Data, PIPELINE};
use serde_json::Value as Json;

/// Runs the kit; what it told.
fn crash_test(pipeline: &str, folder: &Path, more: &[&str], data: Option<&Data>) -> Json {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["crash-test", pipeline, "--output", "json", "--folder"]).arg(folder).args(more);
    if let Some(data) = data {
        data.with_data(&mut command);
    }
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn count(told: &Json, name: &str) -> u64 {
    told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"))
}

/// Models that learn, drift, are retrained and take over; every format of files.
#[test]
fn killed_runs_of_the_flights_give_the_same_bytes() {
    let data = Data::of_days(24);
    let folder = tempfile::tempdir().expect("a folder");
    let sinks = [
        ("packed", "scores", "scores.csv.zst"),
        ("zipped", "scores", "copy.jsonl.gz"),
        ("columns", "features", "features.parquet"),
        ("arrow", "features", "features.arrow"),
        ("daily", "features", "daily.parquet"),
        ("late", "late", "late.jsonl"),
    ];
    let mut more: Vec<String> = ["--kills", "36", "--seed", "5"].map(str::to_string).to_vec();
    let mut set = |key: String| more.extend(["--set".to_string(), key]);
    for (name, of, path) in sinks {
        set(format!("sink.{name}.of={of}"));
        set(format!("sink.{name}.type=file"));
        set(format!("sink.{name}.path={path}"));
    }
    set("sink.daily.roll=1d".to_string());
    set("sink.columns.compression=none".to_string());
    set("model.trees.trees=10".to_string());
    set("model.trees.training.min_rows=4000".to_string());
    set("model.trees.promote.min_rows=300".to_string());
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let told = crash_test(PIPELINE, folder.path(), &more, Some(&data));
    assert!(count(&told, "kills") >= 36, "{told}");
    assert!(count(&told, "went_on") > 0, "no restart went on from a checkpoint: {told}");
}

/// Payments that come late, twice, broken and out of order; windows of all kinds.
fn payments() -> String {
    let mut lines = String::new();
    let mut seed = 7u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for id in 0..50_000u64 {
        // One in four is up to 5 s late, one in a hundred more than that.
        let late = if below(4) == 0 { below(5_000) } else { 0 };
        let late = if below(100) == 0 { 60_000 } else { late };
        let ts = (1_600_000_000_000 + id * 200).saturating_sub(late);
        let (card, shop, amount) = (below(300), below(9), below(100_000));
        let written = match below(200) {
            0 => writeln!(lines, "{{\"id\": {id}, \"ts\": \"soon\"}}"),
            1 => writeln!(lines, "{{\"id\": {id}, \"ts\": null, \"card\": 1}}"),
            2 => writeln!(lines, "no JSON at all"),
            _ => writeln!(
                lines,
                "{{\"id\": {id}, \"ts\": {ts}, \"card\": {card}, \"shop\": \"s{shop}\", \"amount\": {amount}.25}}"
            ),
        };
        written.expect("a line");
    }
    lines
}

const WINDOWS: &str = r#"
[pipeline]
name = "windows"
spine = "payments"
bundle = 60

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", ts = "int64", card = "int64", shop = "string", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "5s"

[source.again]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", ts = "int64", card = "int64", shop = "string", amount = "float64" }
columns = { at = "to_timestamp_millis(ts) + minutes(3)" }
where = "amount > 500"
event_time = "at"
id = "id"
sort = "10m"

[windows]
last_10m = { by = "card", last = "10m" }
previous = { by = "card", rows = 3 }
ever = { by = "card", lifetime = true }
fading = { by = "shop", half_life = "1h" }
visit = { by = "card", session = "20m" }
hour = { by = "shop", tumbling = "1h" }
everyone = { by = [], last = "1m" }
other = { over = "again", by = "card", last = "30m" }
before = { over = "again", by = "shop", last = "10m", offset = "5m" }

[features]
n = "count(*) over last_10m"
mean = "avg(amount) over last_10m"
spread = "stddev_pop(amount) over last_10m"
shops = "count(distinct shop) over last_10m"
middle = "quantile(amount, 0.5) over last_10m"
last = "lag(amount) over previous"
three = "sum(amount) over previous"
total = "sum(amount) over ever"
largest = "max(amount) over ever"
known = "count(*) over ever"
faded = "sum(amount) over fading"
visits = "count(*) over visit"
hourly = "avg(amount) over hour"
all = "count(*) over everyone"
others = "sum(amount) over other"
earlier = "min(amount) over before"
names = "last_distinct(shop, 3) over other"

[sink.features]
type = "file"
path = "features.parquet"

[sink.lines]
of = "features"
type = "file"
path = "features.jsonl"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"

[sink.late]
type = "file"
path = "late.csv"
"#;

/// Kills runs over windows 24 times; the folder that has `whole`, the run that was never killed.
fn kill_windows(folder: &Path, more: &[&str]) -> std::path::PathBuf {
    fs::write(folder.join("payments.jsonl"), payments()).expect("payments");
    let file = folder.join("windows.toml");
    fs::write(&file, WINDOWS).expect("a pipeline");
    let runs = folder.join("runs");
    let more = [&["--kills", "24"], more].concat();
    let told = crash_test(file.to_str().expect("a path"), &runs, &more, None);
    assert!(count(&told, "kills") >= 24, "{told}");
    assert!(count(&told, "went_on") > 0, "no restart went on from a checkpoint: {told}");
    runs
}

#[test]
fn killed_runs_of_windows_give_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = kill_windows(folder.path(), &["--seed", "3"]);
    for name in ["features.jsonl", "dead.jsonl", "late.csv"] {
        let bytes = fs::read(runs.join("whole").join(name)).expect(name);
        assert!(bytes.len() > 1_000, "{name} has {} bytes", bytes.len());
    }
}

/// When events come differs from life to life in `at_once`, and with it what a row is answered at first. What a life
/// had sent before a kill it sends again, byte for byte; and after all corrections lives are equal.
#[test]
fn killed_runs_in_at_once_make_again_what_they_had_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = kill_windows(folder.path(), &["--seed", "8", "--set", "pipeline.mode=at_once"]);
    let text = fs::read_to_string(runs.join("whole/features.jsonl")).expect("features");
    assert!(text.contains("\"diff\":-1"), "nothing was corrected");
}

/// The same with models that learn, are retrained and take over at epochs which the journal names.
#[test]
fn killed_runs_of_the_flights_in_at_once_take_their_decisions_again() {
    let data = Data::of_days(20);
    let folder = tempfile::tempdir().expect("a folder");
    let set = [
        "pipeline.mode=at_once",
        "sink.features.type=file",
        "sink.features.path=features.jsonl",
        "model.trees.trees=10",
        "model.trees.training.min_rows=4000",
        "model.trees.promote.min_rows=300",
        "source.arrivals.sort=",
        "source.arrivals.lateness=36h",
    ];
    let set = set.iter().flat_map(|key| ["--set", key]);
    let more: Vec<&str> = ["--kills", "16", "--seed", "2"].into_iter().chain(set).collect();
    let told = crash_test(PIPELINE, folder.path(), &more, Some(&data));
    assert!(count(&told, "kills") >= 16, "{told}");
    assert!(count(&told, "went_on") > 0, "no restart went on from a checkpoint: {told}");
    let journal = fs::read_dir(folder.path().join("killed/journal")).expect("a journal");
    let journal: String = journal
        .map(|entry| fs::read_to_string(entry.expect("a file").path()).unwrap_or_default())
        .collect();
    assert!(journal.contains("\"promoted\""), "no version took over");
}

/// A run that dies behind its second checkpoint; what follows goes on, or says why it does not.
fn died(folder: &Path, file: &str, out: &str) -> std::path::PathBuf {
    let out = folder.join(out);
    let die = || {
        let _ = fs::remove_dir_all(&out);
        run(file, &out).env("TIDEMILL_FAIL_AT", "line.committed:2").output().expect("it ends")
    };
    // On a busy disk a run may be over before its second line is.
    let under_way = || out.join(".features.jsonl.partial").exists();
    let ended = (0..20).map(|_| die()).find(|ended| !ended.status.success() && under_way());
    let ended = ended.expect("no run made two lines");
    assert_eq!(ended.status.code(), None, "it was killed: {}", text(&ended.stderr));
    assert_eq!(lines(&out).len(), 2, "the second line stands, nothing was cleared away");
    out
}

fn run(file: &str, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", file, "--folder"]).arg(out);
    command.args(["--set", "checkpoint.interval=10ms", "--set", "pipeline.ahead=1000"]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The manifests, the newest last.
fn lines(out: &Path) -> Vec<std::path::PathBuf> {
    let found = fs::read_dir(out.join("checkpoints/lines")).expect("lines");
    let mut found: Vec<_> = found.map(|entry| entry.expect("a file").path()).collect();
    found.sort();
    found
}

#[test]
fn damage_is_named_and_the_line_before_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("payments.jsonl"), payments()).expect("payments");
    let file = folder.path().join("windows.toml");
    fs::write(&file, WINDOWS).expect("a pipeline");
    let file = file.to_str().expect("a path");
    let whole = folder.path().join("whole");
    assert!(run(file, &whole).output().expect("it ends").status.success());
    assert!(lines(&whole).is_empty(), "a run that came to its end leaves no line");
    let same = |out: &Path| {
        let read = |folder: &Path| fs::read(folder.join("features.parquet")).expect("features");
        assert!(read(out) == read(&whole), "{} has other bytes", out.display());
    };

    let out = died(folder.path(), file, "half");
    let newest = lines(&out).pop().expect("a line");
    let manifest = fs::read(&newest).expect("a manifest");
    fs::write(&newest, &manifest[..manifest.len() / 2]).expect("written");
    let again = run(file, &out).output().expect("it ends");
    let said = text(&again.stderr);
    assert!(again.status.success(), "{said}");
    let name = newest.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(said.contains(&name) && said.contains("line=1"), "{said}");
    same(&out);

    let out = died(folder.path(), file, "changed");
    let newest: Json =
        serde_json::from_slice(&fs::read(lines(&out).pop().expect("a line")).unwrap())
            .expect("a manifest");
    let hash = newest["line"]["parts"][0]["hash"].as_str().expect("a hash").to_string();
    let part = out.join("checkpoints/parts").join(hash);
    let mut bytes = fs::read(&part).expect("a part");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&part, bytes).expect("written");
    let again = run(file, &out).output().expect("it ends");
    let said = text(&again.stderr);
    assert!(again.status.success() && said.contains("is damaged"), "{said}");
    same(&out);

    // Without any line it begins again; nothing of the former run shows.
    let out = died(folder.path(), file, "lost");
    fs::remove_dir_all(out.join("checkpoints")).expect("removed");
    assert!(run(file, &out).output().expect("it ends").status.success());
    same(&out);

    // A file that somebody else changed is not gone on with.
    let out = died(folder.path(), file, "touched");
    let partial = out.join(".features.jsonl.partial");
    let mut bytes = fs::read(&partial).expect("a file under way");
    bytes[0] ^= 1;
    fs::write(&partial, bytes).expect("written");
    let again = run(file, &out).output().expect("it ends");
    assert_eq!(again.status.code(), Some(69), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("cannot go on with"), "{}", text(&again.stderr));

    // Another place of a sink: the line is not used.
    let out = died(folder.path(), file, "moved");
    let moved =
        run(file, &out).args(["--set", "sink.lines.path=other.jsonl"]).output().expect("it ends");
    assert!(moved.status.success() && text(&moved.stderr).contains("it is not used"));
    same(&out);
    let lines = fs::read(out.join("other.jsonl")).expect("lines");
    assert!(lines == fs::read(whole.join("features.jsonl")).expect("lines"));
}
