//! Definitions of what reads rows in their order, values by rank or by frequency, and categories.

use std::collections::BTreeMap;

use tidemill_operators::aggregate::{self, Call, Unnest};
use tidemill_types::Value;

use super::{Built, Given};

/// Those whose result depends on the order of rows.
pub const ORDERED: &[&str] = &[
    "first_value",
    "last_value",
    "lag",
    "nth_value",
    "first_k",
    "last_k",
    "first_distinct",
    "last_distinct",
    "array_agg",
    "string_agg",
    "min_by",
    "max_by",
];

/// The result, where the call is one of these.
pub fn evaluate(call: &Built, rows: &[Given], now: i64) -> Option<Value> {
    let value = |row: Option<&Given>| row.map(|row| row.value.clone()).unwrap_or_default();
    let number = |at: usize| call.constants.get(at).and_then(Value::as_i64).map(|n| n as usize);
    let k = number(0).unwrap_or(1_000);
    let there: Vec<Value> =
        rows.iter().filter(|row| !row.value.is_null()).map(|row| row.value.clone()).collect();
    Some(match call.name {
        "first_value" => value(rows.first()),
        "last_value" => value(rows.last()),
        "lag" => value(rows.iter().rev().nth(number(0).unwrap_or(1))),
        "nth_value" => value(rows.get(k - 1)),
        "first_k" => list(there.into_iter().take(k)),
        "last_k" => list(newest(there, k)),
        "first_distinct" => list(firsts(there).into_iter().take(k)),
        "last_distinct" => {
            let mut newest_first = firsts(there.into_iter().rev().collect());
            newest_first.truncate(k);
            list(newest_first.into_iter().rev())
        }
        "array_agg" => list(newest(rows.iter().map(|row| row.value.clone()).collect(), k)),
        "string_agg" => {
            let texts = newest(there, number(1).unwrap_or(1_000));
            let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
            match texts.is_empty() {
                true => Value::Null,
                false => Value::Text(texts.join(call.constants[0].as_str()?).into()),
            }
        }
        "top_k" => list(sorted(there).into_iter().rev().take(k)),
        "bottom_k" => list(sorted(there).into_iter().take(k)),
        "min_by" | "max_by" => by_other(call.name == "max_by", number(0), rows),
        "mode" => by_count(there).into_iter().next().map(|(v, _)| v).unwrap_or_default(),
        "most_frequent" => list(by_count(there).into_iter().take(k).map(|(value, _)| value)),
        "top1_ratio" => match by_count(there.clone()).first() {
            Some((_, most)) => Value::Float(*most as f64 / there.len() as f64),
            None => Value::Null,
        },
        "entropy" => entropy(there),
        "histogram" if there.is_empty() => Value::Null,
        "histogram" => Value::map(
            by_count(there).into_iter().take(k).map(|(v, n)| (text(&v).into(), Value::Int(n))),
        ),
        "set_agg" => list(firsts(sorted(there)).into_iter().take(k)),
        "bounded_unique_count" => Value::Int(firsts(sorted(there)).len().min(k) as i64),
        name => {
            let inner = name.strip_suffix("_per")?;
            per(inner, call, rows, now)
        }
    })
}

fn list(values: impl IntoIterator<Item = Value>) -> Value {
    let values: Vec<Value> = values.into_iter().collect();
    if values.is_empty() { Value::Null } else { Value::List(values.into()) }
}

fn newest(mut values: Vec<Value>, k: usize) -> Vec<Value> {
    values.split_off(values.len().saturating_sub(k))
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort();
    values
}

/// Each value where it stands first.
fn firsts(values: Vec<Value>) -> Vec<Value> {
    let mut firsts: Vec<Value> = Vec::new();
    for value in values {
        if !firsts.contains(&value) {
            firsts.push(value);
        }
    }
    firsts
}

/// Different values with their counts, the most frequent first, of several the least.
fn by_count(values: Vec<Value>) -> Vec<(Value, i64)> {
    let count = |value: &Value| values.iter().filter(|other| *other == value).count() as i64;
    let mut counts: Vec<(Value, i64)> =
        firsts(sorted(values.clone())).into_iter().map(|v| (v.clone(), count(&v))).collect();
    counts.sort_by_key(|(_, n)| -n);
    counts
}

fn entropy(values: Vec<Value>) -> Value {
    let n = values.len() as f64;
    let p: Vec<f64> = by_count(values).into_iter().map(|(_, count)| count as f64 / n).collect();
    if p.is_empty() {
        Value::Null
    } else {
        Value::Float(-p.iter().map(|p| p * p.log2()).sum::<f64>())
    }
}

fn by_other(greatest: bool, n: Option<usize>, rows: &[Given]) -> Value {
    let mut there: Vec<&Given> =
        rows.iter().filter(|row| !row.value.is_null() && !row.second.is_null()).collect();
    there.sort_by(|a, b| {
        let by = a.second.cmp(&b.second);
        let by = if greatest { by.reverse() } else { by };
        by.then(a.time.cmp(&b.time)).then(a.value.cmp(&b.value))
    });
    let mut values = there.into_iter().map(|row| row.value.clone());
    match n {
        None => values.next().unwrap_or_default(),
        Some(n) => list(values.take(n)),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Bool(b) => b.to_string(),
        other => panic!("{other:?} is no category"),
    }
}

fn per(inner: &'static str, call: &Built, rows: &[Given], now: i64) -> Value {
    let mut of: BTreeMap<String, Vec<Given>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.second.is_null()) {
        let alone = Given { second: Value::Null, ..row.clone() };
        of.entry(text(&row.second)).or_default().push(alone);
    }
    if of.is_empty() {
        return Value::Null;
    }
    let (distinct, input, constants) = (call.distinct, call.input, call.constants.clone());
    let (second, unnest) = (None, Unnest::No);
    let alone = Call { name: inner, distinct, input, second, constants: &constants, unnest };
    let aggregate = aggregate::build(&alone).expect("what is built per category is built alone");
    let alone = Built {
        name: inner,
        distinct,
        input,
        second: None,
        constants: constants.clone(),
        unnest,
        aggregate,
    };
    let one = |rows: &[Given]| super::evaluate(&alone, rows, now);
    Value::map(of.iter().map(|(key, rows)| (key.as_str().into(), one(rows))))
}
