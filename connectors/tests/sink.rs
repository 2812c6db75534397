//! Laws of the sinks that write files, and of the list.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use tidemill_connectors::format::FORMATS;
use tidemill_connectors::format::compression::Compression;
use tidemill_connectors::sink::SINKS;

mod common;
use common::{Chance, open_sink, rows, schema, sink_plan, times};

/// Names of every format, compressed where it may be.
fn names() -> Vec<String> {
    let mut names = Vec::new();
    for format in FORMATS {
        let name = format!("scores.{}", format.extensions[0]);
        if format.messages.is_some() {
            for compression in [Compression::Zstd, Compression::Gzip] {
                names.push(format!("{name}{}", compression.ending()));
            }
        }
        names.push(name);
    }
    names
}

/// Writes rows cut at random places, with commits between some, and gives back all files.
fn write(keys: &str, all: &RecordBatch, cuts: usize, seed: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let mut chance = Chance(seed);
    let mut sink = open_sink(&sink_plan("file", keys), &schema(), folder.path()).unwrap();
    let mut places: Vec<_> = (0..cuts).map(|_| chance.below(all.num_rows() + 1)).collect();
    places.extend([0, all.num_rows()]);
    places.sort_unstable();
    for pair in places.windows(2) {
        let part = all.slice(pair[0], pair[1] - pair[0]);
        sink.write(&part, &times(&part)).unwrap();
        if chance.one_in(3) {
            sink.commit().unwrap();
        }
    }
    sink.close().unwrap();
    files(folder.path())
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|entry| file(entry.unwrap())).collect()
}

#[test]
fn batching_never_changes_a_byte() {
    // Two row groups and a bit; small enough for a test.
    let all = rows(140_000, 7);
    let plain = names().into_iter().map(|name| (format!("path = \"{name}\""), name));
    let packed = ["snappy", "none"].map(|word| {
        let name = "scores.parquet".to_string();
        (format!("path = \"{name}\"\ncompression = \"{word}\""), name)
    });
    for (keys, name) in plain.chain(packed) {
        let once = write(&keys, &all, 0, 1);
        assert_eq!(once.keys().collect::<Vec<_>>(), [&name], "one file and nothing beside it");
        for seed in 2..4 {
            assert!(once == write(&keys, &all, 40, seed), "{name} depends on batching");
        }
    }
}

#[test]
fn rolled_files_are_named_by_event_time_and_together_hold_every_row() {
    let all = rows(3_000, 3);
    let daily = write("path = \"scores.csv\"\nroll = \"1d\"", &all, 0, 1);
    let names: Vec<_> = daily.keys().cloned().collect();
    assert_eq!(
        names,
        [
            "scores-2013-01-01.csv",
            "scores-2013-01-02.csv",
            "scores-2013-01-03.csv",
            "scores-2013-01-04.csv"
        ]
        .map(str::to_string)
    );
    assert!(daily == write("path = \"scores.csv\"\nroll = \"1d\"", &all, 25, 9));
    let whole = &write("path = \"scores.csv\"", &all, 0, 1)["scores.csv"];
    let header = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    let mut joined = whole[..header].to_vec();
    for file in daily.values() {
        assert_eq!(&file[..header], &whole[..header], "each file has the header");
        joined.extend_from_slice(&file[header..]);
    }
    assert!(&joined == whole);
    let hourly = write("path = \"scores.jsonl.zst\"\nroll = \"1h\"", &all, 3, 1);
    assert!(hourly.contains_key("scores-2013-01-01T010000Z.jsonl.zst"), "{:?}", hourly.keys());
}

#[test]
fn a_file_has_its_name_only_when_it_is_whole() {
    let all = rows(500, 3);
    for name in names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(&name);
        let plan = sink_plan("file", &format!("path = \"{name}\""));
        let mut sink = open_sink(&plan, &schema(), folder.path()).unwrap();
        sink.write(&all, &times(&all)).unwrap();
        sink.commit().unwrap();
        assert!(!path.exists(), "{name} is visible before it is whole");
        drop(sink);
        assert!(!path.exists(), "{name} is visible after a crash");
        let mut sink = open_sink(&plan, &schema(), folder.path()).unwrap();
        sink.write(&all, &times(&all)).unwrap();
        sink.close().unwrap();
        assert!(files(folder.path()) == write(&format!("path = \"{name}\""), &all, 0, 1));
    }
}

#[test]
fn a_stretch_that_is_over_is_visible_before_the_close() {
    let all = rows(3_000, 3);
    let folder = tempfile::tempdir().unwrap();
    let plan = sink_plan("file", "path = \"a/scores.parquet\"\nroll = \"1d\"");
    let mut sink = open_sink(&plan, &schema(), folder.path()).unwrap();
    assert!(files(&folder.path().join("a")).is_empty());
    sink.write(&all, &times(&all)).unwrap();
    sink.commit().unwrap();
    assert!(folder.path().join("a/scores-2013-01-03.parquet").exists());
    assert!(!folder.path().join("a/scores-2013-01-04.parquet").exists());
    sink.close().unwrap();
    assert!(folder.path().join("a/scores-2013-01-04.parquet").exists());
}

#[test]
fn no_rows_make_an_empty_file_that_can_be_read() {
    for name in names() {
        let files = write(&format!("path = \"{name}\""), &rows(0, 1), 0, 1);
        assert_eq!(files.len(), 1);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(&name), &files[&name]).unwrap();
        let plan =
            common::source_plan("file", &format!("path = \"{name}\""), schema(), folder.path());
        let mut source = common::open(&plan).unwrap();
        let read = common::read(source.as_mut(), &schema());
        assert!(read.rows.is_empty() && read.rejects.is_empty() && read.error.is_none(), "{name}");
    }
}

#[test]
fn what_cannot_be_written_is_known_at_open() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "in the way").unwrap();
    let plan = sink_plan("file", "path = \"file/scores.csv\"");
    assert!(open_sink(&plan, &schema(), folder.path()).is_err());
}

#[test]
fn checks_find_what_is_wrong_and_say_what_to_write() {
    let cases = [
        ("file", "", "file has no `path`"),
        ("file", "path = \"scores.xls\"", "the name `scores.xls` does not tell the format"),
        ("file", "path = \"scores.parquet.zst\"", "`scores.parquet.zst` is compressed twice"),
        ("file", "path = \"a.csv\"\nrolls = \"1d\"", "file has no key `rolls`"),
        ("file", "path = \"a.csv\"\nroll = \"0s\"", "`roll` is shorter than a second"),
        ("stdout", "path = \"a.csv\"", "stdout has no key `path`"),
        ("blackhole", "path = \"a.csv\"", "blackhole has no key `path`"),
    ];
    for (kind, keys, wanted) in cases {
        let entry = SINKS.iter().find(|e| e.name == kind).unwrap();
        let found = (entry.check)(&sink_plan(kind, keys)).unwrap_err();
        assert_eq!(found[0].message, wanted);
        assert!(!found[0].help.is_empty(), "{wanted} has no help");
    }
}

#[test]
fn every_sink_is_described() {
    for entry in SINKS {
        assert!(!entry.summary.is_empty(), "{}", entry.name);
        assert_eq!(SINKS.iter().filter(|e| e.name == entry.name).count(), 1);
    }
}

/// Writes rows with marks, and crashes: what was taken after a mark is lost from time to time, the file
/// ended or not, and is written again by a sink that goes on from there.
fn write_with_crashes(keys: &str, all: &RecordBatch, seed: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let plan = sink_plan("file", keys);
    let entry = SINKS.iter().find(|e| e.name == "file").unwrap();
    let reopen = entry.reopen.expect("files are gone on with");
    let mut chance = Chance(seed);
    let mut sink = open_sink(&plan, &schema(), folder.path()).unwrap();
    let (mut at, mut marked, mut crashes) = (0, (0, sink.mark().unwrap().unwrap().state), 0);
    while at < all.num_rows() || crashes < 4 {
        if crashes < 4 && (at == all.num_rows() || chance.one_in(6)) {
            crashes += 1;
            if chance.one_in(2) {
                sink.close().unwrap();
            } else {
                drop(sink);
            }
            sink = reopen(&plan, schema().to_arrow(), folder.path(), &marked.1).unwrap();
            at = marked.0;
        }
        let n = chance.below(all.num_rows() / 6 + 1).min(all.num_rows() - at);
        let part = all.slice(at, n);
        sink.write(&part, &times(&part)).unwrap();
        at += n;
        if chance.one_in(2) {
            marked = (at, sink.mark().unwrap().unwrap().state);
        }
    }
    sink.close().unwrap();
    files(folder.path())
}

#[test]
fn marks_and_crashes_never_change_a_byte() {
    let plain = names().into_iter().map(|name| format!("path = \"{name}\""));
    let others = [
        "path = \"scores.parquet\"\ncompression = \"none\"",
        "path = \"scores.parquet\"\nroll = \"1d\"",
        "path = \"scores.csv.zst\"\nroll = \"1d\"",
        "path = \"scores.csv\"\nroll = \"1d\"",
    ];
    for keys in plain.chain(others.map(str::to_string)) {
        // Groups of rows and frames of text end within these, but not at their ends.
        for (size, seed) in [(90_000, 1), (3_000, 2), (3_000, 3), (40, 4)] {
            let all = rows(size, seed);
            let once = write(&keys, &all, 0, 1);
            let crashed = write_with_crashes(&keys, &all, seed);
            let names =
                |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&crashed), names(&once), "{keys}");
            assert!(crashed == once, "{keys}: other bytes after crashes, seed {seed}");
        }
    }
}

#[test]
fn a_changed_file_is_not_gone_on_with() {
    let all = rows(5_000, 5);
    for name in names() {
        let folder = tempfile::tempdir().unwrap();
        let plan = sink_plan("file", &format!("path = \"{name}\""));
        let entry = SINKS.iter().find(|e| e.name == "file").unwrap();
        let mut sink = open_sink(&plan, &schema(), folder.path()).unwrap();
        sink.write(&all, &times(&all)).unwrap();
        let state = sink.mark().unwrap().unwrap().state;
        drop(sink);
        let partial = folder.path().join(format!(".{name}.partial"));
        let mut bytes = fs::read(&partial).unwrap();
        if name.contains(".zst") || name.contains(".gz") {
            // The first frame is not full: nothing of the file is needed.
            fs::write(&partial, b"").unwrap();
            assert!(
                (entry.reopen.unwrap())(&plan, schema().to_arrow(), folder.path(), &state).is_ok()
            );
            continue;
        }
        bytes[0] ^= 1;
        fs::write(&partial, &bytes).unwrap();
        let error = (entry.reopen.unwrap())(&plan, schema().to_arrow(), folder.path(), &state);
        let error = error.err().unwrap_or_else(|| panic!("{name} was gone on with"));
        assert!(error.to_string().contains("cannot go on with"), "{error}");
    }
}
