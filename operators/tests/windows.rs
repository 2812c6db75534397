//! The law of windows: at any moment a window holds what a naive filter over all history holds.

mod naive;

use std::sync::Arc;

use naive::{Built, Given, agrees, evaluate, every_call, same};
use proptest::prelude::*;
use tidemill_config::plan::Frame;
use tidemill_operators::aggregate::{AGGREGATES, Aggregate, Call, Primitive};
use tidemill_operators::window::{Group, Output, Store};
use tidemill_types::{DataType, Id, Key, Micros, Value};

const TYPES: [DataType; 3] = [DataType::Int64, DataType::Float64, DataType::String];
/// The column of truth values behind those of [`TYPES`].
const FILTER: usize = 3;

/// A row is known by these: its values follow from them, so that equal ids mean equal rows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    key: u8,
    time: Micros,
    id: u8,
}

impl Row {
    fn key(self) -> Key {
        Key(u128::from(self.key) << 120 | u128::from(self.key))
    }

    fn values(self) -> Vec<Value> {
        let hash = (self.time as u64 * 31 + u64::from(self.id) * 7 + u64::from(self.key))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 40;
        let pick =
            |shift: u32, value: Value| if hash >> shift & 7 == 0 { Value::Null } else { value };
        vec![
            pick(0, Value::Int(hash as i64 % 50 - 20)),
            pick(3, Value::Float((hash % 1_000) as f64 / 64.0 - 5.0)),
            pick(6, Value::Text(format!("t{}", hash % 9).into())),
            pick(9, Value::Bool(hash >> 12 & 1 == 0)),
        ]
    }
}

fn id(n: u8) -> Id {
    if n.is_multiple_of(2) { Id::Int(i64::from(n)) } else { Id::Text(format!("{n:03}").into()) }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Row),
    /// Takes back the row that was inserted so many rows ago.
    Retract(prop::sample::Index),
    Read(Row),
    ReadNull(Micros),
    Advance(Micros),
}

/// Times drift upwards, with ties, late rows and reads before earlier reads.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = |spread: Micros| {
        (0..3u8, 0..spread, 0..6u8).prop_map(|(key, time, id)| Row { key, time, id })
    };
    let step = prop_oneof![
        10 => row(12).prop_map(Step::Insert),
        2 => row(40).prop_map(Step::Insert),
        8 => row(12).prop_map(Step::Read),
        3 => row(40).prop_map(Step::Read),
        3 => any::<prop::sample::Index>().prop_map(Step::Retract),
        1 => (0..40i64).prop_map(Step::ReadNull),
        2 => (0..15i64).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 0..160).prop_map(|mut steps| {
        for (i, step) in steps.iter_mut().enumerate() {
            let now = i as i64 / 2;
            match step {
                Step::Insert(row) | Step::Read(row) => row.time = now + 10 - row.time,
                Step::Advance(time) | Step::ReadNull(time) => *time = now - *time,
                Step::Retract(_) => {}
            }
        }
        steps
    })
}

struct Asked {
    call: Built,
    output: Output,
}

/// Every call, spread over the frames; each frame has every third, filtered or not.
fn asked(frames: &[Frame], keep: impl Fn(&dyn Aggregate) -> bool) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (f, &frame) in frames.iter().enumerate() {
        let inputs: Vec<_> = std::iter::once(None).chain(TYPES.map(Some)).collect();
        for (i, mut call) in every_call(&inputs).into_iter().enumerate() {
            if (i + f) % 3 != 0 || !keep(&*call.aggregate) {
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
            asked.push(Asked { call, output: Output { frame, column, second, filter, aggregate } });
        }
    }
    asked
}

fn count() -> Box<dyn Aggregate> {
    build("count", None)
}

fn build(name: &str, input: Option<DataType>) -> Box<dyn Aggregate> {
    let entry = AGGREGATES.iter().find(|e| e.name == name).expect("listed");
    (entry.build)(&Call { name, distinct: false, input, second: None, constants: &[] })
        .expect("can be built")
}

/// What the rows of all history give, by definition.
fn by_definition(asked: &Asked, own_stream: bool, history: &[Row], read: Row) -> Value {
    let mut rows: Vec<Row> = history
        .iter()
        .copied()
        .filter(|r| r.key == read.key)
        .filter(|r| {
            if own_stream {
                (r.time, id(r.id)) <= (read.time, id(read.id))
            } else {
                r.time <= read.time
            }
        })
        .collect();
    rows.sort_by_key(|r| (r.time, id(r.id)));
    match asked.output.frame {
        Frame::Last(span) => rows.retain(|r| r.time >= read.time - span),
        Frame::Rows(n) => drop(rows.drain(..rows.len().saturating_sub(n as usize))),
        Frame::Lifetime => {}
    }
    let given: Vec<Given> = rows
        .iter()
        .map(|r| (r.time, r.values()))
        .filter(|(_, v)| asked.output.filter.is_none_or(|f| v[f] == Value::Bool(true)))
        .map(|(time, v)| Given {
            time,
            value: asked.output.column.map_or(Value::Bool(true), |c| v[c].clone()),
            second: asked.output.second.map_or(Value::Null, |c| v[c].clone()),
        })
        .collect();
    evaluate(&asked.call, &given, read.time)
}

/// Runs the steps through a store and the naive filter. What came before the watermark may be
/// taken back only where the frames hold it (see [`Store::retract`]).
fn run(
    asked: &[Asked],
    own_stream: bool,
    takes_back_old: bool,
    steps: &[Step],
) -> Result<Store, TestCaseError> {
    let outputs = asked.iter().map(|a| a.output.clone()).collect();
    let mut store = Store::new(Group { own_stream, outputs });
    let mut history: Vec<Row> = Vec::new();
    let mut watermark = -100;
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Insert(row) => {
                store.insert(row.key(), row.time, &id(row.id), &row.values());
                history.push(*row);
            }
            Step::Retract(index) if !history.is_empty() => {
                let at = index.index(history.len());
                let row = history[at];
                if takes_back_old || row.time >= watermark {
                    let found = store.retract(row.key(), row.time, &id(row.id), &row.values());
                    prop_assert!(found || row.time < watermark, "{row:?} was there");
                    history.swap_remove(at);
                    let gone = !history.contains(&row) && row.time >= watermark;
                    prop_assert!(
                        !gone || !store.retract(row.key(), row.time, &id(row.id), &row.values())
                    );
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
                    prop_assert!(
                        agrees(asked.call.name, got, &want),
                        "{title} over {:?} filter {:?} at {row:?}: {got:?}, by definition {want:?}",
                        output.frame,
                        output.filter
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
        }
    }
    Ok(store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_frames_at_once(steps in steps(), own_stream in any::<bool>()) {
        let frames = [Frame::Last(0), Frame::Last(4), Frame::Rows(3), Frame::Last(15), Frame::Rows(1), Frame::Lifetime];
        run(&asked(&frames, |_| true), own_stream, false, &steps)?;
    }

    #[test]
    fn time_frames_end_empty(steps in steps(), own_stream in any::<bool>()) {
        let mut store = run(&asked(&[Frame::Last(7), Frame::Last(2)], |_| true), own_stream, true, &steps)?;
        store.advance(1_000);
        prop_assert_eq!((store.size().0, store.size().1), (0, 0));
    }

    #[test]
    fn row_frames_keep_so_many(steps in steps(), own_stream in any::<bool>()) {
        let mut store = run(&asked(&[Frame::Rows(2), Frame::Rows(4)], |_| true), own_stream, false, &steps)?;
        store.advance(1_000);
        prop_assert!(store.size().1 <= 4 * store.size().0);
    }

    #[test]
    fn lifetime_keeps_no_rows(steps in steps(), own_stream in any::<bool>()) {
        let asked = asked(&[Frame::Lifetime], |a| !a.primitives().contains(&Primitive::Position));
        let mut store = run(&asked, own_stream, true, &steps)?;
        store.advance(1_000);
        prop_assert_eq!(store.size().1, 0);
    }

    #[test]
    fn time_and_lifetime_together(steps in steps(), own_stream in any::<bool>()) {
        let asked = asked(&[Frame::Last(5), Frame::Lifetime], |a| !a.primitives().contains(&Primitive::Position));
        run(&asked, own_stream, true, &steps)?;
    }
}

fn one(frame: Frame, name: &str, own_stream: bool) -> Store {
    let aggregate = Arc::from(build(name, Some(DataType::Int64)));
    Store::new(Group {
        own_stream,
        outputs: vec![Output { frame, column: Some(0), second: None, filter: None, aggregate }],
    })
}

fn read(store: &mut Store, time: Micros, id: i64) -> Value {
    let mut out = Vec::new();
    store.read(Some(Key::GLOBAL), time, &Id::Int(id), &mut out);
    out.remove(0)
}

#[test]
fn both_ends_of_a_time_frame_are_inside() {
    let mut store = one(Frame::Last(10), "sum", false);
    for (time, x) in [(0, 1), (10, 2), (11, 4)] {
        store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Int(x)]);
    }
    assert_eq!(
        [10, 11, 20, 21, 22].map(|t| read(&mut store, t, 0).as_i64()),
        [Some(3), Some(6), Some(6), Some(4), None]
    );
}

#[test]
fn in_its_own_stream_a_row_sees_itself_and_what_orders_before() {
    let (mut own, mut other) =
        (one(Frame::Last(10), "sum", true), one(Frame::Last(10), "sum", false));
    for store in [&mut own, &mut other] {
        for (id, x) in [(2, 2), (1, 1), (3, 4)] {
            store.insert(Key::GLOBAL, 5, &Id::Int(id), &[Value::Int(x)]);
        }
    }
    assert_eq!(
        [1, 2, 3, 0].map(|id| read(&mut own, 5, id).as_i64()),
        [Some(1), Some(3), Some(7), None]
    );
    assert_eq!([1, 2, 3, 0].map(|id| read(&mut other, 5, id).as_i64()), [Some(7); 4]);
}

#[test]
fn rows_of_one_id_stand_in_one_order() {
    let rows = [Value::Int(3), Value::Int(1), Value::Int(2)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut store = one(Frame::Rows(2), "first_value", true);
        for i in order {
            store.insert(Key::GLOBAL, 5, &Id::Int(1), &[rows[i].clone()]);
        }
        assert_eq!(read(&mut store, 5, 1), Value::Int(2));
        assert!(!store.retract(Key::GLOBAL, 5, &Id::Int(1), &[Value::Int(4)]));
        assert!(store.retract(Key::GLOBAL, 5, &Id::Int(1), &[Value::Int(3)]));
        assert_eq!(read(&mut store, 5, 1), Value::Int(1));
    }
}

#[test]
fn times_at_the_ends_of_the_range_do_not_overflow() {
    for frame in [Frame::Last(Micros::MAX), Frame::Rows(u64::MAX), Frame::Lifetime] {
        let mut store = one(frame, "sum", true);
        store.insert(Key::GLOBAL, Micros::MIN, &Id::Int(0), &[Value::Int(1)]);
        store.insert(Key::GLOBAL, Micros::MAX, &Id::Int(0), &[Value::Int(2)]);
        let want = if matches!(frame, Frame::Last(_)) { 2 } else { 3 };
        assert_eq!(read(&mut store, Micros::MAX, 0), Value::Int(want), "{frame:?}");
        store.advance(Micros::MAX);
        assert_eq!(read(&mut store, Micros::MAX, 0), Value::Int(want), "{frame:?}");
    }
}

/// A long slide over many keys holds a bounded number of rows, whether keys are read or not.
#[test]
fn memory_follows_the_window() {
    let mut store = one(Frame::Last(1_000), "max", true);
    let mut out = Vec::new();
    for time in 0..100_000i64 {
        // A busy key, and ten that are seen once in a while and never read.
        let key = if time % 10 == 0 { Key((time / 1_000 % 10 + 1) as u128) } else { Key::GLOBAL };
        store.insert(key, time, &Id::Int(time), &[Value::Int(time)]);
        if time % 20_000 < 10_000 {
            store.read(Some(Key::GLOBAL), time, &Id::Int(time), &mut out);
            out.clear();
        }
        if time % 50 == 0 {
            store.advance(time - 100);
            let (keys, rows, bytes) = store.size();
            assert!(
                keys <= 4 && rows <= 2_500 && bytes < 400_000,
                "{keys} keys, {rows} rows, {bytes} bytes"
            );
        }
    }
    store.advance(200_000);
    let (keys, rows, bytes) = store.size();
    assert!((keys, rows) == (0, 0) && bytes < 10_000, "{bytes} bytes");
}

/// A key that comes and goes leaves no more than one reminder to look at it.
#[test]
fn reminders_do_not_pile_up() {
    let mut store = one(Frame::Last(10), "sum", true);
    for _ in 0..2_000 {
        store.insert(Key::GLOBAL, 0, &Id::Int(0), &[Value::Int(1)]);
        assert!(store.retract(Key::GLOBAL, 0, &Id::Int(0), &[Value::Int(1)]));
    }
    for time in 0..100 {
        store.insert(Key::GLOBAL, time, &Id::Int(0), &[Value::Int(1)]);
        store.advance(time);
    }
    assert!(store.size().2 < 10_000, "{} bytes", store.size().2);
}
