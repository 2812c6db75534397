//! Broken rows among good ones: each goes to the dead letters with its reason and its place; none
//! stops the run, none is lost, and the good ones are scored as if the others had not been there.
//! (What single formats refuse is in `connectors/tests/broken.rs`, some ninety kinds.)

#[path = "support/flights.rs"]
mod flights;

use std::fs;
use std::process::Command;

use flights::{Data, summary};
use serde_json::Value;

/// Good fields of a flight, in the order of the file's columns.
const GOOD: [&str; 18] = [
    "900001",
    "2013",
    "1",
    "3",
    "800",
    "800",
    "0",
    "1000",
    "1000",
    "0",
    "UA",
    "1",
    "N1",
    "EWR",
    "IAH",
    "200",
    "1400",
    "2013-01-03T13:00:00Z",
];

/// What is wrong, the field and what stands in it, and the reason of the dead letter.
const KINDS: [(&str, usize, &str, &str); 14] = [
    ("a text for an id", 0, "seven", "type"),
    ("a float for an id", 0, "7.5", "type"),
    ("an id beyond 64 bits", 0, "99999999999999999999", "type"),
    ("no id", 0, "", "no_id"),
    ("no time", 17, "NA", "no_time"),
    ("an empty time", 17, "", "no_time"),
    ("a time that is none", 17, "yesterday", "type"),
    ("a thirteenth month", 17, "2013-13-01T00:00:00Z", "type"),
    ("the year 9999", 17, "9999-01-01T00:00:00Z", "future"),
    ("a time beyond 64 bits", 17, "999999-01-01T00:00:00Z", "type"),
    ("a schedule that is no number", 4, "noon", "type"),
    ("an infinite schedule", 4, "inf", "type"),
    ("text behind a quote", 10, "\"U\"A", "parse"),
    // The last with a quote: another one further down would close it.
    ("a quote that never closes", 10, "\"UA", "parse"),
];

/// Whole lines.
const LINES: [(&str, &[u8], &str); 6] = [
    ("too few fields", b"1,2013,1", "parse"),
    ("too many fields", b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20", "type"),
    ("bytes that are no UTF-8", b"900002,2013,1,3,800,800,0,1000,1000,0,\xff\xfe,1,N1,EWR,IAH,200,1400,2013-01-03T13:00:00Z", "encoding"),
    ("zeros", b"\0\0\0\0", "type"),
    ("JSON", b"{\"seq\":1}", "type"),
    ("another file's line", b"EWR,2013,1,1,1,39.02,26.06,59.37,270.0", "type"),
];

#[test]
fn broken_rows_become_dead_letters_and_change_nothing_else() {
    let data = Data::of_days(6);
    let wanted = summary(&data.run("good", &[]));
    let text = fs::read(data.path("flights.csv")).expect("flights");
    let mut lines: Vec<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let mut reasons = Vec::new();
    let fields = KINDS.iter().map(|(_, field, value, reason)| {
        let mut fields = GOOD;
        fields[*field] = value;
        (fields.join(",").into_bytes(), *reason)
    });
    let whole = LINES.iter().map(|(_, line, reason)| (line.to_vec(), *reason));
    for (n, (line, reason)) in whole.chain(fields).enumerate() {
        let at = 10 + n * 37;
        lines.insert(at, line);
        reasons.push((at as u64 + 1, reason));
    }
    // A record of two megabytes.
    lines.insert(1_000, vec![b'x'; 2 << 20]);
    reasons.push((1_001, "too_large"));
    fs::write(data.path("broken.csv"), lines.join(&b'\n')).expect("written");
    let broken = data.path("broken.csv");
    let path = format!("source.departures.path={}", broken.display());
    let told = summary(&data.run("broken", &["--set", &path]));
    assert_eq!(told["scores"], wanted["scores"], "{}", told["dead_letters"]);

    let dead = fs::read_to_string(data.path("broken/dead_letters.jsonl")).expect("dead letters");
    let dead: Vec<Value> =
        dead.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut found: Vec<(u64, &str)> = dead
        .iter()
        .map(|d| (d["offset"].as_u64().expect("a line"), d["reason"].as_str().expect("a reason")))
        .collect();
    found.sort_unstable();
    reasons.sort_unstable();
    assert_eq!(found, reasons);
    for letter in &dead {
        assert_eq!(letter["source"], "departures");
        assert!(letter["detail"].as_str().is_some_and(|d| !d.is_empty()), "{letter}");
        assert!(letter["raw"].as_str().is_some_and(|raw| !raw.is_empty()), "{letter}");
    }
    let scores = |folder: &str| fs::read(data.path(folder).join("scores.jsonl")).expect("scores");
    assert!(scores("good") == scores("broken"), "broken rows show in the scores");
}

/// An id that comes again is refused, with what came: the first row keeps its score and its label.
#[test]
fn an_id_is_scored_once() {
    let data = Data::of_days(4);
    let wanted = summary(&data.run("good", &[]));
    let text = fs::read_to_string(data.path("flights.csv")).expect("flights");
    let twice: Vec<&str> = text.lines().skip(100).take(25).collect();
    let path = data.path("twice.csv");
    fs::write(&path, format!("{text}{}\n", twice.join("\n"))).expect("written");
    let set = format!("source.departures.path={}", path.display());
    let sort = "source.departures.sort=10d";
    let told = summary(&data.run("twice", &["--set", &set, "--set", sort]));
    assert_eq!(told["scores"], wanted["scores"]);
    let dead = &told["dead_letters"][0];
    assert_eq!((&dead["reason"], &dead["rows"]), (&"duplicate_id".into(), &25.into()), "{told}");
    let accounted: u64 =
        ["labelled", "timed_out", "pending"].iter().filter_map(|c| told[c].as_u64()).sum();
    assert_eq!(Some(accounted), told["scores"].as_u64());
}

/// A source that is not there, or no table at all, is an error that says what to do.
#[test]
fn what_cannot_be_read_is_a_clear_error() {
    let data = Data::of_days(1);
    fs::write(data.path("empty.csv"), "").expect("written");
    fs::write(data.path("other.csv"), "a,b\n1,2\n").expect("written");
    let flights = fs::read(data.path("flights.csv")).expect("flights");
    let packed = zstd::encode_all(flights.as_slice(), 3).expect("packed");
    fs::write(data.path("half.csv.zst"), &packed[..packed.len() / 2]).expect("written");
    fs::write(data.path("packed.csv"), &packed).expect("written");
    for (name, wanted) in [
        ("absent.csv", "No such file"),
        ("empty.csv", "has no header"),
        ("other.csv", "has no column"),
        ("half.csv.zst", "broken after line"),
        ("packed.csv", "is compressed"),
    ] {
        let set = format!("source.departures.path={}", data.path(name).display());
        let output = data.run(&format!("out-{name}"), &["--set", &set]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{name}: {said}");
        let told: Value = serde_json::from_str(&said).expect("JSON");
        assert!(told["error"].as_str().is_some_and(|e| e.contains(wanted)), "{name}: {told}");
        assert!(told["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{name}: {told}");
    }
}

/// A run over rows of which every third has a `j` of 0.
struct Quotients {
    mode: &'static str,
    /// What was said on the way.
    said: String,
    summary: Value,
    /// The features, a line each.
    features: String,
    report: String,
}

/// Runs what is declared besides the rows in either mode, and with two workers.
fn quotients(declared: &str) -> Vec<Quotients> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rows = "id,at,i,j\n".to_string();
    for id in 0..3_000 {
        let time = tidemill_types::time::to_rfc3339(id * 60_000_000);
        rows.push_str(&format!("{id},{time},{id},{}\n", id % 3));
    }
    fs::write(folder.path().join("rows.csv"), rows).expect("written");
    let run = |(name, mode, workers): (&str, &'static str, &str)| {
        let pipeline = format!(
            r#"
[pipeline]
name = "quotients"
spine = "rows"
mode = "{mode}"
[source.rows]
type = "file"
path = "rows.csv"
schema = {{ id = "int64", at = "timestamp", i = "int64", j = "int64" }}
event_time = "at"
id = "id"
{declared}
[sink.features]
type = "file"
path = "features.jsonl"
"#
        );
        let file = folder.path().join("quotients.toml");
        fs::write(&file, pipeline).expect("written");
        let work = folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(&file).args(["--workers", workers, "--folder"]);
        command.arg(&work).args(["--output", "json"]);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        Quotients {
            mode,
            said,
            summary: serde_json::from_slice(&output.stdout).expect("JSON"),
            features: fs::read_to_string(work.join("features.jsonl")).expect("features"),
            report: fs::read_to_string(work.join("report.html")).expect("a report"),
        }
    };
    [("one", "final", "1"), ("two", "final", "2"), ("once", "at_once", "1")].map(run).into()
}

/// A feature that cannot be computed on a row is NULL there, counted by its name, and told once.
#[test]
fn features_that_fail_are_counted() {
    let mut told = Vec::new();
    for Quotients { said, summary, features, .. } in quotients(
        r#"
[windows]
day = { by = "j", last = "1d" }
unread = { by = "i", last = "1d" }
[features]
sound = "count(*) over day"
quotient = "i / j + sum(i) over day"
"#,
    ) {
        assert_eq!(said.matches("a feature cannot be computed").count(), 1, "{said}");
        assert!(said.contains("quotient") && said.contains("Divide by zero"), "{said}");
        assert!(!said.contains("Arrow error"), "{said}");
        told.push(summary["failed_features"].clone());
        let null = |row: &str| {
            let row: Value = serde_json::from_str(row).expect("JSON");
            row.get("quotient").is_none_or(Value::is_null) && !row["sound"].is_null()
        };
        assert_eq!(features.lines().filter(|row| null(row)).count(), 1_000);
    }
    assert_eq!(told[0].as_array().map(Vec::len), Some(1), "{}", told[0]);
    assert_eq!((&told[0][0]["feature"], &told[0][0]["rows"]), (&"quotient".into(), &1_000.into()));
    assert!(
        told[0][0]["why"].as_str().is_some_and(|why| why.starts_with("row 0: Divide by zero")),
        "{}",
        told[0]
    );
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

/// What a label, a key, an argument or a filter of a window comes to where its expression fails is NULL, counted by
/// the expression, and told once; a row of which a column or the filter of its source fails is a dead letter.
#[test]
fn expressions_that_fail_are_counted() {
    let mut told = Vec::new();
    for Quotients { mode, said, summary, features, report } in quotients(
        r#"
[source.others]
type = "file"
path = "rows.csv"
schema = { id = "int64", at = "timestamp", i = "int64", j = "int64" }
columns = { q = "i / j" }
where = "i / (j - 1) is not null"
event_time = "at"
[windows]
day = { by = "j", last = "1d" }
other = { over = "others", by = "j", last = "1d" }
same = { by = { j = "i / j" }, last = "1d" }
[label.large]
over = "rows"
value = "i  / j > 1"
wait = "1m"
[features]
sum = "sum(i * 9223372036854775807) over day"
twice = "max(i * 9223372036854775807) over day"
some = "count(*) filter (where 10 / j > 1) over day"
keyed = "count(*) over same"
others = "count(*) over other"
"#,
    ) {
        assert_eq!(said.matches("a label cannot be computed").count(), 1, "{said}");
        assert_eq!(
            said.matches("an expression of a window cannot be computed").count(),
            3,
            "{said}"
        );
        assert_eq!(summary["failed_features"], serde_json::json!([]));
        assert_eq!(
            summary["dead_letters"],
            serde_json::json!([{"source": "others", "reason": "expression", "rows": 2_000}])
        );
        told.push(summary["failed_expressions"].clone());
        assert!(report.contains("<h2>Could not be computed</h2>"));
        // At once, rows are corrected when those of the other source come.
        if mode == "final" {
            assert_eq!(features.lines().count(), 3_000);
        }
        // Rows 0 and 1 alone have a product that fits.
        let last = features.lines().nth(2).expect("a row");
        let last: Value = serde_json::from_str(last).expect("JSON");
        assert!(last.get("sum").is_none_or(Value::is_null), "{last}");
    }
    let zero = "row 0: Divide by zero error";
    let large = "row 2: Arithmetic overflow: Overflow happened on: 2 * 9223372036854775807";
    let one = |kind: &str, name: &str, expression: &str, rows: u64, why: &str| {
        serde_json::json!({
            "kind": kind, "name": name, "expression": expression, "rows": rows, "why": why
        })
    };
    let wanted = serde_json::json!([
        one("label", "large", "i / j > 1", 1_000, zero),
        one("window", "same", "i / j", 1_000, zero),
        one("window", "day", "i * 9223372036854775807", 2_998, large),
        one("window", "day", "10 / j > 1", 1_000, zero),
    ]);
    assert!(told.iter().all(|one| *one == wanted), "{told:#?}");
}
