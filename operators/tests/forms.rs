//! The forms that every aggregate has: for each category, for each key of maps, over items, at places; and those of
//! windows that decay.

mod one;

use std::sync::Arc;

use one::{over, read};
use proptest::prelude::*;
use tidemill_operators::aggregate::{self, Call, Unnest};
use tidemill_operators::window::Store;
use tidemill_types::{DataType, Id, Item, Key, Value};

/// What is read of categories, over amounts by place.
fn per(name: &str, constants: &[Value], rows: &[(i64, &str)]) -> Value {
    let (input, second) = (Some(DataType::Int64), Some(DataType::String));
    let call = Call { name, distinct: false, input, second, constants, unnest: Unnest::No };
    let built = aggregate::build(&call).unwrap_or_else(|error| panic!("{error}"));
    let mut store = over(input, second, Arc::from(built));
    for (i, (amount, place)) in rows.iter().enumerate() {
        let row = [Value::Int(*amount), Value::Text((*place).into())];
        store.insert(Key::GLOBAL, i as i64, &Id::Int(0), &row);
    }
    read(&mut store, 10_000)
}

fn map(entries: &[(&str, i64)]) -> Value {
    Value::map(entries.iter().map(|(key, n)| (Arc::from(*key), Value::Int(*n))))
}

#[test]
fn every_aggregate_has_a_form_per_category() {
    let rows = [(3, "b"), (1, "a"), (5, "b"), (9, "c"), (1, "a"), (2, "a")];
    assert_eq!(per("sum_per", &[], &rows), map(&[("a", 4), ("b", 8), ("c", 9)]));
    assert_eq!(per("last_value_per", &[], &rows), map(&[("a", 2), ("b", 5), ("c", 9)]));
    assert_eq!(per("lag_cate", &[Value::Int(1)], &rows[..5]), {
        Value::map([
            ("a".into(), Value::Int(1)),
            ("b".into(), Value::Int(3)),
            ("c".into(), Value::Null),
        ])
    });
    let two = [Value::Int(2)];
    assert_eq!(per("top_n_key_sum_per", &two, &rows), map(&[("b", 8), ("c", 9)]));
    assert_eq!(per("top_n_value_min_per", &two, &rows), map(&[("b", 3), ("c", 9)]));
    assert_eq!(per("top_n_value_count_cate", &two, &rows), map(&[("a", 3), ("b", 2)]));
    let nested = aggregate::build(&Call {
        name: "top_k_per",
        distinct: false,
        input: Some(DataType::Int64),
        second: Some(DataType::String),
        constants: &two,
        unnest: Unnest::No,
    });
    let message = nested.err().expect("lists do not nest");
    assert_eq!(message, "a map holds single values; the aggregate gives list<int64>");
}

/// What is read of the keys of maps.
fn of_maps(name: &str, distinct: bool, rows: &[&[(&str, Option<i64>)]]) -> Value {
    let (input, second) = (Some(DataType::Map(Item::Int64)), None);
    let call = Call { name, distinct, input, second, constants: &[], unnest: Unnest::No };
    let built = aggregate::build(&call).unwrap_or_else(|error| panic!("{error}"));
    let mut store = over(input, second, Arc::from(built));
    for (i, row) in rows.iter().enumerate() {
        let entry =
            |(key, n): &(&str, Option<i64>)| (Arc::from(*key), n.map_or(Value::Null, Value::Int));
        store.insert(Key::GLOBAL, i as i64, &Id::Int(0), &[Value::map(row.iter().map(entry))]);
    }
    read(&mut store, 10_000)
}

#[test]
fn every_aggregate_has_a_form_per_key_of_maps() {
    let rows: [&[(&str, Option<i64>)]; 4] =
        [&[("b", Some(3)), ("a", None)], &[], &[("b", Some(5)), ("c", Some(9))], &[("b", Some(3))]];
    let sums =
        [("a".into(), Value::Null), ("b".into(), Value::Int(11)), ("c".into(), Value::Int(9))];
    assert_eq!(of_maps("map_sum", false, &rows), Value::map(sums));
    assert_eq!(of_maps("map_count", false, &rows), map(&[("a", 0), ("b", 3), ("c", 1)]));
    assert_eq!(of_maps("map_count", true, &rows), map(&[("a", 0), ("b", 2), ("c", 1)]));
    let last =
        [("a".into(), Value::Null), ("b".into(), Value::Int(3)), ("c".into(), Value::Int(9))];
    assert_eq!(of_maps("map_last_value", false, &rows), Value::map(last));
    assert_eq!(of_maps("map_sum", false, &rows[1..2]), Value::Null);
    let refusal = |name: &str, input: DataType| {
        let input = Some(input);
        let call =
            Call { name, distinct: false, input, second: None, constants: &[], unnest: Unnest::No };
        aggregate::build(&call).err().expect("it is refused")
    };
    let ints = DataType::Map(Item::Int64);
    assert_eq!(
        refusal("map_array_agg", ints),
        "a map holds single values; the aggregate gives list<int64>"
    );
    assert_eq!(refusal("map_sum", DataType::Int64), "map_sum takes a column of maps; found int64");
    assert_eq!(
        refusal("sum", ints),
        "sum takes a column of type int64, float64 or bool; found map<string, int64>; map_sum(x) is for each key of maps"
    );
    assert_eq!(
        refusal("map_sum", DataType::Map(Item::String)),
        "sum takes a column of type int64, float64 or bool; found string"
    );
}

#[test]
fn a_map_shows_the_keys_of_most_maps() {
    let names: Vec<String> = (0..1_500).map(|n| format!("{n:04}")).collect();
    let all: Vec<(&str, Option<i64>)> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
    let Value::Map(shown) = of_maps("map_sum", false, &[&all, &all[1_400..1_401], &all[1_499..]])
    else {
        panic!("a map")
    };
    let keys: Vec<&str> = shown.iter().map(|(key, _)| key.as_ref()).collect();
    assert_eq!((keys.len(), keys[997], keys[998], keys[999]), (1_000, "0997", "1400", "1499"));
}

/// A store of what a window of this half-life makes of a call.
fn decaying(name: &str, input: DataType, second: Option<DataType>, unnest: Unnest) -> Store {
    let input = Some(input);
    let call = Call { name, distinct: false, input, second, constants: &[], unnest };
    let built = aggregate::decayed(&call, 10).unwrap_or_else(|error| panic!("{name}: {error}"));
    over(input, second, Arc::from(built))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In each form an aggregate of a window that decays is, of each category, key or place, what it is alone over its
    /// values; and over items, what it is over rows.
    #[test]
    fn a_window_that_decays_takes_every_form(
        rows in proptest::collection::vec((0..25_i64, proptest::collection::vec(-50..50_i64, 0..4)), 1..30),
        out in 0..30_usize,
    ) {
        let (lists, maps) = (DataType::List(Item::Float64), DataType::Map(Item::Float64));
        for name in ["sum", "count", "avg"] {
            let alone = || decaying(name, DataType::Float64, None, Unnest::No);
            let mut items = decaying(name, lists, None, Unnest::First);
            let mut places = decaying(&format!("vector_{name}"), lists, None, Unnest::No);
            let mut keys = decaying(&format!("map_{name}"), maps, None, Unnest::No);
            let mut categories =
                decaying(&format!("{name}_per"), DataType::Float64, Some(DataType::Int64), Unnest::No);
            let (mut all, mut each) = (alone(), [(); 3].map(|()| alone()));
            let (mut time, mut longest, mut given) = (0, 0, Vec::new());
            for (n, (later, numbers)) in rows.iter().enumerate() {
                time += later;
                given.push((time, n as i64 * 4, numbers.iter().map(|n| *n as f64 / 4.0)));
            }
            // One is taken out again.
            let gone = out % given.len();
            for (n, (time, id, numbers)) in given.iter().enumerate() {
                let kept = n != gone;
                let change = |store: &mut Store, id: i64, row: &[Value]| {
                    store.insert(Key::GLOBAL, *time, &Id::Int(id), row);
                    assert!(kept || store.retract(Key::GLOBAL, *time, &Id::Int(id), row));
                };
                let numbers = || numbers.clone().map(Value::Float);
                longest = longest.max(if kept { numbers().len() } else { 0 });
                change(&mut items, *id, &[numbers().collect()]);
                change(&mut places, *id, &[numbers().collect()]);
                let keyed = numbers().enumerate().map(|(k, x)| (Arc::from(k.to_string()), x));
                change(&mut keys, *id, &[Value::map(keyed)]);
                for (k, x) in numbers().enumerate() {
                    let id = id + k as i64;
                    change(&mut categories, id, &[x.clone(), Value::Int(k as i64)]);
                    change(&mut each[k], id, std::slice::from_ref(&x));
                    change(&mut all, id, &[x]);
                }
            }
            for now in [time, time + 10] {
                prop_assert_eq!(read(&mut items, now), read(&mut all, now), "{} of items", name);
                let of_each = each.iter_mut().take(longest).map(|store| read(store, now));
                let wanted: Vec<Value> = of_each.collect();
                let (mut list, mut map) = (Value::Null, Value::Null);
                if longest > 0 {
                    list = wanted.iter().cloned().collect();
                    let keyed = |(k, x): (usize, Value)| (Arc::from(k.to_string()), x);
                    map = Value::map(wanted.into_iter().enumerate().map(keyed));
                }
                prop_assert_eq!(read(&mut places, now), list, "{} at places", name);
                prop_assert_eq!(read(&mut keys, now), map.clone(), "{} of keys", name);
                prop_assert_eq!(read(&mut categories, now), map, "{} of categories", name);
            }
        }
    }
}

#[test]
fn a_window_that_decays_takes_items() {
    let mut store = decaying("sum", DataType::List(Item::Float64), None, Unnest::First);
    let list = [1.0, 2.0].map(Value::Float).into_iter().collect();
    store.insert(Key::GLOBAL, 0, &Id::Int(0), &[list]);
    assert_eq!(read(&mut store, 0), Value::Float(3.0));
    assert_eq!(read(&mut store, 10), Value::Float(1.5));
}

#[test]
fn a_window_that_decays_says_what_it_takes() {
    let refusal = |name, input, unnest| {
        let input = Some(input);
        let call = Call { name, distinct: false, input, second: None, constants: &[], unnest };
        aggregate::decayed(&call, 10).err().expect("it is refused")
    };
    let no_list = "unnest takes a column of lists; found int64";
    assert_eq!(refusal("sum", DataType::Int64, Unnest::First), no_list);
    let maps = DataType::Map(Item::Int64);
    let other = "a window that decays has sum, count and avg; found max";
    assert_eq!(refusal("map_max", maps, Unnest::No), other);
    let no_map = "map_sum takes a column of maps; found int64";
    assert_eq!(refusal("map_sum", DataType::Int64, Unnest::No), no_map);
}

#[test]
fn a_map_shows_the_categories_with_most_rows() {
    let names: Vec<String> = (0..1_500).map(|n| format!("{n:04}")).collect();
    let rare = names.iter().map(|name| (1, name.as_str()));
    let rows: Vec<(i64, &str)> = rare.chain([(1, "1499"), (1, "1400")]).collect();
    let Value::Map(shown) = per("count_per", &[], &rows) else { panic!("a map") };
    assert_eq!(shown.len(), 1_000);
    let keys: Vec<&str> = shown.iter().map(|(key, _)| key.as_ref()).collect();
    assert_eq!((keys[0], keys[997], keys[998], keys[999]), ("0000", "0997", "1400", "1499"));
}
