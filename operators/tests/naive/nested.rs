//! Definitions over lists and maps: at each place, over all items, and for each key.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_operators::aggregate::{self, Call, Unnest};
use tidemill_types::{DataType, Value};

use super::{Built, Given};

/// The result, where the call is over lists or for each key.
pub fn evaluate(call: &Built, rows: &[Given], now: i64) -> Option<Value> {
    match (call.unnest, call.input) {
        (Unnest::No, Some(DataType::List(_))) if call.name == "set_union" => {
            let rows = items(rows, Unnest::First);
            Some(inside(call, "set_agg", Unnest::First, &rows, now))
        }
        (Unnest::No, Some(DataType::Map(_))) if call.name.starts_with("map_") => {
            Some(of_keys(call, &call.name["map_".len()..], rows, now))
        }
        (Unnest::No, None | Some(_)) => match call.name.strip_prefix("vector_") {
            Some(name) => Some(at_places(call, name, rows, now)),
            None if call.name == "set_union" => {
                Some(inside(call, "set_agg", Unnest::No, rows, now))
            }
            None => None,
        },
        (unnest, _) => Some(inside(call, call.name, unnest, &items(rows, unnest), now)),
    }
}

fn of(value: &Value) -> &[Value] {
    match value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// A row for each item.
fn items(rows: &[Given], unnest: Unnest) -> Vec<Given> {
    let mut out = Vec::new();
    for row in rows {
        let first = unnest == Unnest::First;
        for item in of(if first { &row.value } else { &row.second }) {
            let (value, second) = match first {
                true => (item.clone(), row.second.clone()),
                false => (row.value.clone(), item.clone()),
            };
            out.push(Given { time: row.time, value, second });
        }
    }
    out
}

fn at_places(call: &Built, name: &'static str, rows: &[Given], now: i64) -> Value {
    let longest = rows.iter().map(|row| of(&row.value).len()).max().unwrap_or(0);
    if longest == 0 {
        return Value::Null;
    }
    let at = |place: usize| {
        let reaches = |row: &&Given| of(&row.value).len() > place;
        let there = rows.iter().filter(reaches);
        let there: Vec<Given> = there
            .map(|row| Given { value: of(&row.value)[place].clone(), ..row.clone() })
            .collect();
        inside(call, name, Unnest::First, &there, now)
    };
    (0..longest).map(at).collect()
}

/// There are never more keys than are shown.
fn of_keys(call: &Built, name: &'static str, rows: &[Given], now: i64) -> Value {
    fn entries(row: &Given) -> &[(Arc<str>, Value)] {
        match &row.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
    let keys: BTreeSet<&Arc<str>> = rows.iter().flat_map(entries).map(|(key, _)| key).collect();
    if keys.is_empty() {
        return Value::Null;
    }
    let of = |wanted: &Arc<str>| {
        let found = |row: &Given| {
            let (_, value) = entries(row).iter().find(|(key, _)| key == wanted)?;
            Some(Given { value: value.clone(), ..row.clone() })
        };
        let there: Vec<Given> = rows.iter().filter_map(found).collect();
        (Arc::clone(wanted), inside(call, name, Unnest::First, &there, now))
    };
    Value::map(keys.into_iter().map(of))
}

/// What the aggregate gives that a call is built around, which sees items in the place of lists.
fn inside(call: &Built, name: &'static str, unnest: Unnest, rows: &[Given], now: i64) -> Value {
    let item = |of: Option<DataType>| of.map(|of| of.holds().unwrap_or(of));
    let (mut input, mut second) = (call.input, call.second);
    match unnest {
        Unnest::No => {}
        Unnest::First => input = item(input),
        Unnest::Second => second = item(second),
    }
    let (distinct, constants, unnest) = (call.distinct, call.constants.clone(), Unnest::No);
    let of = Call { name, distinct, input, second, constants: &constants, unnest };
    let aggregate = aggregate::build(&of).expect("what is built over items is built over values");
    let alone =
        Built { name, distinct, input, second, constants: constants.clone(), unnest, aggregate };
    super::evaluate(&alone, rows, now)
}
