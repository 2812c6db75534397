//! The laws of running values, over all primitives and all that aggregates keep themselves: merging, taking
//! out, saving and restoring give what a fresh computation gives, to the last bit of the bytes saved
//! and of the result read.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemill_types::{DataType, Item, Micros, Value};

use super::super::bytes::{Reader, Writer};
use super::super::extreme::{End, Extreme};
use super::super::moment::Moment;
use super::super::numbers::{Asks, Numbers};
use super::super::{AGGREGATES, Aggregate, Call, Columns, Primitive, Row, Rows, Unnest, View};
use super::State;

const TYPES: [DataType; 4] = [DataType::Int64, DataType::Float64, DataType::String, DataType::Bool];
const LISTS: [DataType; 2] = [DataType::List(Item::Float64), DataType::List(Item::String)];
const MAPS: [DataType; 1] = [DataType::Map(Item::Float64)];

/// A row before it has types.
#[derive(Clone, Debug)]
struct Seed {
    time: Micros,
    value: i32,
    second: i32,
}

/// Few values and many, specials, magnitudes that need every width, NULL.
fn value(of: DataType, n: i32) -> Value {
    match (of, n) {
        (_, 0) => Value::Null,
        (DataType::List(item), _) => {
            (0..n.rem_euclid(5)).map(|k| value(item.into(), n / (k + 1))).collect()
        }
        (DataType::Map(item), _) => Value::map(
            (0..n.rem_euclid(5))
                .map(|k| (format!("{}", (n + k) % 7).into(), value(item.into(), n / (k + 1)))),
        ),
        (DataType::Bool, _) => Value::Bool(n % 2 == 0),
        (DataType::String, _) => Value::Text(format!("{}", n % 40).into()),
        (DataType::Float64, 1..=3) => {
            Value::Float([f64::INFINITY, f64::NAN, f64::NEG_INFINITY][n as usize - 1])
        }
        (DataType::Float64, 4..=9) => {
            Value::Float([f64::MAX, f64::MIN, 5e-324, -0.0, 1e300, 0.1][n as usize - 4])
        }
        (DataType::Float64, _) => Value::Float(f64::from(n) / 100.0),
        (_, 1) => Value::Int(i64::MAX),
        (_, 2) => Value::Int(i64::MIN),
        _ => Value::Int(i64::from(n)),
    }
}

fn seeds(most: usize) -> impl Strategy<Value = Vec<Seed>> {
    let number = || prop_oneof![1 => 0..10i32, 4 => -50..50i32, 2 => -100_000..100_000i32];
    let seed = (0..100i64, number(), number());
    prop::collection::vec(
        seed.prop_map(|(time, value, second)| Seed { time, value, second }),
        0..most,
    )
}

/// States over nothing, with the types of what they are over.
struct Prototype {
    title: String,
    types: (DataType, DataType),
    state: State,
}

/// Each primitive over each type, and each running value of an aggregate once a pair of types.
fn prototypes() -> Vec<Prototype> {
    let mut all = Vec::new();
    for value in TYPES {
        for primitive in [
            Primitive::Count,
            Primitive::Sum,
            Primitive::SumSquares,
            Primitive::Least,
            Primitive::Greatest,
            Primitive::Ordered,
            Primitive::Distinct,
        ] {
            let state = State::new(primitive).expect("a primitive with a state");
            let (title, types) = (format!("{primitive:?} of {value}"), (value, value));
            all.push(Prototype { title, types, state });
        }
    }
    let mut own = BTreeMap::new();
    for (name, types, aggregate) in aggregates() {
        if let Some(running) = aggregate.running() {
            let title = format!("{} of {name}({}, {})", running.name(), types.0, types.1);
            let place = (running.name(), types.0.name(), types.1.name());
            own.entry(place).or_insert(Prototype { title, types, state: State::Own(running) });
        }
    }
    all.extend(own.into_values());
    all
}

/// Everything that can be built over these types.
fn aggregates() -> Vec<(&'static str, (DataType, DataType), Box<dyn Aggregate>)> {
    let half_life = Value::Text("7us".into());
    let constants = [vec![], vec![half_life], vec![Value::Int(2)], vec![Value::Float(0.25)]];
    let mut all = Vec::new();
    for entry in AGGREGATES {
        let seconds =
            [None, Some(DataType::Int64), Some(DataType::Float64), Some(DataType::String)];
        let plain = TYPES.iter().chain(&LISTS).chain(&MAPS).map(|input| (*input, Unnest::No));
        let over = plain.chain(LISTS.map(|input| (input, Unnest::First)));
        let over = over.flat_map(|(input, unnest)| seconds.map(|second| (input, second, unnest)));
        let by_item = LISTS.map(|second| (DataType::Int64, Some(second), Unnest::Second));
        for (input, second, unnest) in over.chain(by_item) {
            for constants in &constants {
                let (name, input_type) = (entry.name, Some(input));
                let call =
                    Call { name, distinct: false, input: input_type, second, constants, unnest };
                if let Ok(aggregate) = super::super::build(&call) {
                    all.push((name, (input, second.unwrap_or(DataType::Int64)), aggregate));
                }
            }
        }
    }
    all
}

/// The same over no rows.
fn empty(state: &State) -> State {
    match state {
        State::Own(running) => State::Own(running.fresh()),
        State::Count(_) => State::Count(0),
        State::Numbers(numbers) => State::Numbers(Box::new(Numbers::new(numbers.asks()))),
        State::Ordered(_) => State::Ordered(Default::default()),
        State::Distinct(_) => State::Distinct(Default::default()),
    }
}

fn feed(state: &mut State, types: (DataType, DataType), seeds: &[Seed], out: bool) {
    for seed in seeds {
        let (value, second) = (value(types.0, seed.value), value(types.1, seed.second));
        let row = Row { time: seed.time, value: &value, second: &second };
        if out { state.remove(&row) } else { state.insert(&row) }
    }
}

fn over(prototype: &Prototype, seeds: &[Seed]) -> State {
    let mut state = empty(&prototype.state);
    feed(&mut state, prototype.types, seeds, false);
    state
}

/// Pieces of rows, each row in one.
fn pieces<'a>(seeds: &'a [Seed], cuts: &[prop::sample::Index]) -> Vec<&'a [Seed]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(seeds.len() + 1)).collect();
    places.extend([0, seeds.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &seeds[pair[0]..pair[1]]).collect()
}

/// No rows: what reads them is not asked here.
struct NoRows;

impl Rows for NoRows {
    fn walk(&self, _: Columns, _: bool, _: usize, _: &mut dyn FnMut(Row<'_>) -> bool) {}
}

/// What an aggregate answers over its states.
fn answer(aggregate: &dyn Aggregate, states: &[State]) -> Value {
    let mut places = [usize::MAX; Primitive::COUNT];
    for (i, state) in states.iter().enumerate() {
        let primitive = match state {
            State::Ordered(_) => Primitive::Ordered,
            State::Distinct(_) => Primitive::Distinct,
            State::Own(_) => Primitive::Own,
            State::Count(_) | State::Numbers(_) => continue,
        };
        places[primitive as usize] = i;
    }
    let whole = aggregate.output() == DataType::Int64;
    aggregate.finish(&View {
        moment: &Moment::of_states(states, whole),
        numbers: states.iter().find_map(State::numbers),
        states,
        places: &places,
        columns: Columns::default(),
        rows: &NoRows,
        time: 100,
    })
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any split into pieces, merged from either side, with nothing in between, is the whole.
    #[test]
    fn merged_pieces_are_the_whole(
        seeds in seeds(60), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)
    ) {
        for prototype in prototypes() {
            let whole = over(&prototype, &seeds).save();
            let nothing = empty(&prototype.state);
            let parts = pieces(&seeds, &cuts);
            let mut left = empty(&prototype.state);
            for part in &parts {
                prop_assert!(left.merge(&over(&prototype, part)));
                prop_assert!(left.merge(&nothing));
            }
            let mut right = empty(&prototype.state);
            for part in parts.iter().rev() {
                let mut longer = over(&prototype, part);
                prop_assert!(longer.merge(&right));
                right = longer;
            }
            prop_assert_eq!(&left.save(), &whole, "{} from the left", prototype.title);
            prop_assert_eq!(&right.save(), &whole, "{} from the right", prototype.title);
        }
    }

    /// Rows that are taken out again, before or after a merge, leave no trace.
    #[test]
    fn what_goes_leaves_no_trace(kept in seeds(40), gone in seeds(40)) {
        for prototype in prototypes() {
            let want = over(&prototype, &kept).save();
            let mut state = over(&prototype, &kept);
            prop_assert!(state.merge(&over(&prototype, &gone)));
            feed(&mut state, prototype.types, &gone, true);
            prop_assert_eq!(state.save(), want, "{}", prototype.title);
            feed(&mut state, prototype.types, &kept, true);
            let nothing = empty(&prototype.state).save();
            prop_assert_eq!(&state.save(), &nothing, "{} when all is gone", prototype.title);
            feed(&mut state, prototype.types, &kept, false);
            state.clear();
            prop_assert_eq!(&state.save(), &nothing, "{} cleared", prototype.title);
        }
    }

    /// What was saved and restored goes on as if nothing had been.
    #[test]
    fn restored_goes_on(before in seeds(40), after in seeds(30)) {
        for prototype in prototypes() {
            let mut state = over(&prototype, &before);
            let bytes = state.save();
            let restored = prototype.state.restore(&bytes);
            let Some(mut restored) = restored else {
                return Err(TestCaseError::fail(format!("{} is not restored", prototype.title)));
            };
            prop_assert_eq!(&restored.save(), &bytes, "{}", prototype.title);
            for state in [&mut state, &mut restored] {
                feed(state, prototype.types, &after, false);
                feed(state, prototype.types, &before, true);
            }
            prop_assert_eq!(restored.save(), state.save(), "{} afterwards", prototype.title);
            prop_assert_eq!(state.save(), over(&prototype, &after).save(), "{}", prototype.title);
        }
    }

    /// What aggregates answer over merged and restored states is what they answer over all rows.
    #[test]
    fn answers_are_those_of_all_rows(
        seeds in seeds(40), cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..4)
    ) {
        for (name, types, aggregate) in aggregates() {
            if aggregate.primitives().contains(&Primitive::Position) {
                continue;
            }
            let fresh = || -> Vec<State> {
                // As a window does: the numbers of a column together.
                let mut asks = Asks::default();
                let state = |primitive: &Primitive| match aggregate.running() {
                    Some(running) if *primitive == Primitive::Own => Some(State::Own(running)),
                    _ if asks.add(*primitive) => None,
                    _ => State::new(*primitive),
                };
                let mut states: Vec<State> =
                    aggregate.primitives().iter().filter_map(state).collect();
                if asks != Asks::default() {
                    states.push(State::Numbers(Box::new(Numbers::new(asks))));
                }
                states
            };
            let over = |seeds: &[Seed]| {
                let mut states = fresh();
                states.iter_mut().for_each(|state| feed(state, types, seeds, false));
                states
            };
            let mut merged = fresh();
            for part in pieces(&seeds, &cuts) {
                for (state, part) in merged.iter_mut().zip(over(part)) {
                    prop_assert!(state.merge(&part));
                    // An extreme is told its rows by the window; here there is none.
                    if !state.numbers().is_some_and(|n| n.asks().least || n.asks().greatest) {
                        let restored = state.restore(&state.save());
                        let Some(restored) = restored else {
                            return Err(TestCaseError::fail(format!("{name} is not restored")));
                        };
                        *state = restored;
                    }
                }
            }
            let (got, want) = (answer(&*aggregate, &merged), answer(&*aggregate, &over(&seeds)));
            let starved =
                merged.iter().filter_map(State::numbers).any(Numbers::is_starved);
            prop_assert!(starved || same(&got, &want), "{name} {types:?}: {got:?}, not {want:?}");
        }
    }

    /// Extremes: what is known after a merge is right, and what is restored asks for the rows.
    #[test]
    fn extremes_know_what_both_knew(
        a in prop::collection::vec(-200..200i64, 0..60), b in prop::collection::vec(-200..200i64, 0..60),
        gone in 0..40usize, greatest in any::<bool>()
    ) {
        let over = |values: &[i64]| {
            let mut extreme = Extreme::new(greatest);
            values.iter().for_each(|i| extreme.insert(&Value::Int(*i)));
            extreme
        };
        let mut merged = over(&a);
        merged.merge(&over(&b));
        let mut left: Vec<i64> = a.iter().chain(&b).copied().collect();
        left.sort_unstable();
        for _ in 0..gone.min(left.len()) {
            let value = left.remove(if greatest { left.len() - 1 } else { 0 });
            merged.remove(&Value::Int(value));
        }
        let want = if greatest { left.last() } else { left.first() }.copied();
        let values: Vec<Value> = left.iter().map(|i| Value::Int(*i)).collect();
        if merged.is_starved() {
            prop_assert!(!left.is_empty());
            merged.refill(values.iter().cloned());
        }
        prop_assert_eq!(merged.get().map(End::value), want.map(Value::Int));
        let mut bytes = Writer::default();
        merged.save(&mut bytes);
        let bytes = bytes.finish();
        let Some(mut restored) = merged.restore(&mut Reader::new(&bytes)) else {
            return Err(TestCaseError::fail("it is not restored"));
        };
        prop_assert_eq!(restored.is_starved(), !left.is_empty());
        restored.refill(values.iter().cloned());
        prop_assert_eq!(restored.get().map(End::value), want.map(Value::Int));
    }

    /// Bytes of anything restore to nothing, or to a state that works.
    #[test]
    fn damaged_bytes_do_no_harm(
        seeds in seeds(12), noise in prop::collection::vec(any::<u8>(), 0..80),
        place in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<bool>()
    ) {
        for prototype in prototypes() {
            let whole = over(&prototype, &seeds).save();
            let mut flipped = whole.clone();
            let at = place.index(whole.len());
            flipped[at] ^= flip;
            let headed = [&whole[..2], &noise].concat();
            let shorter = &whole[..at];
            let longer = [&whole[..], &[flip]].concat();
            prop_assert!(prototype.state.restore(shorter).is_none(), "{} cut", prototype.title);
            prop_assert!(prototype.state.restore(&longer).is_none(), "{} longer", prototype.title);
            if at < 2 {
                prop_assert!(prototype.state.restore(&flipped).is_none(), "{}", prototype.title);
            }
            let tried = if cut { vec![flipped, noise.clone()] } else { vec![flipped, headed] };
            for bytes in tried {
                if let Some(mut state) = prototype.state.restore(&bytes) {
                    let once = state.save();
                    let again = prototype.state.restore(&once).map(|again| again.save());
                    prop_assert_eq!(again, Some(once), "{}", prototype.title);
                    feed(&mut state, prototype.types, &seeds, true);
                    feed(&mut state, prototype.types, &seeds, false);
                    let mut other = over(&prototype, &seeds);
                    prop_assert!(other.merge(&state));
                    let _ = (other.save(), other.bytes());
                }
            }
        }
    }
}

#[test]
fn other_kinds_are_neither_merged_nor_restored() {
    let all: Vec<State> = [
        Primitive::Count,
        Primitive::Sum,
        Primitive::SumSquares,
        Primitive::Least,
        Primitive::Greatest,
        Primitive::Ordered,
        Primitive::Distinct,
    ]
    .into_iter()
    .filter_map(State::new)
    .collect();
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            let mut merged = empty(a);
            assert_eq!((merged.merge(b), a.restore(&b.save()).is_some()), (i == j, i == j));
        }
    }
    let mut bytes = all[0].save();
    bytes[0] += 1;
    assert!(all[0].restore(&bytes).is_none(), "of a version to come");
}
