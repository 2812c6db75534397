//! Windows over several sources through the whole engine: what DuckDB computes by UNION ALL, whatever the number of
//! workers, in `at_once` after all corrections, after a run was cut off, and as history.

#[path = "support/corrections.rs"]
mod corrections;
#[path = "support/python.rs"]
mod python;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tidemill_types::time::to_rfc3339;

const PIPELINE: &str = include_str!("union/union.toml");

/// The windows of a pipeline that are computed anew: those before this line.
const OTHERS: &str = "\n# Not computed anew";

const PAYMENTS: i64 = 900;

/// A few rows at a look: what comes late corrects what was answered before.
const AT_ONCE: [&str; 4] = ["--set", "pipeline.mode=at_once", "--set", "pipeline.ahead=20"];

const CALLS: [(&str, &str); 5] = [
    ("sum", "sum(amount)"),
    ("count", "count(*)"),
    ("most", "max(amount) filter (where amount % 3 <> 0)"),
    ("first", "first_value(amount)"),
    ("last", "last_value(amount)"),
];

/// The windows that are computed anew: the name of each, and what is asked of it; of those that let rows go, nothing
/// that depends on a row's place.
fn checked(pipeline: &str) -> Vec<(&str, &'static [(&'static str, &'static str)])> {
    let (before, _) = pipeline.split_once(OTHERS).expect("other windows");
    let (_, windows) = before.split_once("[windows]\n").expect("windows");
    let lines = windows.lines().filter_map(|line| line.split_once(" = "));
    let lets_go = |frame: &str| frame.contains("resolution") || frame.contains("lifetime");
    let calls = |frame: &str| if lets_go(frame) { &CALLS[..3] } else { &CALLS };
    lines.map(|(name, frame)| (name.trim(), calls(frame))).collect()
}

fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// The pipeline with so many windows by chance.
fn drawn(seed: u64, n: usize) -> String {
    let (begin, rest) = PIPELINE.split_once("[windows]\n").expect("windows");
    let (_, others) = rest.split_once(OTHERS).expect("other windows");
    let mut next = chance(seed);
    let mut windows = String::new();
    for n in 0..n {
        let mask = 1 + next(7);
        let over: Vec<&str> = ["refunds", "payments", "fees"]
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| mask >> bit & 1 == 1)
            .map(|(_, name)| name)
            .collect();
        let by = ["\"card\"", "\"card\"", "{ card = \"friend\" }", "[]"][next(4) as usize];
        let (minutes, rows) = (5 + next(600), 1 + next(6));
        let kind = next(8);
        let frame = match kind {
            0 => format!("last = \"{minutes}m\""),
            1 => format!("rows = {rows}"),
            2 => format!("rows = {rows}, last = \"{minutes}m\""),
            3 => format!("tumbling = \"{minutes}m\""),
            4 => format!("session = \"{}m\"", 3 + minutes % 30),
            5 => format!("last = \"{minutes}m\", resolution = \"{}m\"", 7 + minutes / 2),
            6 => "lifetime = true".to_string(),
            _ => {
                let every = 5 + next(minutes - 4);
                format!("hopping = {{ size = \"{minutes}m\", every = \"{every}m\" }}")
            }
        };
        let edge = match next(4) {
            0 if kind < 7 => ", exclude = \"time\"".to_string(),
            1 if kind < 7 && over.contains(&"payments") => ", exclude = \"row\"".to_string(),
            2 => format!(", offset = \"{}m\"", 1 + next(200)),
            _ => String::new(),
        };
        writeln!(windows, "w{n} = {{ over = {over:?}, by = {by}, {frame}{edge} }}")
            .expect("memory");
    }
    format!("{begin}[windows]\n{windows}{OTHERS}{others}")
}

/// A folder with the pipeline and two days of payments, refunds and fees of six cards. Times are whole minutes, so that
/// many rows are of one time; rows come up to two hours late.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder.pipeline(PIPELINE);
        folder.rows(23);
        folder
    }

    /// Writes rows by chance.
    fn rows(&self, seed: u64) {
        let mut next = chance(seed);
        for (name, rows, late) in
            [("payments", PAYMENTS, 120), ("refunds", 500, 90), ("fees", 400, 120)]
        {
            let mut lines: Vec<(u64, String)> = Vec::new();
            for id in 0..rows {
                let minute = next(2 * 24 * 60);
                let at = to_rfc3339((1_362_787_200 + minute as i64 * 60) * 1_000_000);
                let (card, friend, amount) = (next(6), next(6), next(10_000) as i64 - 2_000);
                let line = match name {
                    "payments" => format!("{id},c{card},c{friend},{amount},{at}"),
                    "refunds" => format!("{amount},{at},c{card},{id}"),
                    _ => format!("f{},c{card},{amount},{at}", id * 7 % rows),
                };
                lines.push((minute + next(late), line));
            }
            lines.sort();
            let mut text = match name {
                "payments" => "id,card,friend,amount,at\n",
                "refunds" => "amount,at,card,id\n",
                _ => "number,holder,fee,at\n",
            }
            .to_string();
            lines.iter().for_each(|(_, line)| writeln!(text, "{line}").expect("memory"));
            fs::write(self.path(&format!("{name}.csv")), text).expect("written");
        }
    }

    /// Writes the pipeline, with the calls over windows that are computed anew.
    fn pipeline(&self, text: &str) {
        let mut features = String::new();
        for (window, calls) in checked(text) {
            for (name, call) in calls {
                writeln!(features, "{name}_{window} = \"{call} over {window}\"").expect("memory");
            }
        }
        fs::write(self.path("union.toml"), text.replace("FEATURES", &features)).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tidemill(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(args).current_dir(self.0.path()).output().expect("the program starts")
    }

    /// The features of a run by id, after all corrections, and how many of them there were.
    fn run(&self, out: &str, more: &[&str]) -> (BTreeMap<i64, String>, usize) {
        let output =
            self.tidemill(&[&["run", "union.toml", "--quiet", "--folder", out], more].concat());
        assert!(output.status.success(), "{}", told(&output));
        corrections::net(&self.path(out).join("features.jsonl"))
    }
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// DuckDB computes the same of every row, for every window that is computed anew.
fn is_what_duckdb_computes(folder: &Folder, pipeline: &str, out: &str) {
    let done = python::command("oracle", include_str!("oracle/requirements.txt"))
        .arg("tests/union/check.py")
        .args([folder.0.path(), &folder.path(out).join("features.jsonl")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("python starts");
    let windows = checked(pipeline);
    let values = windows.iter().map(|(_, calls)| calls.len() as i64 * PAYMENTS).sum::<i64>();
    let wanted = format!("{} windows, {values} values compared, 0 differ", windows.len());
    let said = told(&done);
    assert!(done.status.success() && said.contains(&wanted), "no `{wanted}` in {said}\n{pipeline}");
}

/// `TIDEMILL_SEED` draws others, and `TIDEMILL_CASES` so many.
#[test]
fn windows_by_chance_are_what_duckdb_computes() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (cases, seed) = (number("TIDEMILL_CASES", 50), number("TIDEMILL_SEED", 7));
    for n in 0..cases.div_ceil(25) {
        let (folder, pipeline) = (Folder::new(), drawn(seed + n, 25));
        folder.pipeline(&pipeline);
        folder.rows(seed + n);
        let (wanted, _) = folder.run("final", &["--workers", "2"]);
        is_what_duckdb_computes(&folder, &pipeline, "final");
        assert!(folder.run("at_once", &AT_ONCE).0 == wanted, "other features in\n{pipeline}");
    }
}

#[test]
fn windows_over_several_sources_are_what_duckdb_computes_however_they_run() {
    let folder = Folder::new();
    let (wanted, _) = folder.run("final", &[]);
    assert_eq!((wanted.len() as i64, checked(PIPELINE).len()), (PAYMENTS, 15));
    is_what_duckdb_computes(&folder, PIPELINE, "final");
    a_secondary_key_is_what_the_call_per_key_is(&wanted);
    for (out, more) in [
        ("two", &["--workers", "2"][..]),
        ("short", &["--set", "pipeline.bundle=1"]),
        ("long", &["--set", "pipeline.bundle=10000", "--workers", "2"]),
        ("processes", &["--processes", "2"]),
        ("at_once", &AT_ONCE),
        ("at_once_two", &[&AT_ONCE[..], &["--workers", "2"]].concat()),
    ] {
        let at_once = out.starts_with("at_once");
        let mut corrected = 0;
        // A run in ten finds all rows at its first look, and then has nothing to correct: another one is asked.
        for n in 0..if at_once { 6 } else { 1 } {
            let name = if n == 0 { out.to_string() } else { format!("{out}_{n}") };
            let (found, these) = folder.run(&name, more);
            assert!(found == wanted, "{name}: other features");
            corrected = these;
            if corrected > 0 {
                break;
            }
        }
        assert_eq!(corrected > 100, at_once, "{out}: {corrected} corrections");
    }
    let bytes = |out: &str| fs::read(folder.path(out).join("features.jsonl")).expect("features");
    assert!(bytes("two") == bytes("final") && bytes("processes") == bytes("final"));
}

fn a_secondary_key_is_what_the_call_per_key_is(found: &BTreeMap<i64, String>) {
    let mut keys = 0;
    for row in found.values() {
        let row: Value = serde_json::from_str(row).expect("JSON");
        assert_eq!(row["by_shop_sum"], row["by_shop_call"], "{row}");
        keys = keys.max(row["by_shop_sum"].as_object().map_or(0, |sums| sums.len()));
    }
    assert!(keys > 2, "{keys} keys at most");
}

#[test]
fn they_outlive_a_run_that_is_cut_off() {
    let folder = Folder::new();
    for mode in ["final", "at_once"] {
        let text = PIPELINE.replace("tick = \"1m\"", &format!("tick = \"1m\"\nmode = \"{mode}\""));
        folder.pipeline(&text);
        let done = folder.tidemill(&["crash-test", "union.toml", "--kills", "3"]);
        assert!(done.status.success(), "{mode}: {}", told(&done));
    }
}

#[test]
fn they_are_computed_of_history_in_parts() {
    let folder = Folder::new();
    // What has another key cannot be split.
    let own = |line: &&str| !line.starts_with("crossed ") && !line.starts_with("everyone ");
    folder.pipeline(&PIPELINE.lines().filter(own).collect::<Vec<_>>().join("\n"));
    folder.run("live", &[]);
    for (out, parts) in [("one.jsonl", "1"), ("three.jsonl", "3")] {
        let done = folder.tidemill(&[
            "backfill",
            "union.toml",
            "--from",
            "2013-01-01",
            "--to",
            "2014-01-01",
            "--out",
            out,
            "--parts",
            parts,
            "--output",
            "json",
            "--quiet",
        ]);
        assert!(done.status.success(), "{}", told(&done));
        let said: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert_eq!(said["parts"].to_string(), parts, "{said}");
        let read = |name: &str| fs::read(folder.path(name)).expect("features");
        assert!(read(out) == read("live/features.jsonl"), "{parts} parts");
    }
}

/// What `explain` lists of a window are the rows of each of its sources.
#[test]
fn an_event_is_explained_by_the_rows_of_every_source() {
    let folder = Folder::new();
    let (found, _) = folder.run("out", &[]);
    let mut of_others = 0;
    for id in [17, 400, 801] {
        let args =
            ["explain", "union.toml", &id.to_string(), "--output", "json", "--folder", "out"];
        let output = folder.tidemill(&[&args[..], &["--events", "1000", "--quiet"]].concat());
        assert!(output.status.success(), "{}", told(&output));
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let row: Value = serde_json::from_str(&found[&id]).expect("JSON");
        for feature in said["features"].as_array().expect("features") {
            let name = feature["name"].as_str().expect("a name");
            assert_eq!(feature["value"], row[name], "{name}");
            let Some(window) = name.strip_prefix("count_") else { continue };
            let held = feature["windows"].as_array().expect("windows");
            let mut events = 0;
            for part in held {
                assert_eq!(part["window"], *window);
                let n = part["events"].as_u64().expect("a number");
                let newest = part["newest"].as_array().expect("events");
                assert!(newest.iter().all(|event| event["source"] == part["source"]), "{part}");
                of_others += if part["source"] == "payments" { 0 } else { n };
                events += n;
            }
            assert_eq!(row[name], events, "{name} of {id}: {feature}");
            let sources = held.iter().map(|part| part["source"].as_str().expect("a name"));
            let sources: Vec<&str> = sources.collect();
            let over = if window == "others" { &["refunds", "fees"][..] } else { &sources };
            assert_eq!(sources, over, "the order in which their rows of one time stand");
        }
    }
    assert!(of_others > 30, "{of_others} rows of other sources");
}

/// A column that not all of the sources have, or not as the same type, is refused where it is read.
#[test]
fn columns_that_not_all_sources_have_are_refused_in_their_place() {
    let folder = Folder::new();
    for (from, to, wanted) in [
        (
            "sum(amount) over day",
            "sum(why) over day",
            &[
                "\"line\":62,\"column\":17",
                "`why` is not a column of all sources of window `day`",
                "`refunds` has it as int64, `payments` has no such column",
                "columns = { why = \\\"...\\\" } in [source.payments]",
            ][..],
        ),
        (
            "median(amount) over day",
            "median(amount) filter (where friend = 'c1') over day",
            &[
                "`friend` is not a column of all",
                "`refunds` has no such column",
                "in [source.refunds]",
            ],
        ),
        (
            "sum_per(amount, shop) over shops",
            "sum_per(amount, fee) over shops",
            &["`fee` is not", "in [source.refunds] and [source.payments]"],
        ),
        (
            "{ card = \"holder\", amount",
            "{ card = \"fee\", amount",
            &[
                "`card` is not",
                "`fees` has it as int64",
                "`refunds` has it as string",
                "cast(card as",
            ],
        ),
        (
            "by = { card = \"friend\" }",
            "by = { friend = \"friend\" }",
            &["`friend` is not", "crossed"],
        ),
        (
            "secondary = \"shop\"",
            "secondary = \"why\"",
            &["`why` is not", "`fees` has no such column"],
        ),
        // What none of them has is no such matter.
        (
            "sum(amount) over day",
            "sum(amonut) over day",
            &["there is no column `amonut`", "did you mean `amount`?"],
        ),
    ] {
        assert!(PIPELINE.contains(from), "{from}");
        folder.pipeline(&PIPELINE.replacen(from, to, 1));
        let output = folder.tidemill(&["check", "union.toml", "--output", "json"]);
        assert_eq!(output.status.code(), Some(78), "{to}: {}", told(&output));
        for part in wanted {
            assert!(told(&output).contains(part), "{to}: no `{part}` in\n{}", told(&output));
        }
    }
}

/// In which order the sources of a window are named shows in nothing.
#[test]
fn sources_may_be_named_in_any_order() {
    let folder = Folder::new();
    let (wanted, _) = folder.run("one", &[]);
    let turned = PIPELINE
        .replace("[\"payments\", \"refunds\", \"fees\"]", "[\"fees\", \"refunds\", \"payments\"]");
    assert!(turned != PIPELINE);
    folder.pipeline(&turned);
    assert!(folder.run("two", &[]).0 == wanted);
    // The same folder: it is the same pipeline.
    assert!(folder.run("one", &[]).0 == wanted);
}
