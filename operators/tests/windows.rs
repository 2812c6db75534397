//! The law of windows: at any moment a window holds what a naive filter over all history holds.

mod law;
mod naive;

use std::sync::Arc;

use law::*;
use proptest::prelude::*;
use tidemill_config::plan::{Edge, Exclude, Frame, Period};
use tidemill_operators::aggregate::{Aggregate, Primitive};
use tidemill_operators::window::{Group, Output, Store};
use tidemill_types::time::DAY;
use tidemill_types::{DataType, Id, Key, Micros, Value, Zone};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_frames_at_once(steps in steps(), own_stream in any::<bool>()) {
        let frames = [Frame::Last(0), Frame::Last(4), Frame::Rows(3), Frame::Last(15), Frame::Rows(1), Frame::Lifetime];
        let before = Before { inserts: true, retracts: false };
        run(&asked(&frames.map(up_to_now), |_| true), own_stream, before, &steps)?;
    }

    #[test]
    fn every_kind_of_frame_at_once(steps in steps(), own_stream in any::<bool>()) {
        let zone = Zone::UTC;
        let frames = [
            Frame::Within { rows: 3, last: 9 },
            Frame::Tumbling { size: 7, origin: 2 },
            Frame::Hopping { size: 12, every: 5, origin: 1 },
            Frame::Hopping { size: 6, every: 6, origin: 0 },
            Frame::Calendar { period: Period::Month, zone },
            Frame::Session(3),
            Frame::Session(1),
            Frame::Session(0),
            Frame::Tiled { last: 11, resolution: 4 },
            Frame::Decayed(10),
            Frame::Rows(2),
        ];
        let before = Before { inserts: false, retracts: false };
        run(&asked(&frames.map(up_to_now), |_| true), own_stream, before, &steps)?;
    }

    #[test]
    fn every_edge_at_once(steps in steps(), own_stream in any::<bool>(), rotate in 0..6usize) {
        let zone = Zone::UTC;
        let edges = [
            edge(0, Exclude::Row),
            edge(0, Exclude::Time),
            edge(3, Exclude::Nothing),
            edge(20, Exclude::Nothing),
            edge(5, Exclude::Time),
            edge(0, Exclude::Nothing),
        ];
        let frames = [
            Frame::Last(6),
            Frame::Rows(3),
            Frame::Within { rows: 2, last: 8 },
            Frame::Tumbling { size: 9, origin: 0 },
            Frame::Hopping { size: 8, every: 3, origin: 2 },
            Frame::Calendar { period: Period::Day, zone },
            Frame::Session(2),
            Frame::Tiled { last: 5, resolution: 6 },
            Frame::Lifetime,
        ];
        let frames: Vec<(Frame, Edge)> =
            frames.iter().enumerate().map(|(i, frame)| (*frame, edges[(i + rotate) % 6])).collect();
        let before = Before { inserts: false, retracts: false };
        run(&asked(&frames, |_| true), own_stream, before, &steps)?;
    }

    #[test]
    fn time_frames_end_empty(steps in steps(), own_stream in any::<bool>()) {
        let frames = [Frame::Last(7), Frame::Last(2)].map(up_to_now);
        let before = Before { inserts: true, retracts: true };
        let mut store = run(&asked(&frames, |_| true), own_stream, before, &steps)?;
        store.advance(1_000);
        prop_assert_eq!((store.size().0, store.size().1), (0, 0));
    }

    /// Alone or with any other, no frame that is bounded by time keeps a row for ever.
    #[test]
    fn frames_bounded_by_time_end_empty(
        steps in steps(),
        own_stream in any::<bool>(),
        subset in 1..256u32,
        offset in prop_oneof![Just(0), Just(13)],
    ) {
        let frames = [
            Frame::Within { rows: 2, last: 8 },
            Frame::Tumbling { size: 9, origin: 4 },
            Frame::Hopping { size: 8, every: 3, origin: 2 },
            Frame::Calendar { period: Period::Hour, zone: Zone::UTC },
            Frame::Session(2),
            Frame::Session(5),
            Frame::Tiled { last: 5, resolution: 6 },
            Frame::Last(3),
        ];
        let frames: Vec<(Frame, Edge)> = (0..8)
            .filter(|i| subset >> i & 1 == 1)
            .map(|i| (frames[i], edge(if i % 2 == 0 { offset } else { 0 }, Exclude::Nothing)))
            .collect();
        let keeps = |frame: &Frame| !matches!(frame, Frame::Within { .. } | Frame::Tiled { .. });
        let retracts = frames.iter().all(|(frame, _)| keeps(frame));
        let before = Before { inserts: false, retracts };
        let mut store = run(&asked(&frames, |_| true), own_stream, before, &steps)?;
        store.advance(DAY);
        prop_assert_eq!((store.size().0, store.size().1), (0, 0));
    }

    #[test]
    fn row_frames_keep_so_many(steps in steps(), own_stream in any::<bool>()) {
        let frames = [Frame::Rows(2), Frame::Rows(4)].map(up_to_now);
        let before = Before { inserts: true, retracts: false };
        let mut store = run(&asked(&frames, |_| true), own_stream, before, &steps)?;
        store.advance(1_000);
        prop_assert!(store.size().1 <= 4 * store.size().0);
    }

    #[test]
    fn lifetime_keeps_no_rows(steps in steps(), own_stream in any::<bool>(), offset in 0..9i64) {
        let frames = [up_to_now(Frame::Lifetime), (Frame::Lifetime, edge(offset, Exclude::Nothing))];
        let asked = asked(&frames, |a| !a.primitives().contains(&Primitive::Position));
        let before = Before { inserts: true, retracts: true };
        let mut store = run(&asked, own_stream, before, &steps)?;
        store.advance(1_000);
        prop_assert_eq!(store.size().1, 0);
    }

    #[test]
    fn time_and_lifetime_together(steps in steps(), own_stream in any::<bool>()) {
        let frames = [Frame::Last(5), Frame::Lifetime].map(up_to_now);
        let asked = asked(&frames, |a| !a.primitives().contains(&Primitive::Position));
        let before = Before { inserts: true, retracts: true };
        run(&asked, own_stream, before, &steps)?;
    }
}

/// Steps over many rows, of which most are settled soon: what tiles are for.
fn busy_steps() -> impl Strategy<Value = Vec<Step>> {
    let row = |spread: Micros| row(2, spread);
    let step = prop_oneof![
        70 => row(12).prop_map(Step::Insert),
        8 => row(60).prop_map(Step::Read),
        4 => row(300).prop_map(|row| Step::Read(Row { time: row.time - 300, ..row })),
        3 => row(300).prop_map(|row| Step::Peek(Row { time: row.time - 300, id: ASKER, ..row })),
        3 => any::<prop::sample::Index>().prop_map(Step::Retract),
        4 => (12..40i64).prop_map(Step::Advance),
        1 => Just(Step::Restart),
        2 => (1..4_000usize).prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 600..800).prop_map(|mut steps| {
        for (i, step) in steps.iter_mut().enumerate() {
            let now = i as i64 / 2;
            match step {
                Step::Insert(row) | Step::Read(row) | Step::Peek(row) => row.time = now - row.time,
                Step::Advance(time) => *time = now - *time,
                _ => {}
            }
        }
        steps
    })
}

/// Whether it reads counts, sums and ends of numbers alone.
fn is_of_moments(aggregate: &dyn Aggregate) -> bool {
    use Primitive::{Count, Greatest, Least, Sum, SumSquares};
    let of_moments = |p: &Primitive| matches!(p, Count | Greatest | Least | Sum | SumSquares);
    aggregate.primitives().iter().all(of_moments)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whether rows are held or tiles does not show, whatever comes late, is asked or is saved and restored.
    #[test]
    fn tiles_hold_what_their_rows_would(
        steps in busy_steps(),
        own_stream in any::<bool>(),
        exclude in prop_oneof![Just(Exclude::Nothing), Just(Exclude::Row), Just(Exclude::Time)],
        offset in prop_oneof![Just(0), Just(25)],
        beside in any::<bool>(),
    ) {
        let mut frames = vec![
            (Frame::Tiled { last: 200, resolution: 40 }, edge(0, exclude)),
            (Frame::Tiled { last: 90, resolution: 60 }, edge(offset, Exclude::Nothing)),
        ];
        if beside {
            frames.push(up_to_now(Frame::Last(15)));
        }
        let asked = asked(&frames, is_of_moments);
        let before = Before { inserts: false, retracts: false };
        let mut store = run(&asked, own_stream, before, &steps)?;
        let group = Group { own_stream, outputs: asked.into_iter().map(|a| a.output).collect() };
        // All is settled, and nothing is left to be seen.
        store.advance(10_000);
        prop_assert_eq!((store.size().0, store.size().1), (0, 0));
        prop_assert_eq!(store.save(), Store::new(group).save());
    }
}

/// Tiles take the place of rows, in as much memory as there are tiles.
#[test]
fn memory_follows_the_tiles() {
    let tiled = Frame::Tiled { last: 100_000, resolution: 1_000 };
    for (name, most) in [("max", 40_000), ("sum", 40_000), ("last_value", 10_000_000)] {
        let mut store = one(tiled, name, false);
        let mut sums = Vec::new();
        for time in 0..300_000i64 {
            store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Int(time % 1_777)]);
            if time % 5_000 == 4_999 {
                sums.push(read(&mut store, time, 0));
                store.advance(time - 100);
            }
        }
        let (_, rows, bytes) = store.size();
        assert!(bytes < most, "{name}: {rows} rows, {bytes} bytes");
        assert!((rows > 100_000) == (name == "last_value"), "{name}: {rows} rows");
        let mut newest = (199_000..300_000).map(|time| time % 1_777);
        let want = match name {
            "max" => newest.max(),
            "sum" => Some(newest.sum()),
            _ => newest.next_back(),
        };
        assert_eq!(sums.last().and_then(Value::as_i64), want, "{name}");
        let saved: Vec<Vec<u8>> = store.save().into_values().collect();
        let mut restored = one(tiled, name, false);
        saved.iter().for_each(|bytes| restored.restore(bytes, |_| true).expect("what was saved"));
        restored.advance(299_900);
        for time in [299_999, 310_500, 399_000, 400_999] {
            assert_eq!(read(&mut restored, time, 0), read(&mut store, time, 0), "{name} at {time}");
        }
        restored.advance(1_000_000);
        assert_eq!(restored.size().0, 0, "{name}: a key of tiles alone ends");
    }
}

/// Of a key of few rows a tile they are kept: tiles would take more memory.
#[test]
fn few_rows_are_no_tiles() {
    let mut store = one(Frame::Tiled { last: 100_000, resolution: 10 }, "sum", false);
    for time in (0..100_000i64).step_by(20) {
        store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Int(1)]);
        store.advance(time - 5);
    }
    assert_eq!(store.size().1, 5_000);
    assert_eq!(read(&mut store, 100_000, 0), Value::Int(5_000));
}

fn one(frame: Frame, name: &str, own_stream: bool) -> Store {
    one_up_to(frame, Edge::default(), name, own_stream)
}

fn one_up_to(frame: Frame, edge: Edge, name: &str, own_stream: bool) -> Store {
    let aggregate = Arc::from(build(name, Some(DataType::Int64)));
    Store::new(Group {
        own_stream,
        outputs: vec![Output {
            frame,
            edge,
            column: Some(0),
            second: None,
            filter: None,
            aggregate,
        }],
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

/// The same for every kind of window that time bounds: what is held is what some read may still see,
/// and about as much again.
#[test]
fn memory_follows_every_kind_of_window() {
    let now = Edge::default();
    let kinds = [
        (Frame::Tumbling { size: 1_000, origin: 500 }, now, 1_000),
        (Frame::Hopping { size: 1_000, every: 250, origin: 0 }, now, 1_250),
        (Frame::Tiled { last: 1_000, resolution: 100 }, now, 1_100),
        (Frame::Within { rows: 20, last: 1_000 }, now, 20),
        (Frame::Rows(20), edge(500, Exclude::Nothing), 520),
        (Frame::Last(500), edge(500, Exclude::Time), 1_000),
        // Bursts of 600 rows, then a pause.
        (Frame::Session(50), now, 600),
    ];
    for (frame, edge, rows_seen) in kinds {
        let mut store = one_up_to(frame, edge, "max", true);
        let mut out = Vec::new();
        for time in (0..40_000i64).filter(|time| time % 1_000 < 600) {
            store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Int(time)]);
            if time % 10_000 < 5_000 {
                store.read(Some(Key::GLOBAL), time, &Id::Int(time), &mut out);
                out.clear();
            }
            if time % 50 == 0 {
                // A hundred rows are not settled yet.
                store.advance(time - 100);
                let (_, rows, bytes) = store.size();
                let most = 2 * (rows_seen + 100) + 50;
                assert!(
                    rows <= most,
                    "{frame:?} {edge:?}: {rows} rows at {time}, more than {most}"
                );
                assert!(bytes <= 250 * most + 5_000, "{frame:?} {edge:?}: {bytes} bytes");
            }
        }
        store.advance(1_000_000);
        let (keys, rows, _) = store.size();
        let kept = if matches!(frame, Frame::Rows(_)) { (1, 20) } else { (0, 0) };
        assert_eq!((keys, rows), kept, "{frame:?} {edge:?}");
    }
}

/// Late rows join sessions, and what is taken back splits them.
#[test]
fn sessions_join_and_split() {
    let mut store = one(Frame::Session(5), "sum", false);
    let insert = |store: &mut Store, time: Micros, x: i64| {
        store.insert(Key::GLOBAL, time, &Id::Int(time), &[Value::Int(x)]);
    };
    for (time, x) in [(0, 1), (5, 2), (11, 4), (20, 8)] {
        insert(&mut store, time, x);
    }
    // Five apart is together; the session of 11 is open up to 16.
    let times = [0, 5, 10, 11, 16, 17, 20, 25, 26];
    let sums = |store: &mut Store| times.map(|time| read(store, time, 0).as_i64().unwrap_or(0));
    assert_eq!(sums(&mut store), [1, 3, 3, 4, 4, 0, 8, 8, 0]);
    insert(&mut store, 8, 16);
    assert_eq!(sums(&mut store), [1, 3, 19, 23, 23, 0, 8, 8, 0]);
    insert(&mut store, 16, 32);
    assert_eq!(sums(&mut store), [1, 3, 19, 23, 55, 55, 63, 63, 0]);
    assert!(store.retract(Key::GLOBAL, 8, &Id::Int(8), &[Value::Int(16)]));
    assert_eq!(sums(&mut store), [1, 3, 3, 4, 36, 36, 44, 44, 0]);
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

proptest! {
    /// Bytes of any kind are rows or are refused.
    #[test]
    fn damaged_snapshots_never_panic(
        steps in steps(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let frames = [Frame::Last(5), Frame::Lifetime].map(up_to_now);
        let asked = asked(&frames, |a| !a.primitives().contains(&Primitive::Position));
        let before = Before { inserts: true, retracts: true };
        let store = run(&asked, true, before, &steps)?;
        let outputs = asked.iter().map(|a| a.output.clone()).collect();
        let mut fresh = Store::new(Group { own_stream: true, outputs });
        for mut bytes in store.save().into_values() {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let _ = fresh.restore(&bytes, |_| true);
        }
    }
}
