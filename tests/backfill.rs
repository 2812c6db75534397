//! The features of history are those of a run, on every row and column, however many parts compute them, wherever.

#[path = "support/history.rs"]
mod history;
#[path = "support/kafka.rs"]
mod kafka;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use history::{History, json};
use serde_json::Value as Json;

/// All of the history.
const ALL: (&str, &str) = ("2020-01-01", "2030-01-01");
/// Some days in the middle; what is before them reaches into their windows.
const MIDDLE: (&str, &str) = ("2026-01-06", "2026-01-08T12:00:00Z");

/// Rows of JSON lines whose event time is in a range.
fn within(text: &[u8], (from, to): (&str, &str)) -> Vec<String> {
    let whole = |time: &str| {
        if time.len() == 10 { format!("{time}T00:00:00") } else { time[..19].to_string() }
    };
    let (from, to) = (whole(from), whole(to));
    let text = String::from_utf8(text.to_vec()).expect("UTF-8");
    let inside = |line: &&str| {
        let row: Json = serde_json::from_str(line).expect("JSON");
        let time = row["event_time"].as_str().expect("a time")[..19].to_string();
        (from.as_str()..to.as_str()).contains(&time.as_str())
    };
    text.lines().filter(inside).map(str::to_string).collect()
}

#[test]
fn what_a_run_computed_is_what_a_backfill_computes() {
    let history = History::new(4_000, false);
    let live = history.run("live", &[]);
    assert!(live["late"].as_u64().expect("a number") > 10, "rows came too late: {}", live["late"]);
    assert!(live["scores"].as_u64().expect("a number") > 3_000, "a model was at work");
    let told = history.backfill(ALL, "all.parquet", &[]);
    // Verdicts may be late too, which a backfill does not read.
    let late = |told: &Json| told["late"].as_u64().expect("a number");
    assert!(late(&told) > 10 && late(&told) <= late(&live), "{told}");
    // Schema, every value of every row, their order: the files are the same bytes.
    assert!(history.bytes("all.parquet") == history.bytes("live/features.parquet"), "Parquet");
    history.backfill(ALL, "all.jsonl", &["--workers", "2"]);
    assert!(history.bytes("all.jsonl") == history.bytes("live/features.jsonl"), "JSON");

    // A stretch in the middle: the history before it is in the windows.
    let wanted = within(&history.bytes("live/features.jsonl"), MIDDLE);
    assert!(wanted.len() > 500, "{} rows", wanted.len());
    let told = history.backfill(MIDDLE, "middle.jsonl", &[]);
    let found = String::from_utf8(history.bytes("middle.jsonl")).expect("UTF-8");
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(told["rows"], wanted.len());
    let first: Json = serde_json::from_str(&wanted[0]).expect("JSON");
    let reaches_back = |name: &str| first[name].as_f64().expect("a number") > 1.0;
    assert!(reaches_back("n_7d") && reaches_back("n_ever"), "{first}");

    // A pipeline whose rows may be corrected: the final values.
    history.backfill(MIDDLE, "at-once.jsonl", &["--set", "pipeline.mode=at_once"]);
    assert_eq!(history.bytes("at-once.jsonl"), history.bytes("middle.jsonl"));
}

#[test]
fn any_number_of_parts_gives_the_same_bytes() {
    // Doubles among them: of one time and id, and of cards of different parts.
    let history = History::new(3_000, true);
    let of = |name: &str, parts: &str, more: &[&str]| {
        let told = history.backfill(MIDDLE, name, &[&["--parts", parts], more].concat());
        assert_eq!(told["parts"].to_string(), parts);
        (told["rows"].as_u64().expect("a number"), told["late"].clone())
    };
    let one = of("one.parquet", "1", &[]);
    assert!(one.0 > 500);
    for (parts, more) in [
        ("3", &[][..]),
        ("7", &["--workers", "2"][..]),
        ("3", &["--executor", "subprocess", "--workers", "2"][..]),
        ("1", &["--executor", "subprocess"][..]),
    ] {
        let name = format!("{parts}-{}.parquet", more.len());
        assert_eq!(of(&name, parts, more).0, one.0, "{parts} {more:?}");
        assert!(history.bytes(&name) == history.bytes("one.parquet"), "{parts} {more:?}");
    }
    // Parts hold different rows, and every card is of one alone: else the sum above would not be.
    of("one.jsonl", "1", &[]);
    of("five.jsonl", "5", &[]);
    assert!(history.bytes("one.jsonl") == history.bytes("five.jsonl"));

    // A folder has a file a day.
    let days = |out: &str, parts: &str| {
        history.backfill(MIDDLE, &format!("{out}/"), &["--parts", parts]);
        let files = std::fs::read_dir(history.path(out)).expect("a folder").flatten();
        let mut files: Vec<_> = files
            .map(|file| {
                (file.file_name().into_string().expect("text"), history::read(&file.path()))
            })
            .collect();
        files.sort();
        files
    };
    let (one, four) = (days("by-day-1", "1"), days("by-day-4", "4"));
    assert!(one == four);
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "features-2026-01-06.parquet",
            "features-2026-01-07.parquet",
            "features-2026-01-08.parquet"
        ]
    );
}

/// Answers of parts under way.
fn answers(work: &Path) -> usize {
    let tasks = std::fs::read_dir(work.join("tasks")).into_iter().flatten().flatten();
    tasks.filter(|task| task.path().join("result.json").exists()).count()
}

#[test]
fn a_backfill_that_was_killed_goes_on_with_the_parts_that_are_missing() {
    let history = History::new(20_000, false);
    history.backfill(ALL, "whole.parquet", &[]);
    for more in [&[][..], &["--executor", "subprocess"][..]] {
        let name = format!("killed-{}.parquet", more.len());
        let options = [&["--parts", "9"][..], more].concat();
        let work = history.path(&format!("{name}.backfill"));
        let mut killed = 0;
        // Twice, so that an interrupted one that went on is interrupted too; and once asked to stop.
        for (least, signal) in [(2, "KILL"), (3, "TERM"), (5, "KILL")] {
            let mut child =
                history.command(ALL, &name, &options).spawn().expect("the program starts");
            let until = Instant::now() + Duration::from_secs(120);
            while answers(&work) < least {
                assert!(Instant::now() < until, "no parts in two minutes");
                assert!(
                    child.try_wait().expect("a child").is_none(),
                    "it was done before it was killed"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
            assert!(sent.expect("kill").success());
            let ended = child.wait().expect("it ended");
            assert_eq!(ended.code(), (signal == "TERM").then_some(69));
            killed = answers(&work);
            assert!(!history.path(&name).exists(), "no file under its name before it is whole");
        }
        assert!((5..9).contains(&killed), "{killed} parts were done when it was killed");
        let told = history.backfill(ALL, &name, &options);
        let before = told["parts_from_before"].as_u64().expect("a number") as usize;
        assert!(before >= killed, "{before} of {killed} were taken: {told}");
        assert_eq!(told["parts"], 9);
        assert!(history.bytes(&name) == history.bytes("whole.parquet"), "{more:?}");
    }
}

#[test]
fn a_part_whose_rows_are_gone_or_changed_is_never_taken() {
    let history = History::new(2_000, false);
    let name = "rows.parquet";
    let work = history.path("rows.parquet.backfill");
    let mut child =
        history.command(ALL, name, &["--parts", "40"]).spawn().expect("the program starts");
    let until = Instant::now() + Duration::from_secs(120);
    while answers(&work) < 3 {
        assert!(Instant::now() < until && child.try_wait().expect("a child").is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("it ended");
    // The largest blobs are rows: one is removed, one is changed in a byte.
    let mut blobs: Vec<_> = walk(&work.join("tasks/blobs"));
    blobs.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).expect("a blob").len()));
    std::fs::remove_file(&blobs[0]).expect("removed");
    let mut bytes = history::read(&blobs[1]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&blobs[1], bytes).expect("written");
    let done = answers(&work);
    let refused =
        history.command(ALL, name, &["--parts", "40"]).output().expect("the program starts");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("is not what was written") && said.contains("remove it"), "{said}");
    assert!(!history.path(name).exists());
    std::fs::remove_file(&blobs[1]).expect("removed, as it says");
    let told = history.backfill(ALL, name, &["--parts", "40"]);
    assert_eq!(told["parts_from_before"], 39, "{done} parts were done first, then all but the two");
    history.backfill(ALL, "one.parquet", &[]);
    assert!(history.bytes(name) == history.bytes("one.parquet"));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_a_cure() {
    let history = History::new(300, false);
    let refused = |range: (&str, &str), out: &str, more: &[&str], code: i32, words: &[&str]| {
        let mut command = history.command(range, out, more);
        let output = command.arg("--quiet").output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
        let rest = std::fs::read_dir(history.folder.path()).expect("a folder").flatten();
        let rest: Vec<_> = rest.map(|e| e.file_name().into_string().expect("text")).collect();
        assert!(!rest.iter().any(|name| name.ends_with(".backfill")), "{rest:?} after {said}");
    };
    refused(
        ("2026-01-02", "2026-01-02"),
        "x.parquet",
        &[],
        78,
        &["--from is not before --to", "cure:"],
    );
    refused(
        ("2031-01-01", "2032-01-01"),
        "x.parquet",
        &[],
        78,
        &["there is no event from 2031", "events were read"],
    );
    refused(ALL, "x.doc", &[], 78, &["does not tell the format", "cure: end its name in .parquet"]);
    refused(ALL, "x.csv", &["--compression", "snappy"], 78, &["no key of csv files"]);
    refused(
        ALL,
        "x.parquet",
        &["--executor", "nobody"],
        78,
        &["there is no executor `nobody`", "in_process"],
    );
    refused(ALL, "x.parquet", &["--executor", "ray"], 78, &["address", "add [executor.NAME]"]);
    refused(
        ALL,
        "x.parquet",
        &["--set", "features.n_1h=count(*) over hours"],
        78,
        &["hours", "hour"],
    );
    refused(ALL, "x.parquet", &["--set", "source.refunds.path=gone.csv"], 78, &["gone.csv"]);
    std::fs::write(history.path("x.parquet"), "mine").expect("a file");
    refused(ALL, "x.parquet", &[], 78, &["is there already", "give --out another name"]);
    assert_eq!(history.bytes("x.parquet"), b"mine");

    // No features: the line of the file.
    let text = std::fs::read_to_string(history.path("history.toml")).expect("the file");
    let (before, _) = text.split_once("[features]").expect("features");
    std::fs::write(
        history.path("bare.toml"),
        format!("{before}\n[sink.late]\ntype = \"stdout\"\n"),
    )
    .expect("a file");
    let mut bare = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    bare.arg("backfill").arg(history.path("bare.toml")).args([
        "--from",
        ALL.0,
        "--to",
        ALL.1,
        "--out",
        "y.parquet",
    ]);
    let output = bare.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("bare.toml:") && said.contains("features"), "{said}");
}

#[test]
fn history_that_has_no_common_key_is_computed_as_one_part() {
    let history = History::new(1_500, false);
    history.run("live", &["--set", "windows.here.by=shop"]);
    let split = |window: &str, out: &str, why: &str| {
        let mut command = history.command(ALL, out, &["--parts", "3", "--set", window]);
        let output = command.args(["--output", "json"]).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("history cannot be split") && said.contains(why), "{said}");
        assert_eq!(json(&output)["parts"], 1);
    };
    split("windows.here.by=shop", "shop.parquet", "windows by (card) and by (shop)");
    assert!(history.bytes("shop.parquet") == history.bytes("live/features.parquet"));
    split("windows.here.by=[]", "all.parquet", "no key at all");
    // Windows over the spine by one column that another one reads.
    split("windows.here.by={shop=\"id\"}", "odd.parquet", "windows by (card) and by (id)");
}

/// A live run over a topic, then its history from the topic's start.
#[test]
fn the_history_of_a_topic_is_what_a_live_run_made_of_it() {
    let history = History::new(1_500, false);
    let broker = kafka::shared();
    let prefix = format!("{}-", kafka::unique("history"));
    let mut produce = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    produce.arg("produce").arg(history.path("history.toml")).args(["--partitions", "2", "--quiet"]);
    produce.args(["--brokers", &broker.address(), "--prefix", &prefix, "--output", "json"]);
    json(&produce.output().expect("the program starts"));
    let mut sets = Vec::new();
    for source in ["payments", "refunds", "verdicts"] {
        let topic = format!("{prefix}{source}");
        for (key, value) in
            [("path", ""), ("type", "kafka"), ("topic", &topic), ("brokers", &broker.address())]
        {
            sets.extend(["--set".to_string(), format!("source.{source}.{key}={value}")]);
        }
    }
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let mut live = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    live.arg("run").arg(history.path("history.toml")).args(["--quiet", "--folder"]);
    live.arg(history.path("live")).args(&sets);
    live.args(["--set", "sink.shown.type=stdout", "--set", "sink.shown.of=features"]);
    let shown = history.path("shown");
    let mut live = live
        .stdout(std::fs::File::create(&shown).expect("a file"))
        .spawn()
        .expect("the program starts");
    let rows = || history::read(&shown).iter().filter(|b| **b == b'\n').count();
    let until = Instant::now() + Duration::from_secs(120);
    while rows() < 1_300 {
        assert!(Instant::now() < until, "{} rows of the live run in two minutes", rows());
        std::thread::sleep(Duration::from_millis(100));
    }
    let stop = Command::new("kill").args(["-s", "TERM", &live.id().to_string()]).status();
    assert!(stop.expect("kill").success() && live.wait().expect("it ends").success());
    let live = history.bytes("live/features.jsonl");
    let last: Json =
        serde_json::from_str(String::from_utf8_lossy(&live).lines().last().expect("rows"))
            .expect("JSON");
    let last = last["event_time"].as_str().expect("a time").to_string();
    let range = ("2020-01-01", last.as_str());
    let wanted = within(&live, range);
    assert!(wanted.len() > 1_000, "{} rows", wanted.len());
    for (out, parts) in [("one.jsonl", "1"), ("three.jsonl", "3")] {
        history.backfill(range, out, &[&sets[..], &["--parts", parts]].concat());
        let found = String::from_utf8(history.bytes(out)).expect("UTF-8");
        assert_eq!(found.lines().collect::<Vec<_>>(), wanted, "{parts} parts");
    }
}
