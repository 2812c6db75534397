//! Broken inputs, each with its exact outcome: the rows that are left, the dead letters, the error.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Int32Array, NullArray, RecordBatch, StringArray, TimestampSecondArray, UInt64Array,
};
use tidemill_connectors::source::Polled;
use tidemill_types::{DataType, Item, Schema};

mod common;
use common::{Read, open, read, source_plan};

/// What came of a file.
struct Outcome {
    rows: &'static [&'static str],
    /// Line, reason, detail.
    rejects: &'static [(u64, &'static str, &'static str)],
    /// The beginning of the error's text, with its help.
    error: Option<&'static str>,
}

const fn rows(rows: &'static [&'static str]) -> Outcome {
    Outcome { rows, rejects: &[], error: None }
}

const fn rejects(
    rows: &'static [&'static str],
    rejects: &'static [(u64, &'static str, &'static str)],
) -> Outcome {
    Outcome { rows, rejects, error: None }
}

const fn error(text: &'static str) -> Outcome {
    Outcome { rows: &[], rejects: &[], error: Some(text) }
}

fn columns() -> Schema {
    Schema::new([
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::String),
        ("b", DataType::Bool),
        ("t", DataType::Timestamp),
    ])
}

fn run(folder: &Path, name: &str, keys: &str) -> Read {
    let keys = format!("path = \"{name}\"\n{keys}");
    let plan = source_plan("file", &keys, columns(), folder);
    match open(&plan) {
        Ok(mut source) => read(source.as_mut(), &columns()),
        Err(error) => Read { error: Some(error), ..Read::default() },
    }
}

fn check(kind: &str, found: &Read, wanted: &Outcome) {
    assert_eq!(found.texts(), wanted.rows, "{kind}: rows");
    let rejects: Vec<_> = found
        .rejects
        .iter()
        .map(|d| (d.provenance.offset, d.reason.as_str(), d.detail.as_str()))
        .collect();
    assert_eq!(rejects, wanted.rejects, "{kind}: dead letters");
    match (&found.error, wanted.error) {
        (None, None) => {}
        (Some(found), Some(wanted)) => {
            assert!(found.to_string().starts_with(wanted), "{kind}: {found}");
            assert!(found.help.is_some(), "{kind}: no help");
        }
        (found, wanted) => panic!("{kind}: found {found:?}, wanted {wanted:?}"),
    }
}

/// A row of nothing but `i`.
const ONE: &[&str] = &["1|-|-|-|-"];

/// JSON lines, one broken record between two good ones, and what refuses it.
const JSON_RECORDS: &[(&str, &[u8], &str, &str)] = &[
    (
        "truncated",
        b"{\"i\":1",
        "parse",
        "not a JSON object: EOF while parsing an object at line 1 column 6",
    ),
    (
        "truncated text",
        b"{\"s\":\"ab",
        "parse",
        "not a JSON object: EOF while parsing a string at line 1 column 8",
    ),
    (
        "trailing comma",
        b"{\"i\":1,}",
        "parse",
        "not a JSON object: trailing comma at line 1 column 8",
    ),
    (
        "two objects",
        b"{\"i\":1}{\"i\":2}",
        "parse",
        "not a JSON object: trailing characters at line 1 column 8",
    ),
    ("NaN", b"{\"f\":NaN}", "parse", "not a JSON object: expected value at line 1 column 6"),
    (
        "infinity",
        b"{\"f\":-Infinity}",
        "parse",
        "not a JSON object: invalid number at line 1 column 7",
    ),
    (
        "beyond f64",
        b"{\"f\":1e999}",
        "parse",
        "not a JSON object: number out of range at line 1 column 10",
    ),
    (
        "duplicate key",
        b"{\"i\":1,\"i\":1}",
        "parse",
        "column i: the key stands twice in the object",
    ),
    (
        "lone surrogate",
        b"{\"s\":\"\\ud800\"}",
        "parse",
        "not a JSON object: unexpected end of hex escape at line 1 column 13",
    ),
    (
        "control byte",
        b"{\"s\":\"a\0\"}",
        "parse",
        "not a JSON object: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 8",
    ),
    ("bad UTF-8", b"{\"s\":\"\xff\"}", "encoding", "byte 7 (0xff) is not UTF-8"),
    ("UTF-8 overlong", b"{\"s\":\"\xc0\xaf\"}", "encoding", "byte 7 (0xc0) is not UTF-8"),
    ("top-level array", b"[{\"i\":1}]", "type", "a record must be a JSON object, found an array"),
    ("top-level null", b"null", "type", "a record must be a JSON object, found null"),
    ("top-level number", b"12", "type", "a record must be a JSON object, found a number"),
    (
        "int overflow",
        b"{\"i\":9223372036854775808}",
        "type",
        "column i: found the number 9223372036854775808, wanted int64 (64 bits, signed)",
    ),
    (
        "int far below",
        b"{\"i\":-9223372036854775809}",
        "type",
        "column i: found -9223372036854776000, wanted int64 (a whole number written as a float is exact up to 2^53 only)",
    ),
    ("float for int", b"{\"i\":1.5}", "type", "column i: found 1.5, wanted int64"),
    ("text for int", b"{\"i\":\"1\"}", "type", "column i: found the string \"1\", wanted int64"),
    ("bool for int", b"{\"i\":true}", "type", "column i: found true, wanted int64"),
    ("int for bool", b"{\"b\":1}", "type", "column b: found the number 1, wanted bool"),
    ("bool for float", b"{\"f\":false}", "type", "column f: found false, wanted float64"),
    ("int for text", b"{\"s\":1}", "type", "column s: found the number 1, wanted string"),
    ("object for text", b"{\"s\":{\"a\":1}}", "type", "column s: found an object, wanted string"),
    ("array for text", b"{\"s\":[1]}", "type", "column s: found an array, wanted string"),
    (
        "no time",
        b"{\"t\":\"soon\"}",
        "type",
        "column t: found \"soon\", wanted timestamp as in 2013-01-01T10:00:00Z (RFC 3339)",
    ),
    (
        "no such day",
        b"{\"t\":\"2013-02-29\"}",
        "type",
        "column t: found \"2013-02-29\", wanted timestamp as in 2013-01-01T10:00:00Z (RFC 3339)",
    ),
    ("part of a microsecond", b"{\"t\":0.5}", "type", "column t: found 0.5, wanted timestamp"),
];

#[test]
fn json_records() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, record, reason, detail) in JSON_RECORDS {
        let text = [b"{\"i\":1}\n", *record, b"\n{\"i\":1}\n"].concat();
        fs::write(folder.path().join("a.jsonl"), text).unwrap();
        let found = run(folder.path(), "a.jsonl", "");
        assert_eq!(found.texts(), ["1|-|-|-|-", "1|-|-|-|-"], "{kind}");
        let [dead] = &found.rejects[..] else { panic!("{kind}: {:?}", found.rejects) };
        assert_eq!((dead.reason.as_str(), dead.detail.as_str()), (*reason, *detail), "{kind}");
        assert_eq!((dead.provenance.offset, &dead.raw[..]), (2, *record), "{kind}");
        assert!(found.error.is_none(), "{kind}");
    }
}

/// CSV records likewise.
const CSV_RECORDS: &[(&str, &[u8], &str, &str)] = &[
    ("too few fields", b"1,2", "parse", "the record has 2 fields, wanted 5"),
    ("too many fields", b"1,,,,,", "parse", "the record has 6 fields, wanted 5"),
    ("text behind a quote", b"1,,\"a\"b,,", "parse", "field 3: text behind a closing quote"),
    ("bad UTF-8", b"1,,\xff,,", "encoding", "byte 4 (0xff) is not UTF-8"),
    ("NUL for a number", b"\0,,,,", "type", "column i: found \"\\0\", wanted int64"),
    ("text for int", b"one,,,,", "type", "column i: found \"one\", wanted int64"),
    ("blank before a number", b" 1,,,,", "type", "column i: found \" 1\", wanted int64"),
    (
        "int overflow",
        b"9223372036854775808,,,,",
        "type",
        "column i: found \"9223372036854775808\", wanted int64 (64 bits, signed)",
    ),
    ("float for int", b"1.5,,,,", "type", "column i: found 1.5, wanted int64"),
    ("NaN", b"1,NaN,,,", "type", "column f: found \"NaN\", wanted float64 (finite)"),
    ("infinity", b"1,-inf,,,", "type", "column f: found \"-inf\", wanted float64 (finite)"),
    ("beyond f64", b"1,1e999,,,", "type", "column f: found \"1e999\", wanted float64 (finite)"),
    ("int for bool", b"1,,,1,", "type", "column b: found \"1\", wanted bool (true or false)"),
    (
        "bare number for time",
        b"1,,,,2013",
        "type",
        "column t: found \"2013\", wanted timestamp as in 2013-01-01T10:00:00Z (RFC 3339)",
    ),
    (
        "a long text is cut",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,,,,",
        "type",
        "column i: found \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"... (50 bytes), wanted int64",
    ),
];

#[test]
fn csv_records() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, record, reason, detail) in CSV_RECORDS {
        let text = [b"i,f,s,b,t\n1,,,,\n", *record, b"\n1,,,,\n"].concat();
        fs::write(folder.path().join("a.csv"), text).unwrap();
        let found = run(folder.path(), "a.csv", "");
        assert_eq!(found.texts(), ["1|-|-|-|-", "1|-|-|-|-"], "{kind}");
        let [dead] = &found.rejects[..] else { panic!("{kind}: {:?}", found.rejects) };
        assert_eq!((dead.reason.as_str(), dead.detail.as_str()), (*reason, *detail), "{kind}");
        assert_eq!((dead.provenance.offset, &dead.raw[..]), (3, *record), "{kind}");
        assert!(found.error.is_none(), "{kind}");
    }
}

/// Whole files: name, bytes, outcome.
const FILES: &[(&str, &str, &[u8], Outcome)] = &[
    ("empty JSON", "a.jsonl", b"", rows(&[])),
    ("only line ends", "a.jsonl", b"\n\r\n \n\n", rows(&[])),
    ("empty lines between", "a.jsonl", b"\n{\"i\":1}\n\n\n", rows(ONE)),
    ("no last line end", "a.jsonl", b"{\"i\":1}", rows(ONE)),
    (
        "carriage returns",
        "a.jsonl",
        b"{\"i\":1}\r\n{\"s\":\"\"}\r\n",
        rows(&["1|-|-|-|-", "-|-||-|-"]),
    ),
    ("byte order mark", "a.jsonl", b"\xef\xbb\xbf{\"i\":1}\n", rows(ONE)),
    (
        "undeclared key, however deep",
        "a.jsonl",
        b"{\"x\":[[[[{\"i\":[2]}]]]],\"i\":1}\n",
        rows(ONE),
    ),
    ("whole float for int", "a.jsonl", b"{\"i\":1.0}\n", rows(ONE)),
    ("int for float", "a.jsonl", b"{\"f\":1}\n", rows(&["-|1.0|-|-|-"])),
    (
        "microseconds for time",
        "a.jsonl",
        b"{\"t\":1000000}\n",
        rows(&["-|-|-|-|1970-01-01T00:00:01Z"]),
    ),
    (
        "year 9999 is the engine's",
        "a.jsonl",
        b"{\"t\":\"9999-12-31T23:59:59Z\"}\n",
        rows(&["-|-|-|-|9999-12-31T23:59:59Z"]),
    ),
    ("no time is the engine's", "a.jsonl", b"{\"t\":null}\n", rows(&["-|-|-|-|-"])),
    ("escaped NUL", "a.jsonl", b"{\"s\":\"\\u0000\"}\n", rows(&["-|-|\0|-|-"])),
    (
        "an array over lines",
        "a.json",
        b"[\n{\"i\":1}\n]\n",
        rejects(
            ONE,
            &[
                (1, "type", "a record must be a JSON object, found an array"),
                (3, "parse", "not a JSON object: expected value at line 1 column 1"),
            ],
        ),
    ),
    (
        "UTF-16",
        "a.jsonl",
        b"\xff\xfe{\0}\0",
        error("a.jsonl is UTF-16 text, not UTF-8 text (convert it to UTF-8)"),
    ),
    ("empty CSV", "a.csv", b"", error("a.csv is empty: it has no header (")),
    ("header only", "a.csv", b"i,f,s,b,t\n", rows(&[])),
    ("header without line end", "a.csv", b"i,f,s,b,t", rows(&[])),
    ("byte order mark in CSV", "a.csv", b"\xef\xbb\xbfi,f,s,b,t\n1,,,,\n", rows(ONE)),
    ("carriage returns in CSV", "a.csv", b"i,f,s,b,t\r\n1,,,,\r\n", rows(ONE)),
    ("quoted header", "a.csv", b"\"i\",\"f\",s,b,t\n1,,,,\n", rows(ONE)),
    ("extra column", "a.csv", b"x,i,f,s,b,t\nx,1,,,,\n", rows(ONE)),
    (
        "missing column",
        "a.csv",
        b"i,f,s,b\n1,,,\n",
        error("a.csv has no column t (its columns are i, f, s, b)"),
    ),
    (
        "misspelt column",
        "a.csv",
        b"i,f,s,b,T\n",
        error("a.csv has no column t (did you mean `T`?)"),
    ),
    (
        "duplicate header",
        "a.csv",
        b"i,f,s,b,t,i\n",
        error("a.csv has two columns named i (which of them is meant cannot be known: rename one)"),
    ),
    ("duplicate of an undeclared header", "a.csv", b"x,i,f,s,b,t,x\n,1,,,,,\n", rows(ONE)),
    (
        "header in Latin-1",
        "a.csv",
        b"i,f,s,b,t,\xe9\n",
        error("a.csv: the header cannot be read: byte 11 (0xe9) is not UTF-8 ("),
    ),
    (
        "open quote",
        "a.csv",
        b"i,f,s,b,t\n1,,\"a,,\n1,,,,\n",
        rejects(ONE, &[(2, "parse", "a quote opens here and does not close within 1048576 bytes")]),
    ),
    (
        "open quote in the last line",
        "a.csv",
        b"i,f,s,b,t\n1,,,,\n1,,\"",
        rejects(ONE, &[(3, "parse", "a quote opens here and does not close within 1048576 bytes")]),
    ),
    ("quote inside a field", "a.csv", b"i,f,s,b,t\n,,5\" disk,,\n", rows(&["-|-|5\" disk|-|-"])),
    ("line end inside quotes", "a.csv", b"i,f,s,b,t\n,,\"a\nb\",,\n", rows(&["-|-|a\nb|-|-"])),
    ("whole float for int in CSV", "a.csv", b"i,f,s,b,t\n1.0,,,,\n", rows(ONE)),
    ("NUL in a text", "a.csv", b"i,f,s,b,t\n,,\0,,\n", rows(&["-|-|\0|-|-"])),
    (
        "CSV in JSON's clothes",
        "a.jsonl",
        b"i,f\n1,2\n",
        rejects(
            &[],
            &[
                (1, "parse", "not a JSON object: expected value at line 1 column 1"),
                (2, "type", "a record must be a JSON object, found a number"),
            ],
        ),
    ),
    (
        "Parquet in CSV's clothes",
        "a.csv",
        b"PAR1aaaaaaaa",
        error("a.csv is Parquet, not UTF-8 text (format = \"parquet\")"),
    ),
    (
        "gzip without the ending",
        "a.csv",
        b"\x1f\x8b\x08\0\0\0\0\0",
        error("a.csv is compressed (rename it to end in .gz)"),
    ),
    (
        "zstd without the ending",
        "a.csv",
        b"\x28\xb5\x2f\xfd\0\0",
        error("a.csv is compressed (rename it to end in .zst)"),
    ),
    (
        "plain text named .gz",
        "a.csv.gz",
        b"i,f,s,b,t\n1,,,,\n",
        error(
            "a.csv.gz does not begin as a .gz file does (take the ending off its name if it is not compressed)",
        ),
    ),
    (
        "plain text named .zst",
        "a.csv.zst",
        b"i,f,s,b,t\n1,,,,\n",
        error(
            "a.csv.zst does not begin as a .zst file does (take the ending off its name if it is not compressed)",
        ),
    ),
    ("text named .parquet", "a.parquet", b"i,f,s,b,t\n1,,,,\n", error("a.parquet is damaged: ")),
    ("empty Parquet", "a.parquet", b"", error("a.parquet is damaged: ")),
    ("text named .arrow", "a.arrow", b"i,f,s,b,t\n1,,,,\n", error("a.arrow is damaged: ")),
    (
        "unknown ending",
        "a.xls",
        b"",
        error(
            "the name `a.xls` does not tell the format: known endings are jsonl, json, ndjson, csv, parquet, arrow, arrows, feather, ipc (name the file so, or add `format = \"csv\"`)",
        ),
    ),
    ("Parquet packed again", "a.parquet.gz", b"", error("`a.parquet.gz` is compressed twice: ")),
];

#[test]
fn files() {
    for (kind, name, bytes, wanted) in FILES {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        check(kind, &run(folder.path(), name, ""), wanted);
    }
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a.csv")).unwrap();
    check(
        "folder",
        &run(folder.path(), "a.csv", ""),
        &error("cannot read a.csv: it is a folder (name a file"),
    );
    check("absent", &run(folder.path(), "b.csv", ""), &error("cannot read b.csv: No such file"));
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "i,f,s,b,t\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read it all the same.
    let wanted = match fs::File::open(&path) {
        Ok(_) => rows(&[]),
        Err(_) => error("cannot read a.csv: Permission denied"),
    };
    check("unreadable", &run(folder.path(), "a.csv", ""), &wanted);
}

#[test]
fn records_beyond_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(3_000_000);
    let cases = [
        ("a.jsonl", format!("{{\"i\":1}}\n{{\"s\":\"{long}\"}}\n{{\"i\":1}}\n"), 2, 3_000_008),
        ("a.csv", format!("i,f,s,b,t\n1,,,,\n,,{long},,\n1,,,,\n"), 3, 3_000_004),
    ];
    for (name, text, line, bytes) in cases {
        fs::write(folder.path().join(name), text).unwrap();
        let found = run(folder.path(), name, "");
        assert_eq!(found.texts(), ["1|-|-|-|-", "1|-|-|-|-"], "{name}");
        let [dead] = &found.rejects[..] else {
            panic!("{name}: {} dead letters", found.rejects.len())
        };
        assert_eq!((dead.reason.as_str(), dead.provenance.offset), ("too_large", line), "{name}");
        assert_eq!(
            dead.detail,
            format!("the record has {bytes} bytes, `max_record` is 1048576; its beginning is kept")
        );
        assert_eq!(dead.raw.len(), 1 << 20);
    }
    // The limit itself is still taken, with either line end and with none.
    for end in ["\n", "\r\n", ""] {
        fs::write(folder.path().join("a.jsonl"), format!("{{\"i\":1}}{end}")).unwrap();
        assert_eq!(run(folder.path(), "a.jsonl", "max_record = 7").texts(), ONE);
        assert_eq!(run(folder.path(), "a.jsonl", "max_record = 6").rejects.len(), 1);
    }
}

/// What is refused is handed over before it fills the memory, however many rows might still be read.
#[test]
fn records_that_are_refused_are_handed_over_by_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(1 << 20);
    for (name, head) in [("a.jsonl", ""), ("a.csv", "i,f,s,b,t\n")] {
        let text = format!("{head}{}", format!("{long}\n").repeat(40));
        fs::write(folder.path().join(name), text).unwrap();
        let plan = source_plan("file", &format!("path = \"{name}\""), columns(), folder.path());
        let mut source = open(&plan).unwrap();
        let mut found = 0;
        while let Polled::Chunk(chunk) = source.poll(Duration::ZERO).unwrap() {
            let bytes: usize = chunk.rejects.iter().map(|dead| dead.raw.len()).sum();
            assert!(bytes <= 9 << 20, "{name}: {bytes} bytes at once");
            found += chunk.rejects.len();
        }
        assert_eq!(found, 40, "{name}");
    }
}

#[test]
fn deep_nesting_in_a_declared_column_and_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let text = format!("{{\"s\":{open}{close}}}\n{{\"x\":{open}{close},\"i\":1}}\n");
    fs::write(folder.path().join("a.jsonl"), text).unwrap();
    let found = run(folder.path(), "a.jsonl", "");
    assert_eq!(found.texts(), ONE);
    assert_eq!(found.rejects[0].detail, "column s: found an array, wanted string");
}

/// Numbered rows, packed, and broken off at half of the bytes.
fn truncated(name: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> (Read, usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("i,f,s,b,t\n");
    let mut chance = common::Chance(7);
    for i in 0..200_000 {
        text.push_str(&format!("{i},0.{},,,\n", chance.next()));
    }
    let packed = pack(text.as_bytes());
    fs::write(folder.path().join(name), &packed[..packed.len() / 2]).unwrap();
    (run(folder.path(), name, ""), 200_000)
}

#[test]
fn a_truncated_archive_gives_every_row_before_the_break_and_then_the_error() {
    let gzip = |bytes: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    };
    let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (name, (found, all)) in
        [("a.csv.gz", truncated("a.csv.gz", gzip)), ("a.csv.zst", truncated("a.csv.zst", zst))]
    {
        let error = found.error.as_ref().expect(name).to_string();
        assert!(error.starts_with(&format!("{name}: broken after line ")), "{error}");
        assert!(error.contains("every row before the break was read"), "{error}");
        // Half of the bytes are about half of the rows; a block of zstd is 128 KiB of text.
        assert!(
            found.rows.len() > all * 2 / 5 && found.rows.len() < all * 3 / 5,
            "{}",
            found.rows.len()
        );
        assert!(found.rejects.is_empty());
        let in_order = |(i, row): (usize, &(u32, u64, String))| row.2.starts_with(&format!("{i}|"));
        assert!(found.rows.iter().enumerate().all(in_order));
    }
}

#[test]
fn a_corrupt_archive_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("i,f,s,b,t\n");
    (0..100_000).for_each(|i| text.push_str(&format!("{i},,,,\n")));
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    let mut packed = encoder.finish().unwrap();
    let middle = packed.len() / 2;
    packed[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(folder.path().join("a.csv.zst"), packed).unwrap();
    let found = run(folder.path(), "a.csv.zst", "");
    let error = found.error.expect("an error").to_string();
    assert!(error.starts_with("a.csv.zst: broken after line "), "{error}");
}

fn parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_of_other_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let read_as = |wanted: &Schema| {
        let plan = source_plan("file", "path = \"a.parquet\"", wanted.clone(), folder.path());
        match open(&plan) {
            Ok(mut source) => read(source.as_mut(), wanted),
            Err(error) => Read { error: Some(error), ..Read::default() },
        }
    };

    let i32s: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 2]));
    parquet(&path, vec![("i", i32s.clone()), ("t", times)]);
    let wanted = Schema::new([("t", DataType::Timestamp), ("i", DataType::Int64)]);
    check(
        "narrower types",
        &read_as(&wanted),
        &rows(&["1970-01-01T00:00:01Z|1", "1970-01-01T00:00:02Z|-"]),
    );

    let wanted = Schema::new([("i", DataType::String)]);
    check(
        "a number for a text",
        &read_as(&wanted),
        &error("a.parquet: column i is Int32, wanted string (declare"),
    );
    let wanted = Schema::new([("j", DataType::Int64)]);
    check(
        "a missing column",
        &read_as(&wanted),
        &error("a.parquet has no column j (its columns are i, t)"),
    );

    let u64s: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX, 9]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
    parquet(&path, vec![("i", u64s), ("s", texts)]);
    let wanted = Schema::new([("i", DataType::Int64), ("s", DataType::String)]);
    const DETAIL: &str = "column i: found 18446744073709551615, wanted int64 (out of range)";
    check("beyond 64 bits", &read_as(&wanted), &rejects(&["7|a", "9|c"], &[(2, "type", DETAIL)]));

    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    check("truncated", &read_as(&wanted), &error("a.parquet is damaged: "));
}

#[test]
fn a_truncated_arrow_file_gives_the_batches_before_the_break_and_then_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let name = "a.arrow";
    let all = common::rows(150_000, 3);
    let plan = common::sink_plan("file", "path = \"a.arrow\"");
    let mut sink = common::open_sink(&plan, &common::schema(), folder.path()).unwrap();
    sink.write(&all, &common::times(&all)).unwrap();
    sink.close().unwrap();
    let bytes = fs::read(folder.path().join(name)).unwrap();
    let wanted = common::schema();
    for (left, rows) in [(bytes.len() / 2, 65_536), (bytes.len() - 1, 150_000), (100, 0)] {
        fs::write(folder.path().join(name), &bytes[..left]).unwrap();
        let plan = source_plan("file", "path = \"a.arrow\"", wanted.clone(), folder.path());
        let found = match open(&plan) {
            Ok(mut source) => read(source.as_mut(), &wanted),
            Err(error) => Read { error: Some(error), ..Read::default() },
        };
        assert_eq!(found.rows.len(), rows, "of {left} bytes");
        let error = found.error.expect("an error").to_string();
        assert!(error.starts_with("a.arrow is damaged: "), "{error}");
    }
}

/// What a file says of itself is looked at before the first row is read.
#[test]
fn parquet_that_is_not_to_be_read_is_refused_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let wanted = Schema::new([("i", DataType::Int64)]);
    let read_it = |wanted: &Schema| {
        let plan = source_plan("file", "path = \"a.parquet\"", wanted.clone(), folder.path());
        match open(&plan) {
            Ok(mut source) => read(source.as_mut(), wanted),
            Err(error) => Read { error: Some(error), ..Read::default() },
        }
    };
    // One row, written by PyArrow.
    fs::write(&path, include_bytes!("data/gzip.parquet")).unwrap();
    check(
        "gzip",
        &read_it(&wanted),
        &error(
            "a.parquet is packed with gzip, which is not read (write it with zstd, snappy or no",
        ),
    );
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    parquet(&path, vec![("i", numbers.clone()), ("i", numbers.clone())]);
    check(
        "two of one name",
        &read_it(&wanted),
        &error("a.parquet has two columns named i (which of them is meant"),
    );
    // A column without a value has no type: it is NULL throughout, whatever it was declared as.
    let nothing: ArrayRef = Arc::new(NullArray::new(2));
    parquet(&path, vec![("i", numbers), ("s", nothing.clone()), ("l", nothing)]);
    let wanted = Schema::new([
        ("i", DataType::Int64),
        ("s", DataType::String),
        ("l", DataType::List(Item::Float64)),
    ]);
    check("nothing", &read_it(&wanted), &rows(&["1|-|-", "2|-|-"]));
}
