//! The laws of aggregates, over the list: whoever adds one, adds its definition in `naive` and no more.

mod naive;
mod one;

use std::collections::BTreeSet;
use std::sync::Arc;

use naive::{Built, Given, ORDERED, agrees, evaluate, every_call, same};
use one::{output, over, read};
use proptest::prelude::*;
use tidemill_operators::aggregate::{self, AGGREGATES, Aggregate, Call, Unnest};
use tidemill_operators::window::{Group, Store};
use tidemill_types::{DataType, Id, Item, Key, Value};

fn inputs() -> Vec<Option<DataType>> {
    let lists = [Item::Float64, Item::String].map(|item| Some(DataType::List(item)));
    let maps = [Item::Float64, Item::String].map(|item| Some(DataType::Map(item)));
    let plain = DataType::ALL.map(Some);
    std::iter::once(None).chain(plain).chain(lists).chain(maps).collect()
}

fn store(call: Built) -> Store {
    over(call.input, call.second, Arc::from(call.aggregate))
}

/// The value of a type that stands for `n`; 0 is NULL.
fn value(data_type: Option<DataType>, n: i32) -> Value {
    match (data_type, n) {
        (_, 0) => Value::Null,
        (Some(DataType::List(item)), _) => {
            let item = |k| value(Some(item.into()), if n % 5 == k { 0 } else { n + k });
            (0..n.rem_euclid(7) % 4).map(item).collect()
        }
        (Some(DataType::Map(item)), _) => {
            let entry = |k: i32| {
                let value = value(Some(item.into()), if n % 5 == k { 0 } else { n + k });
                (format!("k{}", (n + 3 * k).rem_euclid(5)).into(), value)
            };
            Value::map((0..n.rem_euclid(7) % 4).map(entry))
        }
        (Some(DataType::Bool), _) => Value::Bool(n % 2 == 0),
        (Some(DataType::String), _) => Value::Text(format!("{:03}", n.unsigned_abs() % 300).into()),
        (Some(DataType::Float64), 1..=2) => Value::Float([f64::INFINITY, f64::NAN][n as usize - 1]),
        (Some(DataType::Float64), -1) => Value::Float(f64::NEG_INFINITY),
        (Some(DataType::Float64), _) => Value::Float(f64::from(n) / 64.0),
        (_, 1) => Value::Int(i64::MAX),
        (_, -1) => Value::Int(i64::MIN),
        _ => Value::Int(i64::from(n)),
    }
}

/// Numbers that stand for rows of two columns: few special ones, or none, or NULL only; now and then
/// few different ones.
fn numbers() -> impl Strategy<Value = Vec<(i32, i32)>> {
    let seconds = || prop_oneof![5 => 3..9i32, 3 => -5_000..5_000i32, 1 => -5..5i32];
    let rows = |first: BoxedStrategy<i32>| prop::collection::vec((first, seconds()), 0..40);
    prop_oneof![
        4 => rows(prop_oneof![9 => 3..5_000i32, 1 => -5..5i32].boxed()),
        3 => rows((-5_000..-2i32).boxed()),
        3 => rows(prop_oneof![9 => 3..9i32, 1 => -5..5i32].boxed()),
        1 => prop::collection::vec((Just(0), seconds()), 0..5),
    ]
}

/// The row that two numbers stand for.
fn row(call: (Option<DataType>, Option<DataType>), (first, second): (i32, i32)) -> [Value; 2] {
    [value(call.0, first), value(call.1, second)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// By definition; whatever was read in between; whatever was there and went again.
    #[test]
    fn equals_its_definition_and_forgets_without_a_trace(
        kept in numbers(), gone in numbers(), stops in any::<u64>()
    ) {
        for call in every_call(&inputs()) {
            let (title, types, name) = (call.title(), (call.input, call.second), call.name);
            let kept: Vec<[Value; 2]> = kept.iter().map(|&n| row(types, n)).collect();
            let gone: Vec<[Value; 2]> = gone.iter().map(|&n| row(types, n)).collect();
            let rows: Vec<Given> = kept.iter().enumerate().map(|(i, [value, second])| Given {
                time: i as i64, value: value.clone(), second: second.clone(),
            }).collect();
            let want = |n: usize, now: i64| evaluate(&call, &rows[..n], now);
            let nothing = want(0, 0);
            let all = want(rows.len(), 100);
            let mut stops: Vec<Option<Value>> = (0..kept.len())
                .map(|i| (stops >> (i % 64) & 1 == 1).then(|| want(i + 1, i as i64)))
                .collect();
            let mut store = store(call);
            prop_assert!(same(&read(&mut store, 0), &nothing), "{title} over nothing");
            for (i, v) in kept.iter().enumerate() {
                store.insert(Key::GLOBAL, i as i64, &Id::Int(0), v);
                if let Some(want) = stops[i].take() {
                    let got = read(&mut store, i as i64);
                    prop_assert!(agrees(name, &got, &want), "{title}: {got:?}, by definition {want:?}");
                }
            }
            let before = read(&mut store, 100);
            prop_assert!(agrees(name, &before, &all), "{title}: {before:?}, by definition {all:?}");
            for (i, v) in gone.iter().enumerate() {
                store.insert(Key::GLOBAL, 20, &Id::Int(i as i64), v);
            }
            read(&mut store, 100);
            for (i, v) in gone.iter().enumerate().rev() {
                prop_assert!(store.retract(Key::GLOBAL, 20, &Id::Int(i as i64), v));
            }
            prop_assert!(same(&read(&mut store, 100), &before), "{title} after retraction");
            for (i, v) in kept.iter().enumerate() {
                prop_assert!(store.retract(Key::GLOBAL, i as i64, &Id::Int(0), v));
            }
            prop_assert!(same(&read(&mut store, 0), &nothing), "{title} when all is gone");
        }
    }

    /// The order of arrival never shows; the order of event time only in what reads by position.
    #[test]
    fn order_does_not_show(numbers in numbers(), multiplier in 0..1_000u64) {
        for call in every_call(&inputs()) {
            let (title, types, name) = (call.title(), (call.input, call.second), call.name);
            let aggregate: Arc<dyn Aggregate> = Arc::from(call.aggregate);
            let group = || Group {
                own_stream: true,
                outputs: vec![output(types.0, types.1, aggregate.clone())],
            };
            let mut shuffled: Vec<(usize, (i32, i32))> = numbers.iter().copied().enumerate().collect();
            shuffled.sort_by_key(|(i, _)| (*i as u64 + 1).wrapping_mul(2 * multiplier + 1) % 41);
            let [mut in_order, mut arrived_late, mut other_times] = [(); 3].map(|()| Store::new(group()));
            for (i, &n) in numbers.iter().enumerate() {
                in_order.insert(Key::GLOBAL, i as i64, &Id::Int(0), &row(types, n));
                let (place, late) = shuffled[i];
                arrived_late.insert(Key::GLOBAL, place as i64, &Id::Int(0), &row(types, late));
                let place = shuffled[i].0 as i64;
                other_times.insert(Key::GLOBAL, place, &Id::Int(0), &row(types, n));
                read(&mut arrived_late, 20);
            }
            let want = read(&mut in_order, 100);
            prop_assert!(same(&read(&mut arrived_late, 100), &want), "{title}");
            if !ORDERED.iter().any(|names| names.contains(&name)) {
                prop_assert!(same(&read(&mut other_times, 100), &want), "{title}");
            }
        }
    }
}

#[test]
fn zeros_of_both_signs_give_one_minimum() {
    for (name, order) in [("min", [-0.0, 0.0]), ("max", [0.0, -0.0]), ("sum", [-0.0, -0.0])] {
        let call =
            every_call(&[Some(DataType::Float64)]).into_iter().find(|c| c.name == name).unwrap();
        let mut store = store(call);
        for (i, x) in order.into_iter().enumerate() {
            store.insert(Key::GLOBAL, i as i64, &Id::Int(0), &[Value::Float(x)]);
        }
        assert!(same(&read(&mut store, 9), &Value::Float(0.0)), "{name}");
    }
}

#[test]
fn a_variance_far_from_zero_keeps_its_digits() {
    // 0, 1, 2, 3, 4 shifted by a billion: the textbook formula loses all digits here.
    let call =
        every_call(&[Some(DataType::Float64)]).into_iter().find(|c| c.name == "var_samp").unwrap();
    let mut store = store(call);
    for i in 0..5 {
        store.insert(Key::GLOBAL, i, &Id::Int(0), &[Value::Float(1e9 + i as f64)]);
    }
    assert!(same(&read(&mut store, 9), &Value::Float(2.5)));
}

#[test]
fn names_are_unique_and_summed_up() {
    let mut names = BTreeSet::new();
    for entry in AGGREGATES {
        for name in std::iter::once(&entry.name).chain(entry.aliases) {
            assert!(names.insert(*name), "{name} is there twice");
            assert_eq!(*name, name.to_lowercase());
        }
        assert!(!entry.summary.is_empty() && !entry.summary.contains('\n'), "{}", entry.name);
    }
}

#[test]
fn what_is_built_has_the_type_it_says() {
    for call in every_call(&inputs()) {
        let (title, output) = (call.title(), call.aggregate.output());
        let types = (call.input, call.second);
        let mut store = store(call);
        store.insert(Key::GLOBAL, 0, &Id::Int(0), &row(types, (8, 12)));
        store.insert(Key::GLOBAL, 1, &Id::Int(0), &row(types, (9, 13)));
        store.insert(Key::GLOBAL, 2, &Id::Int(0), &row(types, (10, 14)));
        store.insert(Key::GLOBAL, 3, &Id::Int(0), &row(types, (12, 15)));
        let fits = match read(&mut store, 9) {
            Value::Bool(_) => output == DataType::Bool,
            Value::Int(_) => [DataType::Int64, DataType::Timestamp].contains(&output),
            Value::Float(_) => output == DataType::Float64,
            Value::Text(_) => output == DataType::String,
            Value::List(items) => matches!(output, DataType::List(_)) && !items.is_empty(),
            Value::Map(entries) => matches!(output, DataType::Map(_)) && !entries.is_empty(),
            Value::Null => false,
        };
        assert!(fits, "{title} says {output}");
    }
}

#[test]
fn refusals_say_what_is_accepted_and_what_was_found() {
    let refusal = |name: &str, distinct: bool, input: Option<DataType>, constants: &[Value]| {
        let entry = AGGREGATES.iter().find(|e| e.name == name).expect("listed");
        match (entry.build)(&Call {
            name,
            distinct,
            input,
            second: None,
            constants,
            unnest: Unnest::No,
        }) {
            Ok(_) => panic!("{name} was built"),
            Err(message) => message,
        }
    };
    let float = Some(DataType::Float64);
    assert_eq!(
        refusal("sum", false, Some(DataType::String), &[]),
        "sum takes a column of type int64, float64 or bool; found string"
    );
    assert_eq!(
        refusal("median", false, Some(DataType::Bool), &[]),
        "median takes a column of type int64 or float64; found bool"
    );
    assert_eq!(
        refusal("max", false, None, &[]),
        "max takes a column of type bool, int64, float64, string or timestamp; found no column"
    );
    assert_eq!(refusal("avg", true, float, &[]), "avg does not take DISTINCT; count does");
    assert_eq!(refusal("count", true, None, &[]), "count(distinct ...) takes a column; found *");
    assert_eq!(
        refusal("stddev_pop", false, float, &[Value::Int(1)]),
        "stddev_pop takes 1 argument; found 2"
    );
    for (q, written) in [
        (Value::Float(1.5), "1.5"),
        (Value::Float(f64::NAN), "NaN"),
        (Value::Int(-1), "-1"),
        (Value::Bool(true), "true"),
        (Value::Text("it's".into()), "'it''s'"),
        (Value::Null, "NULL"),
    ] {
        let message = refusal("quantile", false, float, std::slice::from_ref(&q));
        assert_eq!(message, format!("quantile takes a share from 0 to 1; found {written}"));
    }
    assert_eq!(refusal("quantile", false, float, &[]), "quantile takes 2 arguments; found 1");
    for (n, written) in [(Value::Int(-1), "-1"), (Value::Float(1.0), "1.0"), (Value::Null, "NULL")]
    {
        let message = refusal("lag", false, float, std::slice::from_ref(&n));
        assert_eq!(
            message,
            format!("lag goes back a whole number of rows, 0 or more; found {written}")
        );
        let message = refusal("nth_value", false, float, std::slice::from_ref(&n));
        assert_eq!(
            message,
            format!("nth_value takes the number of a row, from 1; found {written}")
        );
    }
    assert_eq!(refusal("nth_value", false, float, &[]), "nth_value takes 2 arguments; found 1");
}

#[test]
fn a_list_is_bounded() {
    let refusal = |name: &str, constants: &[Value]| {
        let (input, second) = (Some(DataType::String), None);
        match aggregate::build(&Call {
            name,
            distinct: false,
            input,
            second,
            constants,
            unnest: Unnest::No,
        }) {
            Ok(_) => panic!("{name} was built"),
            Err(message) => message,
        }
    };
    for name in ["first_k", "last_distinct", "top_k", "most_frequent", "histogram", "array_agg"] {
        for (k, written) in [
            (Value::Int(0), "0"),
            (Value::Int(1_001), "1001"),
            (Value::Float(1.0), "1.0"),
            (Value::Null, "NULL"),
        ] {
            let message = refusal(name, std::slice::from_ref(&k));
            let wanted = format!("{name} takes how many, from 1 to 1000; found {written}");
            assert_eq!(message, wanted);
        }
    }
    assert_eq!(refusal("top_k", &[]), "top_k takes how many: from 1 to 1000");
    assert_eq!(refusal("string_agg", &[]), "string_agg takes a separator: string_agg(x, ',')");
    assert_eq!(
        refusal("min_by", &[]),
        "min_by takes a value and what it is chosen by: two columns"
    );
    assert_eq!(refusal("first_per", &[]), "first_per takes a value and a category: two columns");
    assert_eq!(refusal("sum_of", &[]), "there is no aggregate `sum_of`");
}
