//! The way to DuckDB and back: cases as CSV files, answers as lines of JSON.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};
use tidemill_config::plan::{Edge, Exclude, Frame, Period};
use tidemill_types::{Id, Value};

use crate::calls::spellings;
use crate::case::Tried;
use crate::data::{DataSet, Row, Step};
use crate::python;

/// What the others answer to a read.
#[derive(Clone, Debug, Default)]
pub struct Theirs {
    pub duckdb: Value,
    /// What the tolerance is a share of.
    pub scale: Value,
    /// From the values of the frame, exactly; NULL if it is not asked for.
    pub python: Value,
}

/// What DuckDB and Python answer: for each data set by read, and within a read by case.
pub fn compute(tried: &[Tried]) -> Vec<Vec<Theirs>> {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), tried);
    let done = python::command("oracle", include_str!("../oracle/requirements.txt"))
        .arg("tests/oracle/windows.py")
        .arg(folder.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("python starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut theirs: Vec<Vec<Option<Theirs>>> =
        tried.iter().map(|t| vec![None; t.cases.len() * reads(&t.data)]).collect();
    let lines = fs::read_to_string(folder.path().join("answers.jsonl")).expect("answers");
    for line in lines.lines() {
        let (set, case, read, duckdb, scale, python): (usize, usize, usize, Json, Json, Json) =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let place = read * tried[set].cases.len() + case;
        let answer =
            Theirs { duckdb: value(&duckdb), scale: value(&scale), python: value(&python) };
        assert!(theirs[set][place].replace(answer).is_none(), "answered twice: {line}");
    }
    let all = |answers: Vec<Option<Theirs>>| {
        answers.into_iter().map(|answer| answer.expect("each read is answered")).collect()
    };
    theirs.into_iter().map(all).collect()
}

fn reads(data: &DataSet) -> usize {
    data.steps.iter().filter(|step| matches!(step, Step::Read { .. })).count()
}

fn write(folder: &Path, tried: &[Tried]) {
    let calls = spellings().map(|s| {
        json!({
            "duckdb": s.duckdb,
            "scale": s.near.map(|(_, scale)| scale),
            "python": s.python.map(|(function, values, _)| [function, values]),
        })
    });
    let calls = Json::from(calls.collect::<Vec<Json>>()).to_string();
    fs::write(folder.join("calls.json"), calls).expect("a file");
    let file = |name: &str| csv::Writer::from_path(folder.join(name)).expect("a file");
    let (mut cases, mut stream) = (file("cases.csv"), file("stream.csv"));
    for (set, tried) in tried.iter().enumerate() {
        for (n, case) in tried.cases.iter().enumerate() {
            let call = spellings().position(|s| std::ptr::eq(s, case.spelling));
            let call = call.expect("a call of the table");
            let frame = frame(case.frame);
            cases.serialize((set, n, call, case.filtered, frame, edge(case.edge))).expect("a line");
        }
        stream_of(set, &tried.data, &mut |line: [String; 13]| {
            stream.write_record(line).expect("a line");
        });
    }
    cases.flush().and_then(|()| stream.flush()).expect("files");
}

/// Kind, size, number of rows, `every`, origin, period and zone, as far as the frame has them.
type Said = (&'static str, i64, String, i64, i64, &'static str, &'static str);

fn frame(frame: Frame) -> Said {
    let none = || "\\N".to_string();
    match frame {
        Frame::Last(last) => ("last", last, none(), 1, 0, "", ""),
        Frame::Rows(rows) => ("rows", 1, rows.to_string(), 1, 0, "", ""),
        Frame::Within { rows, last } => ("last", last, rows.to_string(), 1, 0, "", ""),
        Frame::Tumbling { size, origin } => ("tumbling", size, none(), 1, origin, "", ""),
        Frame::Hopping { size, every, origin } => ("hopping", size, none(), every, origin, "", ""),
        Frame::Calendar { period, zone } => {
            let name = Period::ALL.iter().find(|(p, _)| *p == period).map_or("", |(_, name)| name);
            ("calendar", 1, none(), 1, 0, name, zone.name())
        }
        Frame::Session(gap) => ("session", gap, none(), 1, 0, "", ""),
        Frame::Tiled { last, resolution } => ("tiled", last, none(), resolution, 0, "", ""),
        Frame::Decayed(_) | Frame::Lifetime => ("lifetime", 1, none(), 1, 0, "", ""),
    }
}

/// Offset, and what is left out.
fn edge(edge: Edge) -> (i64, &'static str) {
    let excluded = match edge.exclude {
        Exclude::Nothing => "",
        Exclude::Row => "row",
        Exclude::Time => "time",
    };
    (edge.offset, excluded)
}

/// For every moment at which there are reads: the rows that are there, and the reads.
fn stream_of(set: usize, data: &DataSet, line: &mut impl FnMut([String; 13])) {
    let mut present: Vec<&Row> = Vec::new();
    let (mut moment, mut read, mut changed) = (0, 0, true);
    let empty = [const { Value::Null }; 5];
    for step in &data.steps {
        match step {
            Step::Insert(row) => {
                present.push(row);
                changed = true;
            }
            Step::Retract(row) => {
                let at = present.iter().position(|r| *r == row).expect("a row that is there");
                present.swap_remove(at);
                changed = true;
            }
            Step::Advance(_) => {}
            Step::Read { key, time, id } => {
                if changed {
                    moment += 1;
                    for r in &present {
                        line(fields(set, data, moment, None, (r.key, r.time, &r.id), &r.values));
                    }
                }
                changed = false;
                line(fields(set, data, moment, Some(read), (*key, *time, id), &empty));
                read += 1;
            }
        }
    }
}

fn fields(
    set: usize,
    data: &DataSet,
    moment: usize,
    read: Option<usize>,
    (key, time, id): (u8, i64, &Id),
    values: &[Value; 5],
) -> [String; 13] {
    let null = || "\\N".to_string();
    let (int, text) = match id {
        Id::Int(n) => (n.to_string(), null()),
        other => (null(), other.to_string()),
    };
    let [i, x, s, b, y] = values.each_ref().map(|value| match value {
        Value::Null => null(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(x) => format!("{x:e}"),
        Value::Text(text) => text.to_string(),
        nested => panic!("{nested:?} is no column of a data set"),
    });
    let read = read.map_or_else(null, |n| n.to_string());
    let own = data.own_stream.to_string();
    let (set, moment, key) = (set.to_string(), moment.to_string(), key.to_string());
    [set, own, moment, read, key, time.to_string(), int, text, i, x, s, b, y]
}

/// A value as `windows.py` writes it: JSON has neither NaN nor whole numbers of 64 bits for all.
fn value(json: &Json) -> Value {
    let text = match json {
        Json::Array(items) => return items.iter().map(value).collect(),
        Json::Object(entries) => {
            let entry = |(key, item): (&String, &Json)| (key.as_str().into(), value(item));
            return Value::map(entries.iter().map(entry));
        }
        Json::String(text) => text.as_str(),
        _ => return Value::Null,
    };
    let (kind, text) = text.split_at(1);
    match kind {
        "i" => Value::Int(text.parse().unwrap_or_else(|_| panic!("{text} is beyond 64 bits"))),
        "f" => Value::Float(text.parse().unwrap_or_else(|_| panic!("{text} is no float"))),
        "b" => Value::Bool(text == "True"),
        _ => Value::Text(text.into()),
    }
}
