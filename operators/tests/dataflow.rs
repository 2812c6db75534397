//! The window dataflow under timely: neither the number of workers, nor the length of a round, nor
//! the order in which rows come, nor what comes later, shows in a feature.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use tidemill_config::plan::{Edge, Exclude, Frame, Mode};
use tidemill_operators::aggregate::{Call, Unnest, build};
use tidemill_operators::column::values;
use tidemill_operators::dataflow::{
    CallProgram, Decide, FeatureProgram, GroupProgram, Keep, Kind, Program, Requests, Rows,
    StreamProgram, gather, scatter, windows,
};
use tidemill_operators::expression::{Scalar, parse_feature};
use tidemill_operators::window::{Group, Output, Rank};
use tidemill_types::long::long_bytes;
use tidemill_types::{DataType, Id, Item, Schema, Value};
use timely::communication::Config as Workers;
use timely::dataflow::operators::{Concat, Input, Inspect};

/// One event: source, time, id, key, amount.
type Event = (usize, i64, i64, &'static str, i64);

/// What comes out: (time, id) to the features.
type Found = BTreeMap<(i64, i64), Vec<Value>>;

/// Bytes of the texts of a batch: more than there are.
const MOST: u64 = 1 << 20;

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn schema() -> Schema {
    Schema::new([("key", DataType::String), ("amount", DataType::Int64)])
}

fn up_to_now(frame: Frame) -> (Frame, Edge) {
    (frame, Edge::default())
}

/// What the groups are over: the spine, the side stream, both, in the order in which rows of one time stand.
const GROUPS: [&[usize]; 3] = [&[0], &[1], &[1, 0]];

/// Windows of every kind over each; of each, the sum of the amounts.
fn kinds() -> Vec<(usize, Frame, Edge)> {
    let edge = |offset, exclude| Edge { offset, exclude };
    let now = Edge::default();
    vec![
        (0, Frame::Session(6), now),
        (0, Frame::Tumbling { size: 100, origin: 7 }, edge(0, Exclude::Row)),
        (0, Frame::Hopping { size: 90, every: 30, origin: 0 }, now),
        (0, Frame::Within { rows: 3, last: 60 }, edge(0, Exclude::Time)),
        (1, Frame::Last(40), edge(30, Exclude::Nothing)),
        (1, Frame::Session(9), now),
        (1, Frame::Tiled { last: 50, resolution: 20 }, now),
        (1, Frame::Rows(4), edge(15, Exclude::Time)),
        (1, Frame::Lifetime, now),
        (1, Frame::Last(40), now),
        (1, Frame::Last(40), edge(25, Exclude::Nothing)),
        (1, Frame::Last(40), edge(50, Exclude::Nothing)),
        (2, Frame::Last(60), now),
        (2, Frame::Rows(4), now),
        (2, Frame::Rows(3), edge(0, Exclude::Row)),
        (2, Frame::Within { rows: 3, last: 60 }, edge(0, Exclude::Time)),
        (2, Frame::Session(5), now),
        (2, Frame::Hopping { size: 90, every: 30, origin: 0 }, now),
        (2, Frame::Rows(5), edge(15, Exclude::Nothing)),
        (2, Frame::Lifetime, now),
    ]
}

/// Where the last three over the side stream stand among the outputs of their group: a series.
const SERIES: CallProgram = CallProgram { group: 1, output: 7, steps: Some(3) };

/// Spine and side stream of the same columns; windows over two sources.
fn program(mode: Mode, round: i64, batch_bytes: u64) -> Program {
    let scalar = |text: &str| Scalar::compile(text, &schema(), "UTC").expect(text);
    let types = [DataType::Int64, DataType::String];
    let group = |g: usize, outputs: &[(&str, Option<usize>, (Frame, Edge))]| {
        let text = ("last_value", Some(1), up_to_now(Frame::Rows(1)));
        let sums = kinds().into_iter().filter(|kind| kind.0 == g);
        let sums = sums.map(|(_, frame, edge)| ("sum", Some(0), (frame, edge)));
        let outputs: Vec<Output> = outputs
            .iter()
            .copied()
            .chain(sums)
            .chain((g == 0).then_some(text))
            .map(|(name, column, (frame, edge))| {
                let input = column.map(|column| types[column]);
                let call = Call {
                    name,
                    distinct: false,
                    input,
                    second: None,
                    constants: &[],
                    unnest: Unnest::No,
                };
                let aggregate = Arc::from(build(&call).expect("an aggregate"));
                Output { frame, edge, column, second: None, filter: None, aggregate }
            })
            .collect();
        let of = GROUPS[g];
        let rank = |n: usize| Rank::new(n, of.len()).expect("there are more ranks");
        let streams = of.iter().enumerate().map(|(n, source)| StreamProgram {
            source: *source,
            rank: rank(n),
            key: vec![scalar("key")],
            shared: (of.len() > 1).then(|| vec![0, 1]),
        });
        GroupProgram {
            names: vec!["w".to_string()],
            streams: streams.collect(),
            spine_key: vec![scalar("key")],
            columns: vec![scalar("amount"), scalar("key")],
            outputs: outputs.iter().map(|o| o.aggregate.output()).collect(),
            group: Group { own_stream: of.contains(&0), outputs },
        }
    };
    let (half, hundred) = (up_to_now(Frame::Last(50)), up_to_now(Frame::Last(100)));
    let groups = vec![
        group(0, &[("count", None, half), ("sum", Some(0), half)]),
        group(1, &[("sum", Some(0), hundred), ("last_value", Some(0), up_to_now(Frame::Rows(1)))]),
        group(2, &[]),
    ];
    let windows = |_: &str| Some(schema());
    let feature = |text: &str, calls: &[(usize, usize)]| {
        let parsed = parse_feature(text, &schema(), &windows, &["w"], "UTC").expect(text);
        let types: Vec<DataType> = calls.iter().map(|(g, o)| groups[*g].outputs[*o]).collect();
        let call = |&(group, output)| CallProgram { group, output, steps: None };
        FeatureProgram {
            scalar: parsed.finish(&schema(), &types).expect(text),
            calls: calls.iter().map(call).collect(),
        }
    };
    let mut features = vec![
        feature("count(*) over w", &[(0, 0)]),
        feature("sum(amount) over w - amount", &[(0, 1)]),
        feature("coalesce(sum(amount) over w, 0)", &[(1, 0)]),
        feature("last_value(amount) over w", &[(1, 1)]),
    ];
    let mut next = [2, 2, 0];
    for (group, ..) in kinds() {
        features.push(feature("coalesce(sum(amount) over w, 0)", &[(group, next[group])]));
        next[group] += 1;
    }
    features.push(feature("last_value(key) over w", &[(0, next[0])]));
    let parsed = parse_feature("sum(amount) over w", &schema(), &windows, &["w"], "UTC");
    let list = DataType::List(Item::Int64);
    features.push(FeatureProgram {
        scalar: parsed.and_then(|parsed| parsed.finish(&schema(), &[list])).expect("a list"),
        calls: vec![SERIES],
    });
    let mut types = vec![DataType::Int64; features.len() - 2];
    types.extend([DataType::String, list]);
    let names: Vec<String> = (0..features.len()).map(|n| format!("f{n}")).collect();
    Program {
        kept: None,
        batch_bytes,
        mode,
        round,
        spine: 0,
        spine_schema: schema(),
        feature_schema: Schema::new(names.into_iter().zip(types)),
        groups,
        features,
        labels: Vec::new(),
    }
}

/// The sum of what a window holds, by definition; `seen` are the rows of its sources and key, in order. Those of the
/// spine are the last of their time.
fn sum_of(
    frame: Frame,
    edge: Edge,
    own: bool,
    mut seen: Vec<&Event>,
    time: i64,
    id: i64,
) -> Option<i64> {
    let t = time - edge.offset;
    seen.retain(|e| match edge.exclude {
        Exclude::Time => e.1 < t,
        Exclude::Row => e.1 < t || e.1 == t && (e.0 > 0 || e.2 < id),
        Exclude::Nothing if own && edge.offset == 0 => {
            e.1 < t || e.1 == t && (e.0 > 0 || e.2 <= id)
        }
        Exclude::Nothing => e.1 <= t,
    });
    let from = match frame {
        Frame::Last(last) | Frame::Within { last, .. } => t - last,
        Frame::Tumbling { size, origin } => t - (t - origin).rem_euclid(size),
        Frame::Hopping { size, every, origin } => {
            let end = t - (t - origin).rem_euclid(every);
            seen.retain(|e| e.1 < end);
            end - size
        }
        Frame::Tiled { last, resolution } => t - last - (t - last).rem_euclid(resolution),
        Frame::Session(gap) => {
            let newest_first = seen.iter().rev().map(|e| e.1);
            newest_first.fold(t, |start, time| if start - time <= gap { time } else { start })
        }
        _ => i64::MIN,
    };
    seen.retain(|e| e.1 >= from);
    if let Frame::Session(gap) = frame
        && seen.last().is_some_and(|e| t - e.1 > gap)
    {
        return None;
    }
    let most = match frame {
        Frame::Rows(rows) | Frame::Within { rows, .. } => rows as usize,
        _ => seen.len(),
    };
    let held = seen.iter().rev().take(most).map(|e| e.4);
    held.reduce(|sum, amount| sum + amount)
}

/// The same by definition.
fn naive(events: &[Event]) -> Found {
    let mut found = Found::new();
    for (_, time, id, key, amount) in events.iter().filter(|e| e.0 == 0) {
        let own: Vec<&Event> = events
            .iter()
            .filter(|e| e.0 == 0 && e.3 == *key && e.1 >= time - 50 && (e.1, e.2) <= (*time, *id))
            .collect();
        let side: Vec<&Event> =
            events.iter().filter(|e| e.0 == 1 && e.3 == *key && e.1 <= *time).collect();
        let last = side.iter().max_by_key(|e| (e.1, e.2)).map(|e| e.4);
        let others: i64 = own.iter().map(|e| e.4).sum::<i64>() - amount;
        let recent: i64 = side.iter().filter(|e| e.1 >= time - 100).map(|e| e.4).sum();
        let mut row = vec![
            Value::Int(own.len() as i64),
            Value::Int(others),
            Value::Int(recent),
            last.map_or(Value::Null, Value::Int),
        ];
        let mut sums = Vec::new();
        for (group, frame, edge) in kinds() {
            let of = GROUPS[group];
            let mut seen: Vec<&Event> =
                events.iter().filter(|e| of.contains(&e.0) && e.3 == *key).collect();
            seen.sort_by_key(|e| (e.1, e.0 == 0, e.2));
            sums.push(sum_of(frame, edge, of.contains(&0), seen, *time, *id));
        }
        row.extend(sums.iter().map(|sum| Value::Int(sum.unwrap_or(0))));
        let of_side = sums.iter().zip(kinds()).filter(|(_, kind)| kind.0 == 1);
        let of_side: Vec<Option<i64>> = of_side.map(|(sum, _)| *sum).collect();
        let series = &of_side[of_side.len() - 3..];
        row.push(Value::Text((*key).into()));
        row.push(Value::List(
            series.iter().map(|sum| sum.map_or(Value::Null, Value::Int)).collect(),
        ));
        found.insert((*time, *id), row);
    }
    found
}

fn rows(source: usize, events: &[&Event], first_slot: u64) -> Rows {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(events.iter().map(|e| e.3))),
        Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.4))),
    ];
    Rows {
        source,
        times: events.iter().map(|e| e.1).collect(),
        ids: events.iter().map(|e| Id::Int(e.2)).collect(),
        batch: RecordBatch::try_new(schema().to_arrow(), columns).expect("rows"),
        first_slot,
        known: false,
    }
}

/// Runs the dataflow: each worker reads every `workers`-th event, in the order given within a round.
fn run(events: Vec<Event>, workers: usize, round: i64) -> Found {
    run_in(events, workers, round, MOST)
}

/// The same in batches of so many bytes of texts.
fn run_in(events: Vec<Event>, workers: usize, round: i64, most: u64) -> Found {
    let found = Arc::new(Mutex::new(Found::new()));
    let out = Arc::clone(&found);
    let config = timely::Config {
        communication: Workers::Process(workers),
        worker: timely::WorkerConfig::default(),
    };
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let program = Arc::new(program(Mode::Final, round, most));
        let mut input = timely::dataflow::InputHandle::new();
        let out = Arc::clone(&out);
        worker.dataflow::<u64, _, _>(|scope| {
            let rows = scope.input_from(&mut input).container::<Vec<Arc<Rows>>>();
            let (requests, _) = scatter(rows.clone(), Arc::clone(&program), index, peers);
            let answers = windows(requests, Arc::clone(&program), index, peers, Keep::default());
            let answers = answers.inspect(move |answers| {
                let bytes = long_bytes(answers.columns.0.columns(), 0..answers.slots.len());
                assert!(bytes <= most + 1, "{bytes} bytes of answers");
            });
            gather(rows, answers, Arc::clone(&program), None).inspect(move |decide| {
                let Decide::Features(features) = decide else { return };
                // A row has a letter, and is answered one.
                assert!(2 * features.times.len() as u64 <= most, "{} rows", features.times.len());
                let columns: Vec<Vec<Value>> =
                    features.columns.0.columns().iter().map(values).collect();
                let mut out = out.lock().expect("nobody panicked");
                for (row, (time, id)) in features.times.iter().zip(&features.ids).enumerate() {
                    let Id::Int(id) = id else { panic!("an id of another kind") };
                    let values = columns.iter().map(|c| c[row].clone()).collect();
                    assert!(out.insert((*time, *id), values).is_none(), "a row came twice");
                }
            });
        });
        let mut rounds: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
        for event in events.iter().skip(index).step_by(peers) {
            rounds.entry(program.round_of(event.1)).or_default().push(event);
        }
        let mut slots = 0;
        for (round, events) in rounds {
            input.advance_to(round);
            for source in [0, 1] {
                let of: Vec<&Event> = events.iter().filter(|e| e.0 == source).copied().collect();
                input.send(Arc::new(rows(source, &of, slots)));
                slots += if source == 0 { of.len() as u64 } else { 0 };
            }
        }
        input.close();
    });
    drop(guards.expect("workers"));
    found.lock().expect("nobody panicked").clone()
}

/// A window that no feature reads is passed over. Where a run is stopped its rounds are left: nobody is answered, and the dataflow comes to its end.
#[test]
fn a_round_is_left_where_the_run_is_stopped() {
    for (mode, stopped) in
        [(Mode::Final, false), (Mode::Final, true), (Mode::AtOnce, false), (Mode::AtOnce, true)]
    {
        let answered = Arc::new(Mutex::new(0));
        let count = Arc::clone(&answered);
        let guards = timely::execute(timely::Config::thread(), move |worker| {
            let mut program = program(mode, 10, MOST);
            // What no feature reads is not asked, stopped or not.
            let unread = &mut program.groups[0];
            unread.outputs.clear();
            unread.group.outputs.clear();
            let program = Arc::new(program);
            let mut input = timely::dataflow::InputHandle::new();
            let count = Arc::clone(&count);
            let keep = Keep { stop: Arc::new(AtomicBool::new(stopped)), ..Keep::default() };
            worker.dataflow::<u64, _, _>(|scope| {
                let rows = scope.input_from(&mut input).container::<Vec<Arc<Rows>>>();
                let (requests, _) = scatter(rows, Arc::clone(&program), 0, 1);
                windows(requests, program, 0, 1, keep).inspect(move |answers| {
                    *count.lock().expect("nobody panicked") += answers.slots.len();
                });
            });
            for round in [1, 2, 3] {
                input.advance_to(round);
                let event: Event = (0, round as i64 * 10, round as i64, "a", 1);
                input.send(Arc::new(rows(0, &[&event], round)));
            }
            input.close();
        });
        drop(guards.expect("a worker"));
        let answered = *answered.lock().expect("nobody panicked");
        assert_eq!(answered == 0, stopped, "{mode:?}");
    }
}

/// Runs the dataflow in `at_once` mode: rows come in any order, a few to an epoch, each worker with
/// the lateness that takes. Returns the last answers, and how many differ from the first.
fn run_at_once(events: Vec<Event>, workers: usize, most: u64) -> (Found, usize) {
    let found = Arc::new(Mutex::new((Found::new(), Found::new())));
    let out = Arc::clone(&found);
    let config = timely::Config {
        communication: Workers::Process(workers),
        worker: timely::WorkerConfig::default(),
    };
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let program = Arc::new(program(Mode::AtOnce, 1, most));
        let mut input = timely::dataflow::InputHandle::new();
        let mut marks = timely::dataflow::InputHandle::new();
        let out = Arc::clone(&out);
        worker.dataflow::<u64, _, _>(|scope| {
            let rows = scope.input_from(&mut input).container::<Vec<Arc<Rows>>>();
            let marks = scope.input_from(&mut marks).container::<Vec<Requests>>();
            let (requests, _) = scatter(rows.clone(), Arc::clone(&program), index, peers);
            let requests = requests.concat(marks);
            let answers = windows(requests, Arc::clone(&program), index, peers, Keep::default());
            let answers = answers.inspect(move |answers| {
                let bytes = long_bytes(answers.columns.0.columns(), 0..answers.slots.len());
                assert!(bytes <= most + 1, "{bytes} bytes of answers");
            });
            gather(rows, answers, Arc::clone(&program), None).inspect(move |decide| {
                let Decide::Features(features) = decide else { return };
                // A row has a letter, and is answered one.
                assert!(2 * features.times.len() as u64 <= most, "{} rows", features.times.len());
                let columns: Vec<Vec<Value>> =
                    features.columns.0.columns().iter().map(values).collect();
                let mut out = out.lock().expect("nobody panicked");
                let to = if features.last { &mut out.1 } else { &mut out.0 };
                for (row, (time, id)) in features.times.iter().zip(&features.ids).enumerate() {
                    let Id::Int(id) = id else { panic!("an id of another kind") };
                    let values = columns.iter().map(|c| c[row].clone()).collect();
                    assert!(to.insert((*time, *id), values).is_none(), "a row came twice");
                }
            });
        });
        let own: Vec<&Event> = events.iter().skip(index).step_by(peers).collect();
        let mut slots = 0;
        for (epoch, events) in own.chunks(7).enumerate() {
            input.advance_to(epoch as u64);
            marks.advance_to(epoch as u64);
            for source in [0, 1] {
                let of: Vec<&Event> = events.iter().filter(|e| e.0 == source).copied().collect();
                input.send(Arc::new(rows(source, &of, slots)));
                slots += if source == 0 { of.len() as u64 } else { 0 };
            }
            let rest = own[(epoch * 7 + events.len())..].iter().map(|e| e.1);
            let mark = rest.min().unwrap_or(i64::MAX);
            for to in 0..peers {
                let (keys, times, ids) = Default::default();
                let kind = Kind::Mark(mark);
                marks.send(Requests { to, from: index, group: usize::MAX, keys, times, ids, kind });
            }
        }
        input.close();
        marks.close();
    });
    drop(guards.expect("workers"));
    let (first, last) = found.lock().expect("nobody panicked").clone();
    let corrected = last.iter().filter(|(row, values)| first.get(row) != Some(values)).count();
    (last, corrected)
}

fn shuffled(mut events: Vec<Event>, seed: u64) -> Vec<Event> {
    let mut next = generator(seed);
    for i in (1..events.len()).rev() {
        events.swap(i, next(i + 1));
    }
    events
}

fn generator(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

fn events(seed: u64) -> Vec<Event> {
    let (mut next, mut ids) = (generator(seed), [0; 2]);
    (0..400)
        .map(|_| {
            // Ties in time are common, across sources too; times lie on both sides of 1970.
            let time = next(300) as i64 * 3 - 200;
            let source = next(2);
            ids[source] += 1;
            (source, time, ids[source], KEYS[next(5)], next(100) as i64 - 50)
        })
        .collect()
}

#[test]
fn workers_rounds_and_arrival_do_not_show() {
    for seed in 1..=3 {
        let events = events(seed);
        let wanted = naive(&events);
        for (workers, round) in [(1, 1), (1, 10_000), (2, 1), (2, 30), (3, 10_000)] {
            let found = run(shuffled(events.clone(), seed + 100), workers, round);
            assert_eq!(found, wanted, "seed {seed}, {workers} workers, rounds of {round}");
        }
    }
}

/// In whatever order rows come, once the watermark has passed they have the features of `final`.
#[test]
fn at_once_ends_with_the_final_features() {
    for seed in 5..=7 {
        let events = events(seed);
        for workers in [1, 2] {
            let (last, corrected) =
                run_at_once(shuffled(events.clone(), seed + 100), workers, MOST);
            assert_eq!(last, naive(&events), "seed {seed}, {workers} workers");
            assert!(corrected > 50, "{corrected} rows were corrected");
        }
    }
}

/// Rows whose texts are too long for one batch, one or a few to a batch.
#[test]
fn batches_do_not_show() {
    let events = events(8);
    let wanted = naive(&events);
    for (workers, most) in [(1, 2), (1, 7), (2, 7), (3, 30)] {
        for round in [30, 10_000] {
            let found = run_in(shuffled(events.clone(), 9), workers, round, most);
            assert_eq!(found, wanted, "{workers} workers, rounds of {round}, {most} bytes");
            let in_order = run_in(events.clone(), workers, round, most);
            assert_eq!(in_order, wanted, "{workers} workers, rounds of {round}, {most} bytes");
        }
        let (last, corrected) = run_at_once(shuffled(events.clone(), 9), workers, most);
        assert_eq!(last, wanted, "{workers} workers, {most} bytes");
        assert!(corrected > 50, "{corrected} rows were corrected");
    }
}

/// No feature may see what was not yet known: the future is replaced, the past stays as it was.
#[test]
fn the_future_does_not_show() {
    let events = events(4);
    let before = run(events.clone(), 2, 30);
    let now = 300;
    let mut next = generator(9);
    let changed = events
        .into_iter()
        .map(|(source, time, id, key, amount)| match time > now {
            true => (source, time, id, KEYS[next(5)], amount * 1_000 + next(7) as i64),
            false => (source, time, id, key, amount),
        })
        .collect();
    let after = run(changed, 2, 30);
    let past = |found: &Found| found.iter().filter(|((t, _), _)| *t <= now).count();
    assert!(past(&before) > 50);
    for (row, values) in before.iter().filter(|((t, _), _)| *t <= now) {
        assert_eq!(after.get(row), Some(values), "{row:?} saw the future");
    }
    assert_ne!(before, after);
}
