//! Laws of every format.

#![allow(clippy::print_stdout)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tidemill_connectors::format::compression::Input;
use tidemill_connectors::format::rows::Rows;
use tidemill_connectors::format::{Entry, FORMATS, Layout, Packing, Reject};
use tidemill_types::{DataType, Error, Schema};

mod common;
use common::{Chance, rows, schema};

/// A writer that a test can look into.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn written(format: &Entry, rows: &RecordBatch) -> Vec<u8> {
    let bytes = Bytes::default();
    let mut writer =
        (format.writer)(Box::new(bytes.clone()), &rows.schema(), Packing::default()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    let bytes = bytes.0.lock().unwrap();
    bytes.clone()
}

/// Everything that a file holds: rows with their lines, rejects, and the error that ended it.
type Found = (Vec<RecordBatch>, Vec<u64>, Vec<Reject>, Option<Error>);

fn read(format: &Entry, path: &Path, layout: &Layout) -> Found {
    let (mut batches, mut lines, mut rejects) = (vec![], vec![], vec![]);
    let mut reader = match (format.reader)(&Input::new(path), layout) {
        Ok(reader) => reader,
        Err(error) => return (batches, lines, rejects, Some(error)),
    };
    loop {
        match reader.read(100) {
            Ok(Some(part)) => {
                assert_eq!(part.rows.num_rows(), part.lines.len());
                assert!(part.rows.num_rows() + part.rejects.len() > 0, "a part holds something");
                batches.push(part.rows);
                lines.extend(part.lines);
                rejects.extend(part.rejects);
            }
            Ok(None) => return (batches, lines, rejects, None),
            Err(error) => {
                assert!(reader.read(100).is_err(), "an error stays");
                return (batches, lines, rejects, Some(error));
            }
        }
    }
}

fn assert_same(a: &RecordBatch, b: &RecordBatch, what: &str) {
    assert_eq!(a, b, "{what}");
    let bits = |rows: &RecordBatch| -> Vec<_> {
        let floats = rows.column(2).as_primitive::<Float64Type>();
        floats.iter().map(|f| f.map(f64::to_bits)).collect()
    };
    assert_eq!(bits(a), bits(b), "{what}: the bits of floats");
}

#[test]
fn files_keep_their_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(1_000, 11);
    for format in FORMATS {
        for extension in format.extensions {
            let path = folder.path().join(format!("a.{extension}"));
            fs::write(&path, written(format, &all)).unwrap();
            let (batches, lines, rejects, error) = read(format, &path, &Layout::new(schema()));
            assert!(rejects.is_empty() && error.is_none(), "{extension}: {rejects:?} {error:?}");
            assert!(lines.is_sorted_by(|a, b| a < b), "line numbers grow");
            let again = concat_batches(&all.schema(), &batches).unwrap();
            assert_same(&again, &all, format.name);
        }
    }
}

#[test]
fn parquet_keeps_its_meaning_however_it_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let format = FORMATS.iter().find(|format| format.packs).unwrap();
    // Columns with and without NULLs, in a group that comes in parts and in one that is not full.
    let all = rows(70_000, 19);
    let mut bytes = Vec::new();
    for packing in [Packing::Zstd, Packing::Snappy, Packing::Plain] {
        let path = folder.path().join(format!("{packing:?}.parquet"));
        let file = fs::File::create(&path).unwrap();
        let mut writer = (format.writer)(Box::new(file), &all.schema(), packing).unwrap();
        for (start, n) in [(0, 1_000), (1_000, 0), (1_000, 68_000), (69_000, 1_000)] {
            writer.write(&all.slice(start, n)).unwrap();
        }
        writer.finish().unwrap();
        let (batches, lines, rejects, error) = read(format, &path, &Layout::new(schema()));
        assert!(rejects.is_empty() && error.is_none(), "{packing:?}: {error:?}");
        assert_eq!(lines.len(), all.num_rows());
        assert_same(&concat_batches(&all.schema(), &batches).unwrap(), &all, "parquet");
        bytes.push(fs::metadata(&path).unwrap().len());
    }
    assert!(bytes.is_sorted_by(|a, b| a < b), "{bytes:?}: less work, larger files");
}

/// Long texts end a group before they fill the memory or are more than a column holds, wherever rows are cut.
#[test]
fn a_group_of_a_columnar_file_ends_by_its_bytes_too() {
    let folder = tempfile::tempdir().unwrap();
    let text = "x".repeat(4 << 20);
    let declared = Schema::new([("s", DataType::String)]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text.as_str(); 20]));
    let all = RecordBatch::try_new(declared.to_arrow(), vec![texts]).unwrap();
    for format in FORMATS.iter().filter(|format| format.messages.is_none()) {
        let mut files = Vec::new();
        for piece in [20, 7, 1] {
            let bytes = Bytes::default();
            let output = Box::new(bytes.clone());
            let mut writer = (format.writer)(output, &all.schema(), Packing::default()).unwrap();
            for from in (0..20).step_by(piece) {
                writer.write(&all.slice(from, piece.min(20 - from))).unwrap();
                let held = writer.mark().unwrap().rows.len();
                assert!(held < 65 << 20, "{}: {held} bytes are held", format.name);
            }
            writer.finish().unwrap();
            files.push(std::mem::take(&mut *bytes.0.lock().unwrap()));
        }
        let same = files.iter().all(|file| *file == files[0]);
        assert!(same, "{}: the file depends on how rows came", format.name);
        let path = folder.path().join(format!("a.{}", format.extensions[0]));
        fs::write(&path, &files[0]).unwrap();
        let (batches, lines, _, error) = read(format, &path, &Layout::new(declared.clone()));
        assert!(lines.len() == 20 && error.is_none(), "{}: {error:?}", format.name);
        let found = batches.iter().flat_map(|rows| rows.column(0).as_string::<i32>().iter());
        assert!(found.flatten().all(|found| found == text), "{}", format.name);
    }
}

/// A text of a megabyte that comes 2,500 times is written once, and is more than a column holds when it is read.
#[test]
fn parquet_with_long_texts_is_read_in_small_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let text = "x".repeat(1 << 20);
    let declared = Schema::new([("s", DataType::String)]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![text.as_str(); 50]));
    let rows = RecordBatch::try_new(declared.to_arrow(), vec![texts]).unwrap();
    let properties = WriterProperties::builder().set_dictionary_page_size_limit(4 << 20).build();
    let file = fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    (0..50).for_each(|_| writer.write(&rows).unwrap());
    writer.close().unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 8 << 20, "each text is written anew");
    let format = FORMATS.iter().find(|format| format.name == "parquet").unwrap();
    let mut reader = (format.reader)(&Input::new(&path), &Layout::new(declared)).unwrap();
    let mut read = 0;
    while let Some(part) = reader.read(4_096).unwrap() {
        assert!(part.rows.num_rows() <= 64);
        assert!(
            part.rows.column(0).as_string::<i32>().iter().all(|found| found == Some(text.as_str()))
        );
        read += part.rows.num_rows();
    }
    assert_eq!(read, 2_500);
}

#[test]
fn files_are_read_by_name_whatever_else_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(100, 2);
    let wanted = Schema::new([("name", DataType::String), ("id", DataType::Int64)]);
    for format in FORMATS {
        let path = folder.path().join(format!("a.{}", format.extensions[0]));
        fs::write(&path, written(format, &all)).unwrap();
        let (batches, _, rejects, error) = read(format, &path, &Layout::new(wanted.clone()));
        assert!(rejects.is_empty() && error.is_none(), "{}", format.name);
        let again = concat_batches(&wanted.to_arrow(), &batches).unwrap();
        assert_eq!(again, all.project(&[3, 0]).unwrap(), "{}", format.name);
    }
}

#[test]
fn messages_keep_their_meaning_and_a_bad_one_leaves_no_trace() {
    let all = rows(1_000, 13);
    let bad: [&[u8]; 4] =
        [b"{\"id\":1,\"at\":2,\"price\":\"x\"}", b"1,2013-01-01,x,,", b"\xff", b""];
    for format in FORMATS {
        let Some(messages) = &format.messages else { continue };
        let mut encoder = (messages.encoder)(&all.schema()).unwrap();
        let mut decoder = (messages.decoder)(&Layout::new(schema()));
        let mut again = Rows::new(&schema());
        encoder
            .encode(&all, &mut |row, record| {
                let refused = decoder.decode(bad[row % bad.len()], &mut again);
                assert!(refused.is_err(), "{}: {refused:?}", format.name);
                assert_eq!(decoder.decode(record, &mut again), Ok(()));
                Ok(())
            })
            .unwrap();
        assert_same(&again.finish().unwrap(), &all, format.name);
        assert!(again.is_empty() && again.text_bytes() == 0);
    }
}

#[test]
fn bad_lines_do_not_touch_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(300, 17);
    for (format, bad) in [("json", "{\"id\":"), ("csv", "1,2,3"), ("csv", "\"never closed")] {
        let format = FORMATS.iter().find(|f| f.name == format).unwrap();
        let path = folder.path().join(format!("a.{}", format.extensions[0]));
        let mut chance = Chance(3);
        // Names with line ends would make lines that are no records.
        let names = StringArray::from(vec!["n"; 300]);
        let mut columns = all.columns().to_vec();
        columns[3] = Arc::new(names);
        let all = RecordBatch::try_new(all.schema(), columns).unwrap();
        let (mut text, mut bads) = (String::new(), Vec::new());
        for (i, line) in String::from_utf8(written(format, &all)).unwrap().lines().enumerate() {
            if i > 0 && chance.one_in(5) {
                bads.push(text.lines().count() as u64 + 1);
                text.push_str(bad);
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&path, text).unwrap();
        // An open quote is looked for in the lines that follow: pairs would find each other, were
        // the limit not smaller than a pair's distance.
        let layout = Layout { max_record: 60, ..Layout::new(schema()) };
        let layout = if bad.starts_with('"') { layout } else { Layout::new(schema()) };
        let (batches, lines, rejects, error) = read(format, &path, &layout);
        assert!(error.is_none());
        if bad.starts_with('"') {
            assert!(rejects.iter().all(|r| r.refusal.reason == "parse"));
        } else {
            assert_eq!(rejects.iter().map(|r| r.line).collect::<Vec<_>>(), bads);
            assert!(rejects.iter().all(|r| r.raw == bad.as_bytes()));
            assert!(bads.iter().all(|bad| !lines.contains(bad)));
            assert_eq!(concat_batches(&all.schema(), &batches).unwrap(), all);
        }
    }
}

#[test]
fn one_open_quote_costs_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut text = String::from("id\n1\n\"2\n");
    (3..2_000).for_each(|i| text.push_str(&format!("{i}\n")));
    fs::write(&path, text).unwrap();
    let csv = FORMATS.iter().find(|f| f.name == "csv").unwrap();
    for max_record in [4, 10, 100, 1 << 20] {
        let layout = Layout { max_record, ..Layout::new(Schema::new([("id", DataType::Int64)])) };
        let (_, lines, rejects, error) = read(csv, &path, &layout);
        assert!(error.is_none());
        assert_eq!(rejects.len(), 1, "with {max_record}");
        assert_eq!((rejects[0].line, &rejects[0].raw[..]), (3, &b"\"2"[..]));
        assert_eq!(lines, (2..2_001).filter(|line| *line != 3).collect::<Vec<_>>());
    }
}

/// Texts from the letters that matter to CSV.
fn awkward(chance: &mut Chance) -> String {
    let letters = ['a', ',', '"', '\n', '\r', ' ', '\u{e9}'];
    (0..chance.below(6)).map(|_| letters[chance.below(letters.len())]).collect()
}

#[test]
fn csv_agrees_with_the_crate_csv() {
    let folder = tempfile::tempdir().unwrap();
    let csv = FORMATS.iter().find(|f| f.name == "csv").unwrap();
    let columns = Schema::new([("a", DataType::String), ("b", DataType::String)]);
    let layout = Layout { null: vec![], ..Layout::new(columns.clone()) };
    let mut chance = Chance(23);
    let texts: Vec<[String; 2]> =
        (0..5_000).map(|_| [awkward(&mut chance), awkward(&mut chance)]).collect();
    let column = |i: usize| StringArray::from_iter_values(texts.iter().map(|t| t[i].as_str()));
    let all =
        RecordBatch::try_new(columns.to_arrow(), vec![Arc::new(column(0)), Arc::new(column(1))])
            .unwrap();

    let ours = written(csv, &all);
    let mut theirs = csv::Reader::from_reader(&ours[..]);
    let read_by_them: Vec<_> = theirs.records().map(Result::unwrap).collect();
    assert_eq!(read_by_them.len(), texts.len());
    for (record, text) in read_by_them.iter().zip(&texts) {
        assert_eq!([&record[0], &record[1]], [text[0].as_str(), text[1].as_str()]);
    }

    let mut theirs = csv::Writer::from_writer(Vec::new());
    theirs.write_record(["a", "b"]).unwrap();
    texts.iter().for_each(|t| theirs.write_record(t).unwrap());
    let path = folder.path().join("a.csv");
    fs::write(&path, theirs.into_inner().unwrap()).unwrap();
    let (batches, _, rejects, error) = read(csv, &path, &layout);
    assert!(rejects.is_empty() && error.is_none(), "{rejects:?}");
    assert_eq!(concat_batches(&all.schema(), &batches).unwrap(), all);
}

/// Flips, cuts, doubles or swaps some bytes.
fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let (a, b) = (chance.below(bytes.len().max(1)), chance.below(bytes.len().max(1)));
        match chance.below(6) {
            0 => bytes.truncate(a),
            1 if !bytes.is_empty() => bytes[a] ^= 1 << chance.below(8),
            2 if !bytes.is_empty() => bytes[a] = chance.next() as u8,
            3 if !bytes.is_empty() => bytes.swap(a, b),
            4 => {
                let part = bytes[a.min(b)..a.max(b)].to_vec();
                bytes.splice(a..a, part);
            }
            _ => {
                bytes.drain(a.min(b)..a.max(b).min(a.min(b) + 8));
            }
        }
    }
}

#[test]
fn nothing_panics_and_every_record_has_an_outcome_whatever_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let all = rows(60, 29);
    let mut chance = Chance(31);
    for format in FORMATS {
        let good = written(format, &all);
        for ending in if format.messages.is_some() { &["", ".gz", ".zst"][..] } else { &[""] } {
            let path = folder.path().join(format!("a.{}{ending}", format.extensions[0]));
            let packed = match *ending {
                ".gz" => {
                    let mut gz = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                    gz.write_all(&good).unwrap();
                    gz.finish().unwrap()
                }
                ".zst" => zstd::encode_all(&good[..], 1).unwrap(),
                _ => good.clone(),
            };
            for _ in 0..400 {
                let mut bytes = packed.clone();
                mutate(&mut bytes, &mut chance);
                fs::write(&path, &bytes).unwrap();
                let (_, lines, rejects, error) = read(format, &path, &Layout::new(schema()));
                let reasons = ["parse", "type", "encoding", "too_large"];
                assert!(rejects.iter().all(|r| reasons.contains(&r.refusal.reason)));
                if ending.is_empty() && format.name == "json" && error.is_none() {
                    let blank = |l: &[u8]| l.iter().all(u8::is_ascii_whitespace);
                    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                    let records = bytes.split(|b| *b == b'\n').filter(|l| !blank(l)).count();
                    assert_eq!(lines.len() + rejects.len(), records);
                }
            }
        }
    }
}

#[test]
fn a_message_of_csv_may_have_a_line_end() {
    let csv = FORMATS.iter().find(|format| format.name == "csv").unwrap();
    let mut decoder = (csv.messages.as_ref().unwrap().decoder)(&Layout::new(schema()));
    let mut rows = Rows::new(&schema());
    for end in ["", "\n", "\r\n"] {
        let record = format!("1,,2.5,a,true{end}");
        assert_eq!(decoder.decode(record.as_bytes(), &mut rows), Ok(()), "{end:?}");
    }
    let rows = rows.finish().unwrap();
    assert_eq!((rows.num_rows(), rows.column(4).null_count()), (3, 0));
}

#[test]
fn messages_survive_mutation() {
    let all = rows(200, 37);
    let mut chance = Chance(41);
    for format in FORMATS {
        let Some(messages) = &format.messages else { continue };
        let mut encoder = (messages.encoder)(&all.schema()).unwrap();
        let mut decoder = (messages.decoder)(&Layout::new(schema()));
        let mut kept = Rows::new(&schema());
        let mut outcomes = 0;
        for _ in 0..20 {
            encoder
                .encode(&all, &mut |_, record| {
                    let mut record = record.to_vec();
                    mutate(&mut record, &mut chance);
                    outcomes += usize::from(decoder.decode(&record, &mut kept).is_ok());
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(kept.len(), outcomes);
        let rows = kept.finish().unwrap();
        assert_eq!(rows.num_rows(), outcomes);
        assert!(rows.columns().iter().all(|c| c.len() == outcomes));
    }
}

/// Rows per second of the two text formats, on one core:
/// `cargo test --release -p tidemill-connectors --test format -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed_of_text() {
    let all = rows(200_000, 43);
    for format in FORMATS {
        let Some(messages) = &format.messages else { continue };
        let mut records = Vec::new();
        let mut encoder = (messages.encoder)(&all.schema()).unwrap();
        let start = std::time::Instant::now();
        encoder
            .encode(&all, &mut |_, r| {
                records.push(r.to_vec());
                Ok(())
            })
            .unwrap();
        let encoded = start.elapsed().as_secs_f64();
        let bytes: usize = records.iter().map(Vec::len).sum();
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let mut decoder = (messages.decoder)(&Layout::new(schema()));
            let mut rows = Rows::new(&schema());
            let start = std::time::Instant::now();
            for chunk in records.chunks(4_096) {
                chunk.iter().for_each(|r| decoder.decode(r, &mut rows).unwrap());
                rows.finish().unwrap();
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!(
            "{}: {:.0} bytes a row; read {:.2} M rows/s, {:.0} MB/s; written {:.2} M rows/s",
            format.name,
            bytes as f64 / 2e5,
            0.2 / best,
            bytes as f64 / 1e6 / best,
            0.2 / encoded
        );
    }
}

/// A list of whole numbers and a map of floats, as aggregates give them.
fn nested() -> RecordBatch {
    use arrow::array::StringBuilder;
    use arrow::array::{Float64Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames};
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(1), None, Some(-3)]);
    lists.append_null();
    lists.append_value([]);
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), Float64Builder::new());
    for (key, value) in [("a,\"b\"", Some(0.5)), ("c", None), ("d", Some(f64::NAN))] {
        maps.keys().append_value(key);
        maps.values().append_option(value);
    }
    maps.append(true).unwrap();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let schema = Schema::new([
        ("recent", DataType::List(tidemill_types::Item::Int64)),
        ("by_place", DataType::Map(tidemill_types::Item::Float64)),
    ]);
    let columns: [Arc<dyn Array>; 2] = [Arc::new(lists.finish()), Arc::new(maps.finish())];
    RecordBatch::try_new(schema.to_arrow(), columns.to_vec()).unwrap()
}

#[test]
fn lists_and_maps_are_json_in_text_and_themselves_in_columns() {
    let rows = nested();
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let bytes = written(format, &rows);
        match format.name {
            "json" => assert_eq!(
                String::from_utf8(bytes).unwrap(),
                "{\"recent\":[1,null,-3],\"by_place\":{\"a,\\\"b\\\"\":0.5,\"c\":null,\"d\":null}}\n\
                 {\"recent\":null,\"by_place\":{}}\n{\"recent\":[],\"by_place\":null}\n"
            ),
            "csv" => assert_eq!(
                String::from_utf8(bytes).unwrap(),
                "recent,by_place\n\
                 \"[1,null,-3]\",\"{\"\"a,\\\"\"b\\\"\"\"\":0.5,\"\"c\"\":null,\"\"d\"\":null}\"\n\
                 ,{}\n[],\n"
            ),
            name => {
                let path = folder.path().join(name);
                fs::write(&path, bytes).unwrap();
                let schema = Schema::new([
                    ("recent", DataType::List(tidemill_types::Item::Int64)),
                    ("by_place", DataType::Map(tidemill_types::Item::Float64)),
                ]);
                let (batches, _, rejects, error) = read(format, &path, &Layout::new(schema));
                assert!(error.is_none() && rejects.is_empty(), "{name}: {error:?}");
                let found = concat_batches(&rows.schema(), &batches).unwrap();
                assert_eq!(format!("{found:?}"), format!("{rows:?}"), "{name}");
            }
        }
    }
}
