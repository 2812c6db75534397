//! Plans as a pipeline file would make them, and rows in a form that tests can compare.
#![allow(dead_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::array_value_to_string;
use tidemill_config::plan::{At, SinkPlan, SourcePlan, Stream, Until};
use tidemill_config::section::Section;
use tidemill_connectors::sink::{self, Sink};
use tidemill_connectors::source::{self, Polled, Source};
use tidemill_types::time::{DAY, to_rfc3339};
use tidemill_types::{DataType, DeadLetter, Error, Schema};

/// A section of a kind with keys written as TOML.
pub fn section(kind: &str, keys: &str, folder: &Path) -> Section {
    let section = Section::with_keys(kind, keys).expect("keys");
    Section { folder: folder.to_path_buf(), ..section }
}

/// The schema of most tests: one column of each type.
pub fn schema() -> Schema {
    Schema::new([
        ("id", DataType::Int64),
        ("at", DataType::Timestamp),
        ("price", DataType::Float64),
        ("name", DataType::String),
        ("ok", DataType::Bool),
    ])
}

/// A bounded source.
pub fn source_plan(kind: &str, keys: &str, schema: Schema, folder: &Path) -> SourcePlan {
    SourcePlan {
        name: At::nowhere("events".to_string()),
        section: section(kind, keys, folder),
        format: None,
        schema,
        null: vec![String::new()],
        timezone: At::nowhere("UTC".to_string()),
        filter: None,
        columns: Vec::new(),
        event_time: At::nowhere("at".to_string()),
        id: Some(At::nowhere("id".to_string())),
        lateness: 0,
        sort: None,
        hold: None,
        idle_after: 0,
        until: Some(Until::End),
    }
}

/// A sink.
pub fn sink_plan(kind: &str, keys: &str) -> SinkPlan {
    SinkPlan {
        name: At::nowhere("scores".to_string()),
        pipeline: "shop".to_string(),
        stream: Stream::Scores,
        section: section(kind, keys, Path::new("")),
        format: None,
        columns: None,
    }
}

/// Opens a source with the whole of its partitions.
pub fn open(plan: &SourcePlan) -> Result<Box<dyn Source>, Error> {
    open_share(plan, (0, 1))
}

/// Opens a share of a source.
pub fn open_share(plan: &SourcePlan, share: (usize, usize)) -> Result<Box<dyn Source>, Error> {
    let kind = &plan.section.kind.value;
    let entry = source::SOURCES.iter().find(|e| e.name == kind).expect("a source of that name");
    (entry.open)(plan, share)
}

/// Opens a sink.
pub fn open_sink(plan: &SinkPlan, schema: &Schema, folder: &Path) -> Result<Box<dyn Sink>, Error> {
    let kind = &plan.section.kind.value;
    let entry = sink::SINKS.iter().find(|e| e.name == kind).expect("a sink of that name");
    (entry.open)(plan, schema.to_arrow(), folder)
}

/// What a bounded source held: `(partition, offset, row)`, dead letters, and how it ended.
#[derive(Debug, Default)]
pub struct Read {
    pub rows: Vec<(u32, u64, String)>,
    pub rejects: Vec<DeadLetter>,
    pub ends: Vec<u32>,
    pub error: Option<Error>,
}

impl Read {
    /// The rows alone.
    pub fn texts(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, _, row)| row.as_str()).collect()
    }

    /// Notes what a poll brought, and holds the source to its contract.
    pub fn note(&mut self, polled: Polled, schema: &Schema) {
        match polled {
            Polled::Chunk(chunk) => {
                assert_eq!(chunk.rows.schema(), schema.to_arrow(), "exactly the declared schema");
                assert_eq!(chunk.rows.num_rows(), chunk.offsets.len());
                let before = self.rows.iter().rev().find(|r| r.0 == chunk.partition).map(|r| r.1);
                for (row, offset) in chunk.offsets.iter().enumerate() {
                    let least = if row == 0 { before } else { Some(chunk.offsets[row - 1]) };
                    assert!(least.is_none_or(|least| least < *offset), "offsets grow");
                    self.rows.push((chunk.partition, *offset, show(&chunk.rows, row)));
                }
                self.rejects.extend(chunk.rejects);
            }
            Polled::AtEnd(partition) => self.ends.push(partition),
            Polled::Nothing => {}
        }
    }
}

/// Reads a bounded source to the end of all its partitions, or to its error.
pub fn read(source: &mut dyn Source, schema: &Schema) -> Read {
    let mut read = Read::default();
    let deadline = Instant::now() + Duration::from_secs(60);
    while read.ends.len() < source.partitions().len() {
        assert!(Instant::now() < deadline, "no end after {} rows", read.rows.len());
        match source.poll(Duration::from_millis(200)) {
            Ok(polled) => read.note(polled, schema),
            Err(error) => {
                read.error = Some(error);
                break;
            }
        }
    }
    read
}

/// A row as text; floats with all their digits, NULL as `-`.
pub fn show(rows: &RecordBatch, row: usize) -> String {
    let cell = |column: &std::sync::Arc<dyn Array>| {
        if column.is_null(row) {
            return "-".to_string();
        }
        match column.as_primitive_opt::<TimestampMicrosecondType>() {
            Some(times) => to_rfc3339(times.value(row)),
            None => array_value_to_string(column, row).expect("a value that can be shown"),
        }
    };
    rows.columns().iter().map(cell).collect::<Vec<_>>().join("|")
}

/// Rows of [`schema`], with NULLs, awkward floats and awkward texts, as a function of a seed.
pub fn rows(count: usize, seed: u64) -> RecordBatch {
    use arrow::array::{
        BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use std::sync::Arc;
    let mut chance = Chance(seed);
    let mut ids = Vec::new();
    let (mut times, mut prices, mut names, mut oks) = (vec![], vec![], vec![], vec![]);
    for i in 0..count {
        ids.push(Some(i as i64));
        times.push(Some(1_357_000_000_000_000 + i as i64 * DAY / 1_000));
        let float = f64::from_bits(chance.next());
        let float = if float.is_finite() { float } else { -0.0 };
        prices.push(
            chance
                .one_in(7)
                .then_some(float)
                .or(Some(i as f64 / 10.0))
                .filter(|_| !chance.one_in(9)),
        );
        let words = [
            "plain",
            "with, comma",
            "with \"quotes\"",
            "two\nlines",
            "\u{fc}ml\u{e4}ut",
            " blanks ",
            "'",
            "\\",
            "NA",
        ];
        names.push((!chance.one_in(5)).then(|| words[chance.below(words.len())]));
        oks.push((!chance.one_in(4)).then(|| chance.one_in(2)));
    }
    RecordBatch::try_new(
        schema().to_arrow(),
        vec![
            Arc::new(Int64Array::from(ids)),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Float64Array::from(prices)),
            Arc::new(StringArray::from(names)),
            Arc::new(BooleanArray::from(oks)),
        ],
    )
    .expect("rows")
}

/// The event times of [`rows`].
pub fn times(rows: &RecordBatch) -> Vec<i64> {
    rows.column(1).as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// Repeatable chance (xorshift64*).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
