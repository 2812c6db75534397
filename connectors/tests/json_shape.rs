//! JSON records are read by a shortcut where they look like the one before, and files of them by several
//! threads: neither may ever show.

use std::fs;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use tidemill_connectors::format::compression::Input;
use tidemill_connectors::format::rows::Rows;
use tidemill_connectors::format::{Decoder, Entry, FORMATS, Layout, Refusal, Reject};
use tidemill_types::Schema;

mod common;
use common::{Chance, schema, show};

/// Records to compare, twice as many as damaged ones.
const CASES: usize = 200_000;

fn json() -> &'static Entry {
    FORMATS.iter().find(|format| format.name == "json").unwrap()
}

fn decoder(layout: &Layout) -> Box<dyn Decoder> {
    (json().messages.as_ref().unwrap().decoder)(layout)
}

/// A number as somebody may write it, most of the time one that is JSON.
fn number(chance: &mut Chance) -> String {
    let digits = |chance: &mut Chance, most: usize| -> String {
        let n = 1 + chance.below(most);
        (0..n).map(|_| char::from(b'0' + chance.below(10) as u8)).collect()
    };
    match chance.below(12) {
        0 => f64::from_bits(chance.next()).to_string(),
        1 => format!("{:e}", f64::from_bits(chance.next())),
        2 => (chance.next() as i64).to_string(),
        3 => chance.next().to_string(),
        4 => digits(chance, 25),
        5 => format!("-{}.{}", digits(chance, 3), digits(chance, 25)),
        6 => format!("{}.{}e{}", digits(chance, 2), digits(chance, 9), chance.below(400)),
        7 => format!("{}E-{}", digits(chance, 19), chance.below(400)),
        8 => [
            "-0", "0", "-0.0", "00", "01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1", "-01",
            "1e400",
        ][chance.below(14)]
        .to_string(),
        9 => format!("{}.{}", 9_007_199_254_740_990_u64 + chance.next() % 8, chance.below(10)),
        _ => format!("{}.{:02}", chance.below(1_000), chance.below(100)),
    }
}

fn text(chance: &mut Chance) -> String {
    let words = [
        "plain",
        "",
        "\u{fc}ml\u{e4}ut",
        "a\\nb",
        "\\u0041",
        "\\ud83d\\ude00",
        "\\ud83d",
        "tab\there",
        "2013-01-01T10:00:00Z",
        "2013-01-01T10:00:00.123456+02:00",
        "2013-02-30T10:00:00Z",
        "\u{1f600}",
    ];
    format!("\"{}\"", words[chance.below(words.len())])
}

fn value(key: &str, chance: &mut Chance) -> String {
    if chance.one_in(25) {
        let others = [
            "null",
            "true",
            "[1, {\"a\": 2}]",
            "{\"b\": [\"}\"]}",
            "nul",
            "[",
            "\"\"",
            "truefalse",
        ];
        return others[chance.below(others.len())].to_string();
    }
    match key {
        "id" => chance.below(1_000_000_000).to_string(),
        "at" if chance.one_in(2) => text(chance),
        "at" => (1_357_000_000_000_000 + chance.below(1 << 40) as i64).to_string(),
        "ok" => ["true", "false"][chance.below(2)].to_string(),
        "name" | "note" => text(chance),
        _ => number(chance),
    }
}

/// A record; nearly always with the same keys in the same order, written the same way.
fn record(chance: &mut Chance, keys: &[&str], blank: &str) -> Vec<u8> {
    let mut keys = keys.to_vec();
    if chance.one_in(30) {
        let (a, b) = (chance.below(keys.len()), chance.below(keys.len()));
        keys.swap(a, b);
    }
    if chance.one_in(30) {
        keys.remove(chance.below(keys.len()));
    }
    if chance.one_in(60) {
        keys.push(["id", "new", "ok"][chance.below(3)]);
    }
    let blank = if chance.one_in(40) { "  \t" } else { blank };
    let members: Vec<String> =
        keys.iter().map(|key| format!("\"{key}\":{blank}{}", value(key, chance))).collect();
    let mut bytes = format!("{{{}}}", members.join(&format!(",{blank}"))).into_bytes();
    if chance.one_in(12) {
        let at = chance.below(bytes.len());
        match chance.below(3) {
            0 => {
                let odd = b"\"\\{}[]:,0-.e\x00\xff n";
                bytes[at] = odd[chance.below(odd.len())];
            }
            1 => {
                bytes.remove(at);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

type Read = Result<(String, Option<u64>), Refusal>;

fn read(decoder: &mut dyn Decoder, record: &[u8], rows: &mut Rows) -> Read {
    decoder.decode(record, rows)?;
    let batch = rows.finish().unwrap();
    assert_eq!(batch.num_rows(), 1);
    let price = batch.column(2).as_primitive::<Float64Type>();
    Ok((show(&batch, 0), price.is_valid(0).then(|| price.value(0).to_bits())))
}

#[test]
fn a_record_means_the_same_whatever_came_before_it() {
    let layout = Layout::new(schema());
    let mut chance = Chance(17);
    let (mut taken, mut refused) = (0, 0);
    // A stream keeps its form for a while.
    for stream in 0..CASES / 500 {
        let mut keys =
            vec!["id", "at", "x", "price", "name", "a_key_of_more_than_two_words", "note", "ok"];
        keys.truncate(3 + chance.below(6));
        let blank = if stream % 2 == 0 { "" } else { " " };
        let mut long_lived = decoder(&layout);
        let (mut one, mut other) = (Rows::new(&schema()), Rows::new(&schema()));
        for _ in 0..500 {
            let record = record(&mut chance, &keys, blank);
            // The first record that a decoder reads has nothing before it: the general parser reads it.
            let wanted = read(&mut *decoder(&layout), &record, &mut other);
            let found = read(&mut *long_lived, &record, &mut one);
            assert_eq!(found, wanted, "{}", String::from_utf8_lossy(&record));
            *if wanted.is_ok() { &mut taken } else { &mut refused } += 1;
        }
    }
    assert!(taken > CASES / 4 && refused > CASES / 20, "{taken} taken, {refused} refused");
}

#[test]
fn a_stream_is_read_as_its_records_are() {
    let layout = Layout::new(schema());
    let keys = ["id", "at", "x", "price", "name", "note", "ok"];
    let mut chance = Chance(23);
    for _ in 0..40 {
        let (mut decoder, mut rows) = (decoder(&layout), Rows::new(&schema()));
        let mut wanted = Vec::new();
        for _ in 0..500 {
            let record = record(&mut chance, &keys, "");
            if decoder.decode(&record, &mut rows).is_ok() {
                let mut alone = Rows::new(&schema());
                self::decoder(&layout).decode(&record, &mut alone).unwrap();
                wanted.push(show(&alone.finish().unwrap(), 0));
            }
        }
        let all = rows.finish().unwrap();
        let found: Vec<String> = (0..all.num_rows()).map(|row| show(&all, row)).collect();
        assert_eq!(found, wanted);
    }
}

/// Rows with their lines, and what was refused.
type Found = (Vec<(u64, String)>, Vec<Reject>, u64);

fn file(path: &Path, layout: &Layout) -> Found {
    let mut reader = (json().reader)(&Input::new(path), layout).unwrap();
    let (mut rows, mut rejects) = (Vec::new(), Vec::new());
    while let Some(part) = reader.read(4_096).unwrap() {
        let batch: &RecordBatch = &part.rows;
        rows.extend((0..batch.num_rows()).map(|row| (part.lines[row], show(batch, row))));
        rejects.extend(part.rejects);
    }
    (rows, rejects, reader.position())
}

/// What a file means, by the words of the contract: a record a line, numbered from 1.
fn naive(bytes: &[u8], layout: &Layout) -> Found {
    let (mut found, mut rejects, mut lines) = (Vec::new(), Vec::new(), 0);
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        lines += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= layout.max_record && line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let mut rows = Rows::new(&schema());
        match decoder(layout).decode(line, &mut rows) {
            Ok(()) => found.push((lines, show(&rows.finish().unwrap(), 0))),
            Err(mut refusal) => {
                // A line that is too long is not read whole.
                if line.len() > layout.max_record {
                    refusal.detail += "; its beginning is kept";
                }
                let kept = &line[..line.len().min(layout.max_record)];
                let raw = kept.strip_suffix(b"\r").unwrap_or(kept).to_vec();
                rejects.push(Reject { line: lines, refusal, raw });
            }
        }
    }
    (found, rejects, lines)
}

#[test]
fn a_file_is_its_lines_however_many_threads_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let keys = ["id", "at", "price", "name", "ok"];
    let mut chance = Chance(29);
    for (round, records) in [0, 1, 2, 30_000, 25_000, 20_000].into_iter().enumerate() {
        let mut bytes = Vec::new();
        for _ in 0..records {
            match chance.below(300) {
                0 => bytes.extend_from_slice(b" \t"),
                1 => bytes.extend(std::iter::repeat_n(b'x', chance.below(2_000))),
                2 if chance.one_in(20) => bytes.extend(std::iter::repeat_n(b'"', 1_500_000)),
                3 => bytes.extend_from_slice(b"\xff\xfe"),
                _ => bytes.extend(record(&mut chance, &keys, "").iter().filter(|b| **b != b'\n')),
            }
            bytes.extend_from_slice(
                [&b"\n"[..], b"\r\n", b"\n\n"][chance.below(20).saturating_sub(17)],
            );
        }
        if round % 2 == 0 {
            bytes.pop();
        }
        if bytes.starts_with(b"\xff\xfe") {
            bytes.insert(0, b'\n');
        }
        fs::write(&path, &bytes).unwrap();
        for max_record in [1 << 20, 700] {
            let layout = Layout { max_record, ..Layout::new(schema()) };
            let wanted = naive(&bytes, &layout);
            for threads in [1, 2, 3] {
                let found = file(&path, &Layout { threads, ..layout.clone() });
                assert!(
                    found == wanted,
                    "{records} records, {max_record} bytes, {threads} threads"
                );
            }
        }
    }
}

#[test]
fn columns_that_a_record_lacks_are_null_in_any_shape() {
    let schema: Schema = schema();
    let layout = Layout::new(schema.clone());
    let (mut decoder, mut rows) = (decoder(&layout), Rows::new(&schema));
    for record in
        [&b"{\"id\":1}"[..], b"{\"id\":2}", b"{\"id\":3,\"ok\":true}", b"{\"id\":4}", b"{}"]
    {
        decoder.decode(record, &mut rows).unwrap();
    }
    let all = rows.finish().unwrap();
    let found: Vec<String> = (0..all.num_rows()).map(|row| show(&all, row)).collect();
    assert_eq!(found, ["1|-|-|-|-", "2|-|-|-|-", "3|-|-|-|true", "4|-|-|-|-", "-|-|-|-|-"]);
}
