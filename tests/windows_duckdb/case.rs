//! A data set with its cases: what the store answers, and whether it is what the others answer.

use std::fmt::Write;
use std::sync::Arc;

use tidemill_config::plan::{Edge, Exclude, Frame, Period};
use tidemill_operators::aggregate::{self, AGGREGATES, Aggregate};
use tidemill_operators::expression::{Scalar, parse_feature};
use tidemill_operators::window::{Group, Output, Store};
use tidemill_types::{DataType, Item, Key, Micros, Schema, Value, Zone};

use crate::calls::{Spelling, spellings};
use crate::data::{Chance, DataSet, Step};
use crate::theirs::Theirs;

/// Calls that share a data set, and so a store.
pub const CASES_A_DATA_SET: usize = 4;

/// The column of truth values: what FILTER reads.
const FILTER: usize = 3;

/// The calls of the table that are on the list of aggregates, read and typed.
pub struct Calls(Vec<Typed>);

/// A call of the table, and the columns that it reads.
struct Typed {
    spelling: &'static Spelling,
    column: Option<usize>,
    second: Option<usize>,
    aggregate: Arc<dyn Aggregate>,
}

impl Calls {
    /// Reads each as a feature.
    pub fn new() -> Calls {
        let listed = |s: &&Spelling| {
            AGGREGATES.iter().any(|entry| s.ours.split('(').next() == Some(entry.name))
        };
        Calls(spellings().filter(listed).map(Calls::read).collect())
    }

    fn read(spelling: &'static Spelling) -> Typed {
        let ours = spelling.ours;
        let schema = Schema::new([
            ("i", DataType::Int64),
            ("x", DataType::Float64),
            ("s", DataType::String),
            ("b", DataType::Bool),
            ("y", DataType::Float64),
            ("vi", DataType::List(Item::Int64)),
            ("vx", DataType::List(Item::Float64)),
            ("vb", DataType::List(Item::Bool)),
            ("tags", DataType::List(Item::String)),
            ("mi", DataType::Map(Item::Int64)),
            ("mx", DataType::Map(Item::Float64)),
            ("mb", DataType::Map(Item::Bool)),
            ("ms", DataType::Map(Item::String)),
        ]);
        let source = |name: &str| (name == "w").then(|| schema.clone());
        let feature = parse_feature(&format!("{ours} over w"), &schema, &source, &["w"], "UTC")
            .unwrap_or_else(|error| panic!("{ours}: {error}"));
        let call = &feature.calls[0];
        let aggregate = aggregate::build(&aggregate::Call {
            name: &call.function,
            distinct: call.distinct,
            input: call.argument.as_ref().map(Scalar::data_type),
            second: call.second.as_ref().map(Scalar::data_type),
            constants: &call.constants,
            unnest: call.unnest,
        })
        .unwrap_or_else(|error| panic!("{ours}: {error}"));
        let column = |argument: &Option<Scalar>| argument.as_ref()?.columns().first().copied();
        let (column, second) = (column(&call.argument), column(&call.second));
        Typed { spelling, column, second, aggregate: Arc::from(aggregate) }
    }
}

/// A call over a frame.
pub struct Case {
    pub spelling: &'static Spelling,
    pub frame: Frame,
    pub edge: Edge,
    pub filtered: bool,
}

/// A data set, its cases, and what the store answers to each read.
pub struct Tried {
    pub data: DataSet,
    pub cases: Vec<Case>,
    ours: Vec<Vec<Value>>,
}

impl Tried {
    /// The data set and the cases of a seed, run through one store.
    pub fn new(seed: u64, calls: &Calls) -> Tried {
        let data = DataSet::new(seed);
        let mut chance = Chance::new(!seed);
        let mut outputs = Vec::new();
        let cases = (0..CASES_A_DATA_SET).map(|n| {
            // Consecutive seeds go through the table.
            let call = seed.wrapping_mul(CASES_A_DATA_SET as u64).wrapping_add(n as u64);
            let Typed { spelling, column, second, aggregate } =
                &calls.0[(call % calls.0.len() as u64) as usize];
            let frame = frame(&mut chance, data.unit);
            let edge = edge(&mut chance, data.unit, frame);
            let filtered = chance.percent(40);
            let filter = filtered.then_some(FILTER);
            outputs.push(Output {
                frame,
                edge,
                column: *column,
                second: *second,
                filter,
                aggregate: Arc::clone(aggregate),
            });
            Case { spelling, frame, edge, filtered }
        });
        let cases = cases.collect();
        let ours = answers(&data, outputs);
        Tried { data, cases, ours }
    }

    /// What differs: `theirs` by read and within it by case.
    pub fn compare(&self, theirs: &[Theirs]) -> Vec<Failure> {
        assert_eq!(theirs.len(), self.ours.len() * self.cases.len(), "each read is answered");
        let mut failures = Vec::new();
        let mut theirs = theirs.iter();
        for (read, ours) in self.ours.iter().enumerate() {
            for ((case, ours), theirs) in self.cases.iter().zip(ours).zip(&mut theirs) {
                if let Some(who) = differs(case.spelling, ours, theirs) {
                    failures.push(self.failure(case, read, who, ours, theirs));
                }
            }
        }
        failures
    }

    /// What it takes to see it again: the steps of the key that is read, up to the read.
    fn failure(
        &self,
        case: &Case,
        read: usize,
        who: &str,
        ours: &Value,
        theirs: &Theirs,
    ) -> Failure {
        let reads = self.data.steps.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Read { key, .. } => Some((at, *key)),
            _ => None,
        });
        let (at, of) = reads.clone().nth(read).unwrap_or_default();
        let mut text = format!(
            "\n{} {:?} {:?} filter (where b): {}, own stream: {}\n  {who} differs: ours {ours:?}, {theirs:?}\n  \
             alone: TIDEMILL_SEED={} TIDEMILL_CASES={CASES_A_DATA_SET}\n",
            case.spelling.ours,
            case.frame,
            case.edge,
            case.filtered,
            self.data.own_stream,
            self.data.seed
        );
        let mut rows = 0;
        for step in &self.data.steps[..=at] {
            let shown = match step {
                Step::Insert(row) | Step::Retract(row) => row.key == of,
                Step::Read { key, .. } => *key == of,
                Step::Advance(_) => true,
            };
            if shown {
                rows += 1;
                let _ = writeln!(text, "  {step:?}");
            }
        }
        Failure { rows, text }
    }
}

/// Any frame. Those of the calendar are ones whose beginning all agree on: where a local time comes
/// twice, or not at all, there is more than one convention (`operators/src/window/frame.rs` tests ours).
fn frame(chance: &mut Chance, unit: Micros) -> Frame {
    let mut some = |n: usize| (1 + chance.below(n)) as i64;
    match some(22) {
        1 => Frame::Last(0),
        2..=5 => Frame::Last(some(8) * unit),
        6..=8 => Frame::Rows(some(7) as u64),
        9..=10 => Frame::Within { rows: some(5) as u64, last: some(8) * unit },
        11..=12 => {
            let size = some(6) * unit;
            Frame::Tumbling { size, origin: some(7) * unit % size }
        }
        13..=14 => {
            let every = some(4) * unit;
            let size = every + (some(6) - 1) * unit;
            Frame::Hopping { size, every, origin: some(7) * unit % every }
        }
        15..=16 => Frame::Session(some(5) * unit),
        17 => Frame::Tiled { last: some(8) * unit, resolution: some(5) * unit },
        18..=19 => {
            let (period, name) = chance.pick(&[
                (Period::Hour, "UTC"),
                (Period::Hour, "Asia/Kolkata"),
                (Period::Day, "UTC"),
                (Period::Day, "America/New_York"),
                (Period::Day, "Asia/Kolkata"),
                (Period::Day, "Europe/Berlin"),
                (Period::Week, "America/New_York"),
                (Period::Month, "Europe/Berlin"),
                (Period::Quarter, "America/New_York"),
                (Period::Year, "Asia/Tokyo"),
            ]);
            Frame::Calendar { period, zone: Zone::parse(name).expect("a zone") }
        }
        _ => Frame::Lifetime,
    }
}

/// Nothing is left out of two windows in three.
fn edge(chance: &mut Chance, unit: Micros, frame: Frame) -> Edge {
    let offset = chance.below(6) as i64 * unit;
    let exclude = match frame {
        Frame::Hopping { .. } => Exclude::Nothing,
        _ => chance.pick(&[Exclude::Row, Exclude::Time]),
    };
    match chance.below(9) {
        0 => Edge { offset, exclude: Exclude::Nothing },
        1 => Edge { offset: 0, exclude },
        2 => Edge { offset, exclude },
        _ => Edge::default(),
    }
}

/// A read that two answer differently.
pub struct Failure {
    /// How many steps lead there.
    pub rows: usize,
    pub text: String,
}

fn answers(data: &DataSet, outputs: Vec<Output>) -> Vec<Vec<Value>> {
    let mut store = Store::new(Group { own_stream: data.own_stream, outputs });
    // The low bits choose the place in a table, the high ones a worker.
    let key = |key: u8| Key(u128::from(key) << 120 | u128::from(key));
    let mut answers = Vec::new();
    for step in &data.steps {
        match step {
            Step::Insert(row) => store.insert(key(row.key), row.time, &row.id, &row.columns()),
            Step::Retract(row) => {
                let found = store.retract(key(row.key), row.time, &row.id, &row.columns());
                assert!(found, "seed {}: {row:?} is there", data.seed);
            }
            Step::Read { key: of, time, id } => {
                let mut out = Vec::new();
                store.read(Some(key(*of)), *time, id, &mut out);
                answers.push(out);
            }
            Step::Advance(watermark) => store.advance(*watermark),
        }
    }
    answers
}

/// Who says otherwise, if anybody.
fn differs(spelling: &Spelling, ours: &Value, theirs: &Theirs) -> Option<&'static str> {
    let (tolerance, certain) = match spelling.near {
        None => (0.0, true),
        Some((share, _)) => {
            let scale = theirs.scale.as_f64().unwrap_or(0.0);
            (share * scale, scale.is_finite())
        }
    };
    if certain && !within(ours, &theirs.duckdb, tolerance) {
        return Some("DuckDB");
    }
    let (_, _, distance) = spelling.python?;
    let mut tolerance = distance * theirs.python.as_f64().unwrap_or(0.0).abs();
    if distance > 0.0 {
        // Below the normal numbers the last bit is not relative.
        tolerance += f64::from_bits(1);
    }
    (!within(ours, &theirs.python, tolerance)).then_some("Python")
}

/// Equal, NaNs and zeros being one each, or no further apart than `tolerance`. A whole number is no
/// float: types are compared too.
fn within(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    let alike = std::mem::discriminant(ours) == std::mem::discriminant(theirs);
    match (ours, theirs) {
        (Value::Float(a), Value::Float(b)) => {
            // At the largest float an error of the last bit is infinite.
            let largest = if tolerance > 0.0 { f64::MAX } else { f64::INFINITY };
            let [a, b] = [a, b].map(|x| x.clamp(-largest, largest));
            ours == theirs || (a - b).abs() <= tolerance
        }
        _ => alike && ours == theirs,
    }
}
