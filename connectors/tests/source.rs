//! Laws of the bounded sources over files, and of the list.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidemill_config::plan::{At, SourcePlan, Until};
use tidemill_connectors::source::{Polled, SOURCES};
use tidemill_types::{DataType, Schema};

mod common;
use common::{open, open_share, read, rows, schema, section, sink_plan, source_plan, times};

/// A source of each kind over the same two files, one of them with a bad line.
fn plans(folder: &Path) -> Vec<SourcePlan> {
    let all = rows(9_000, 5);
    for (name, from, count) in [("a.csv.zst", 0, 6_000), ("b.jsonl", 6_000, 3_000)] {
        let part = all.slice(from, count);
        let plan = sink_plan("file", &format!("path = \"{name}\""));
        let mut sink = common::open_sink(&plan, &schema(), folder).unwrap();
        sink.write(&part, &times(&part)).unwrap();
        sink.close().unwrap();
    }
    let mut text = fs::read_to_string(folder.join("b.jsonl")).unwrap();
    text.insert_str(0, "{\"id\":\"one\"}\n");
    fs::write(folder.join("b.jsonl"), text).unwrap();
    let files = "[\"a.csv.zst\", \"b.jsonl\"]";
    vec![
        source_plan("file", &format!("path = {files}"), schema(), folder),
        source_plan(
            "generator",
            &format!("of = {files}\ntimes = 3\nshift = \"30d\""),
            schema(),
            folder,
        ),
    ]
}

#[test]
fn reading_again_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let first = read(open(&plan).unwrap().as_mut(), &plan.schema);
        let again = read(open(&plan).unwrap().as_mut(), &plan.schema);
        assert!(first.error.is_none());
        assert!(first.rows.len().is_multiple_of(9_000) && !first.rows.is_empty());
        assert_eq!(first.rows, again.rows);
        assert_eq!(first.rejects, again.rejects);
    }
}

#[test]
fn a_seek_gives_what_follows_the_place() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let all = read(open(&plan).unwrap().as_mut(), &plan.schema);
        let last = all.rows.last().unwrap().1;
        for place in [0, 1, 2, 4_097, 6_000, 6_001, 6_002, 6_003, last, last + 1, last * 2] {
            let mut source = open(&plan).unwrap();
            source.poll(Duration::ZERO).unwrap();
            source.seek(0, place).unwrap();
            let read = read(source.as_mut(), &plan.schema);
            let wanted: Vec<_> = all.rows.iter().filter(|row| row.1 >= place).collect();
            assert_eq!(read.rows.iter().collect::<Vec<_>>(), wanted, "from {place}");
            assert_eq!(read.ends, [0]);
        }
        assert!(open(&plan).unwrap().seek(1, 0).is_err(), "a partition of somebody else");
    }
}

#[test]
fn the_end_is_said_once_and_a_paused_source_is_still() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let mut source = open(&plan).unwrap();
        source.pause(0, true);
        assert!(matches!(source.poll(Duration::ZERO).unwrap(), Polled::Nothing));
        source.pause(0, false);
        assert_eq!(read(source.as_mut(), &plan.schema).ends, [0]);
        for _ in 0..3 {
            assert!(matches!(source.poll(Duration::ZERO).unwrap(), Polled::Nothing));
        }
    }
}

#[test]
fn shares_together_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for plan in plans(folder.path()) {
        let shares: Vec<_> =
            (0..3).map(|i| open_share(&plan, (i, 3)).unwrap().partitions()).collect();
        assert_eq!(shares, [vec![0], vec![], vec![]]);
        let mut idle = open_share(&plan, (1, 3)).unwrap();
        assert!(matches!(idle.poll(Duration::ZERO).unwrap(), Polled::Nothing));
    }
}

#[test]
fn dead_letters_name_the_file_and_its_own_line() {
    let folder = tempfile::tempdir().unwrap();
    let plan = &plans(folder.path())[0];
    let all = read(open(plan).unwrap().as_mut(), &plan.schema);
    let [dead] = &all.rejects[..] else { panic!("{:?}", all.rejects) };
    assert_eq!((dead.source.as_str(), dead.reason.as_str()), ("events", "type"));
    assert_eq!((dead.provenance.origin.as_str(), dead.provenance.offset), ("b.jsonl", 1));
    assert_eq!(dead.raw, b"{\"id\":\"one\"}");
    assert_eq!(dead.detail, "column id: found the string \"one\", wanted int64");
}

#[test]
fn the_generator_shifts_times_and_ids_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "id,at,v\n5,2013-01-01,5\n,2013-12-31,6\n9,,7\n")
        .unwrap();
    let schema =
        Schema::new([("id", DataType::Int64), ("at", DataType::Timestamp), ("v", DataType::Int64)]);
    let plan = source_plan("generator", "of = \"a.csv\"\ntimes = 3", schema.clone(), folder.path());
    let all = read(open(&plan).unwrap().as_mut(), &schema);
    assert_eq!(
        all.texts(),
        [
            "5|2013-01-01T00:00:00Z|5",
            "-|2013-12-31T00:00:00Z|6",
            "9|-|7",
            "10|2014-01-01T00:00:00Z|5",
            "-|2014-12-31T00:00:00Z|6",
            "14|-|7",
            "15|2015-01-01T00:00:00Z|5",
            "-|2015-12-31T00:00:00Z|6",
            "19|-|7",
        ]
    );
    let offsets: Vec<_> = all.rows.iter().map(|row| row.1).collect();
    assert_eq!(offsets, [2, 3, 4, 6, 7, 8, 10, 11, 12]);
}

#[test]
fn checks_find_everything_at_once() {
    let folder = Path::new("");
    let mut plan = source_plan("file", "pth = \"a.csv\"\nmax_record = 0", schema(), folder);
    plan.timezone = At::nowhere("America/New_York".to_string());
    plan.until = Some(Until::Stopped);
    let entry = SOURCES.iter().find(|e| e.name == "file").unwrap();
    let found: Vec<_> = (entry.check)(&plan).unwrap_err().into_iter().map(|d| d.message).collect();
    assert!(found.iter().any(|m| m.contains("max_record")), "{found:?}");
    for wanted in [
        "file has no key `pth`",
        "`path` names no file",
        "time zone `America/New_York` cannot be read",
        "a file cannot be read until the run is stopped",
    ] {
        assert!(found.iter().any(|m| m == wanted), "{wanted} is not in {found:?}");
    }
    plan = source_plan("file", "path = \"a.csv\"", schema(), folder);
    plan.format = Some(At::nowhere("cvs".to_string()));
    assert_eq!((entry.check)(&plan).unwrap_err()[0].help, "did you mean `csv`?");
    plan.format = None;
    plan.section = section("file", "path = \"a.csv\"", folder);
    assert!((entry.check)(&plan).is_ok(), "a check touches no file");
}

#[test]
fn every_source_is_described() {
    for entry in SOURCES {
        assert!(!entry.summary.is_empty() && !entry.keys.is_empty(), "{}", entry.name);
        assert_eq!(SOURCES.iter().filter(|e| e.name == entry.name).count(), 1);
    }
}
