//! Steps through a store of windows, beside a filter over all history: what the laws of windows are made of.
#![allow(dead_code)] // Not every test asks for all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidemill_config::plan::{Edge, Exclude, Frame};
use tidemill_operators::aggregate::{AGGREGATES, Aggregate, Call, Unnest};
use tidemill_operators::window::{Group, Name, Output, Rank, Store, members};
use tidemill_types::{DataType, Id, Item, Key, Micros, Value};

use crate::naive::{Built, Given, agrees, evaluate, every_call, same};

pub const TYPES: [DataType; 5] = [
    DataType::Int64,
    DataType::Float64,
    DataType::String,
    DataType::List(Item::Int64),
    DataType::Map(Item::Float64),
];
/// The column of truth values behind those of [`TYPES`].
pub const FILTER: usize = 5;

/// A row is known by these: its values follow from them, so that equal ids mean equal rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub key: u8,
    pub time: Micros,
    /// Which of [`STREAMS`] it is of; the last one may be the one that reads.
    pub stream: usize,
    pub id: u8,
}

/// Streams of a group.
pub const STREAMS: usize = 3;
const LAST: usize = STREAMS - 1;

/// Rows of so many keys, up to so long ago; ids and times come twice, in one stream and in several.
pub fn row(keys: u8, spread: Micros) -> impl Strategy<Value = Row> {
    let stream = prop_oneof![3 => Just(LAST), 2 => 0..LAST];
    (0..keys, 0..spread, stream, 0..6u8).prop_map(|(key, time, stream, id)| Row {
        key,
        time,
        stream,
        id,
    })
}

impl Row {
    pub fn rank(self) -> Rank {
        Rank::new(self.stream, STREAMS).expect("there are more ranks than streams")
    }

    /// How it orders among all rows of its key.
    fn place(self) -> (Micros, usize, Id) {
        (self.time, self.stream, id(self.id))
    }

    pub fn insert(self, store: &mut Store) {
        let id = &id(self.id);
        store.insert(self.key(), self.time, Name { rank: self.rank(), id }, &self.values());
    }

    fn retract(self, store: &mut Store) -> bool {
        let id = &id(self.id);
        store.retract(self.key(), self.time, Name { rank: self.rank(), id }, &self.values())
    }

    pub fn key(self) -> Key {
        Key(u128::from(self.key) << 120 | u128::from(self.key))
    }

    pub fn values(self) -> Vec<Value> {
        let from = 1_000 * (LAST - self.stream) as u64;
        let hash = (self.time as u64 * 31 + u64::from(self.id) * 7 + u64::from(self.key) + from)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 40;
        let pick =
            |shift: u32, value: Value| if hash >> shift & 7 == 0 { Value::Null } else { value };
        vec![
            pick(0, Value::Int(hash as i64 % 50 - 20)),
            pick(3, Value::Float((hash % 1_000) as f64 / 64.0 - 5.0)),
            pick(6, Value::Text(format!("t{}", hash % 9).into())),
            pick(
                12,
                (0..hash >> 15 & 3).map(|n| pick(n as u32, Value::Int(n as i64 * 7 - 9))).collect(),
            ),
            pick(
                5,
                Value::map((0..hash >> 17 & 3).map(|n| {
                    let value = Value::Float((hash >> n & 255) as f64 / 64.0 - 1.0);
                    (format!("k{}", (hash >> (2 * n + 7)) % 4).into(), pick(n as u32 + 2, value))
                })),
            ),
            pick(9, Value::Bool(hash >> 12 & 1 == 0)),
        ]
    }
}

/// Orders after every row of its time.
pub const ASKER: u8 = 255;

pub fn id(n: u8) -> Id {
    if n.is_multiple_of(2) { Id::Int(i64::from(n)) } else { Id::Text(format!("{n:03}").into()) }
}

#[derive(Clone, Debug)]
pub enum Step {
    Insert(Row),
    /// Takes back the row that was inserted so many rows ago.
    Retract(prop::sample::Index),
    Read(Row),
    /// The same by somebody who is no row.
    Peek(Row),
    ReadNull(Micros),
    Advance(Micros),
    /// The store is saved, and another one restored from that.
    Restart,
    /// It begins to be saved, so many bytes at each step from now on.
    Cut(usize),
}

/// Times drift upwards, with ties, late rows and reads before earlier reads.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = |spread: Micros| row(3, spread);
    let step = prop_oneof![
        50 => row(12).prop_map(Step::Insert),
        10 => row(40).prop_map(Step::Insert),
        40 => row(12).prop_map(Step::Read),
        15 => row(40).prop_map(Step::Read),
        5 => row(72).prop_map(|row| Step::Peek(Row { time: row.time - 60, id: ASKER, ..row })),
        15 => any::<prop::sample::Index>().prop_map(Step::Retract),
        5 => (0..40i64).prop_map(Step::ReadNull),
        10 => (0..15i64).prop_map(Step::Advance),
        2 => Just(Step::Restart),
        4 => (1..400usize).prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 0..160).prop_map(|mut steps| {
        for (i, step) in steps.iter_mut().enumerate() {
            let now = i as i64 / 2;
            match step {
                Step::Insert(row) | Step::Read(row) | Step::Peek(row) => {
                    row.time = now + 10 - row.time
                }
                Step::Advance(time) | Step::ReadNull(time) => *time = now - *time,
                Step::Retract(_) | Step::Restart | Step::Cut(_) => {}
            }
        }
        steps
    })
}

pub struct Asked {
    pub call: Built,
    pub output: Output,
}

/// A frame that leaves out nothing of the present.
pub fn up_to_now(frame: Frame) -> (Frame, Edge) {
    (frame, Edge::default())
}

pub fn edge(offset: Micros, exclude: Exclude) -> Edge {
    Edge { offset, exclude }
}

/// Every call, spread over the frames; each frame has every third, of those over items and keys fewer, filtered or
/// not.
pub fn asked(frames: &[(Frame, Edge)], keep: impl Fn(&dyn Aggregate) -> bool) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (f, &(frame, edge)) in frames.iter().enumerate() {
        let inputs: Vec<_> = std::iter::once(None).chain(TYPES.map(Some)).collect();
        for (i, mut call) in every_call(&inputs).into_iter().enumerate() {
            // Over items, and over keys, all are kept alike: few of them do.
            let alike = call.unnest != Unnest::No || call.name.starts_with("map_");
            let every = if alike { 18 } else { 3 };
            if (i + f) % every != 0 || !keep(&*call.aggregate) {
                continue;
            }
            let place = |of: DataType| TYPES.iter().position(|t| *t == of);
            let (column, second) = (call.input.and_then(place), call.second.and_then(place));
            if column.is_some() != call.input.is_some() || second.is_some() != call.second.is_some()
            {
                continue;
            }
            let filter = ((i / 3 + f) % 2 == 0).then_some(FILTER);
            let empty: Box<dyn Aggregate> = count();
            let aggregate = Arc::from(std::mem::replace(&mut call.aggregate, empty));
            let output = Output { frame, edge, column, second, filter, aggregate };
            asked.push(Asked { call, output });
        }
    }
    asked
}

pub fn count() -> Box<dyn Aggregate> {
    build("count", None)
}

pub fn build(name: &str, input: Option<DataType>) -> Box<dyn Aggregate> {
    let entry = AGGREGATES.iter().find(|e| e.name == name).expect("listed");
    (entry.build)(&Call {
        name,
        distinct: false,
        input,
        second: None,
        constants: &[],
        unnest: Unnest::No,
    })
    .expect("can be built")
}

/// The latest time up to `time` that is `origin` and a multiple of `size`.
pub fn multiple(time: Micros, size: Micros, origin: Micros) -> Micros {
    (0..size).map(|back| time - back).find(|b| (b - origin) % size == 0).expect("one in so many is")
}

/// The rows of all history that a window holds, by definition.
pub fn held(frame: Frame, edge: Edge, own_stream: bool, history: &[Row], read: Row) -> Vec<Row> {
    let t = read.time - edge.offset;
    let read = Row { stream: LAST, ..read };
    let mut rows: Vec<Row> = history.iter().copied().filter(|r| r.key == read.key).collect();
    rows.sort_by_key(|row| row.place());
    rows.retain(|r| match edge.exclude {
        Exclude::Time => r.time < t,
        Exclude::Row if own_stream && edge.offset == 0 => r.place() < read.place(),
        _ if own_stream && edge.offset == 0 => r.place() <= read.place(),
        _ => r.time <= t,
    });
    let newest =
        |rows: &mut Vec<Row>, n: u64| drop(rows.drain(..rows.len().saturating_sub(n as usize)));
    match frame {
        Frame::Last(span) => rows.retain(|r| r.time >= t - span),
        Frame::Rows(n) => newest(&mut rows, n),
        Frame::Within { rows: n, last } => {
            rows.retain(|r| r.time >= t - last);
            newest(&mut rows, n);
        }
        Frame::Tumbling { size, origin } => rows.retain(|r| r.time >= multiple(t, size, origin)),
        Frame::Hopping { size, every, origin } => {
            let end = multiple(t, every, origin);
            rows.retain(|r| r.time >= end - size && r.time < end);
        }
        // Times lie on both sides of 1970 and are less than an hour away.
        Frame::Calendar { .. } => rows.retain(|r| t < 0 || r.time >= 0),
        Frame::Tiled { last, resolution } => {
            rows.retain(|r| r.time >= multiple(t - last, resolution, 0));
        }
        Frame::Session(gap) => {
            let mut open = Vec::new();
            let mut next = t;
            while let Some(row) = rows.pop().filter(|row| next - row.time <= gap) {
                next = row.time;
                open.insert(0, row);
            }
            rows = open;
        }
        Frame::Lifetime | Frame::Decayed(_) => {}
    }
    rows
}

/// What the rows of all history give, by definition.
pub fn by_definition(asked: &Asked, own_stream: bool, history: &[Row], read: Row) -> Value {
    let Output { frame, edge, .. } = asked.output;
    let given: Vec<Given> = held(frame, edge, own_stream, history, read)
        .iter()
        .map(|r| (r.time, r.values()))
        .filter(|(_, v)| asked.output.filter.is_none_or(|f| v[f] == Value::Bool(true)))
        .map(|(time, v)| Given {
            time,
            value: asked.output.column.map_or(Value::Bool(true), |c| v[c].clone()),
            second: asked.output.second.map_or(Value::Null, |c| v[c].clone()),
        })
        .collect();
    evaluate(&asked.call, &given, read.time - edge.offset)
}

/// What steps may do to what is before the watermark.
#[derive(Clone, Copy)]
pub struct Before {
    /// Rows may come: no frame but a session cares.
    pub inserts: bool,
    /// Rows may be taken back: only where the frames hold them (see [`Store::retract`]).
    pub retracts: bool,
}

/// Runs the steps through a store and the naive filter.
pub fn run(
    asked: &[Asked],
    own_stream: bool,
    before: Before,
    steps: &[Step],
) -> Result<Store, TestCaseError> {
    let outputs = asked.iter().map(|a| a.output.clone()).collect();
    let group = Group { own_stream, outputs };
    let mut store = Store::new(group.clone());
    let mut history: Vec<Row> = Vec::new();
    let mut watermark = -100;
    let mut out = Vec::new();
    let mut cut: Option<(usize, BTreeMap<u64, Vec<u8>>)> = None;
    for step in steps {
        if let Some((bytes, then)) = &cut
            && let Some(pieces) = store.go_on_with_cut(*bytes)
        {
            prop_assert_eq!(&pieces.ranges(), then);
            cut = None;
        }
        match step {
            Step::Insert(row) => {
                let time = if before.inserts { row.time } else { row.time.max(watermark) };
                let row = Row { time, ..*row };
                row.insert(&mut store);
                history.push(row);
            }
            Step::Retract(index) if !history.is_empty() => {
                let at = index.index(history.len());
                let row = history[at];
                if before.retracts || row.time >= watermark {
                    let found = row.retract(&mut store);
                    prop_assert!(found || row.time < watermark, "{row:?} was there");
                    history.swap_remove(at);
                    let gone = !history.contains(&row) && row.time >= watermark;
                    prop_assert!(!gone || !row.retract(&mut store));
                }
            }
            Step::Retract(_) => {}
            Step::Read(row) => {
                let row = Row { time: row.time.max(watermark), ..*row };
                out.clear();
                store.read(Some(row.key()), row.time, &id(row.id), &mut out);
                prop_assert_eq!(out.len(), asked.len());
                for (asked, got) in asked.iter().zip(&out) {
                    let want = by_definition(asked, own_stream, &history, row);
                    let (title, output) = (asked.call.title(), &asked.output);
                    told_apart(output, own_stream, &history, row)?;
                    prop_assert!(
                        agrees(asked.call.name, got, &want),
                        "{title} over {:?} {:?} filter {:?} at {row:?}: {got:?}, by definition {want:?}",
                        output.frame,
                        output.edge,
                        output.filter
                    );
                }
            }
            Step::Peek(row) => {
                out.clear();
                let peeked = store.peek(Some(row.key()), row.time, &mut out);
                if row.time < watermark {
                    prop_assert_eq!(peeked, Err(watermark));
                    continue;
                }
                prop_assert_eq!((peeked, out.len()), (Ok(()), asked.len()));
                for (asked, got) in asked.iter().zip(&out) {
                    let want = by_definition(asked, own_stream, &history, *row);
                    let (title, output) = (asked.call.title(), &asked.output);
                    prop_assert!(
                        agrees(asked.call.name, got, &want),
                        "{title} over {:?} {:?} filter {:?}, asked as of {}: {got:?}, by definition {want:?}",
                        output.frame,
                        output.edge,
                        output.filter,
                        row.time
                    );
                }
            }
            Step::ReadNull(time) => {
                out.clear();
                store.read(None, *time, &Id::Int(0), &mut out);
                for (asked, got) in asked.iter().zip(&out) {
                    prop_assert!(
                        same(got, &evaluate(&asked.call, &[], *time)),
                        "{}",
                        asked.call.title()
                    );
                }
            }
            Step::Advance(time) => {
                watermark = watermark.max(*time);
                store.advance(*time);
            }
            Step::Restart => {
                store = restarted(&group, &store, watermark)?;
                cut = None;
            }
            Step::Cut(bytes) => {
                store.begin_cut();
                cut = Some((*bytes, store.save()));
            }
        }
    }
    if let Some((_, then)) = cut {
        let pieces = store.go_on_with_cut(usize::MAX).expect("everything");
        prop_assert_eq!(pieces.ranges(), then);
    }
    prop_assert!(store.go_on_with_cut(usize::MAX).is_none(), "a cut is taken once");
    Ok(store)
}

/// What people are told of the rows of a window are those that it holds.
fn told_apart(
    output: &Output,
    own_stream: bool,
    history: &[Row],
    read: Row,
) -> Result<(), TestCaseError> {
    let mut all: Vec<Row> = history.iter().copied().filter(|r| r.key == read.key).collect();
    all.sort_by_key(|row| row.place());
    let ids: Vec<Id> = all.iter().map(|row| id(row.id)).collect();
    let name = |(row, id): (&Row, _)| (row.time, Name { rank: row.rank(), id });
    let names: Vec<(Micros, Name<'_>)> = all.iter().zip(&ids).map(name).collect();
    let frame = match output.frame {
        Frame::Decayed(_) => Frame::Lifetime,
        frame => frame,
    };
    let told = members((frame, output.edge), own_stream, (read.time, &id(read.id)), &names);
    let held = held(frame, output.edge, own_stream, history, read);
    prop_assert_eq!(&all[told], &held[..], "{:?} {:?} at {:?}", frame, output.edge, read);
    Ok(())
}

/// The store as three workers would restore it, and again as one would from theirs.
pub fn restarted(group: &Group, store: &Store, watermark: Micros) -> Result<Store, TestCaseError> {
    let saved = store.save();
    let mut parts = BTreeMap::new();
    for worker in 0..3 {
        let mut part = Store::new(group.clone());
        for bytes in saved.values() {
            part.restore(bytes, |key| key.worker(3) == worker).map_err(TestCaseError::fail)?;
        }
        for (range, bytes) in part.save() {
            prop_assert!(saved.contains_key(&range));
            parts.entry((range, worker)).or_insert(bytes);
        }
    }
    let mut whole = Store::new(group.clone());
    for bytes in parts.values() {
        whole.restore(bytes, |_| true).map_err(TestCaseError::fail)?;
    }
    prop_assert_eq!(whole.save(), saved, "what is restored is what was saved");
    whole.advance(watermark);
    Ok(whole)
}
