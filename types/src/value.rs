//! One typed value of a row: what windows keep and features become.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A value. Timestamps are [`Value::Int`] in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Value {
    /// SQL's NULL.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number, or microseconds.
    Int(i64),
    /// A binary floating-point number.
    Float(f64),
    /// A text.
    Text(#[serde(with = "text")] Arc<str>),
    /// Values in order, NULL among them.
    List(#[serde(with = "list")] Arc<[Value]>),
    /// Values by text, in the order of the texts' bytes, each text once: see [`Value::map`].
    Map(#[serde(with = "map")] Arc<[(Arc<str>, Value)]>),
}

mod text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

mod list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Value;

    pub fn serialize<S: Serializer>(list: &Arc<[Value]>, serializer: S) -> Result<S::Ok, S::Error> {
        list.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[Value]>, D::Error> {
        Vec::deserialize(from).map(Arc::from)
    }
}

mod map {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Entries, Value};

    pub fn serialize<S: Serializer>(map: &Entries, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(key, value)| (key.as_ref(), value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Entries, D::Error> {
        let entries = Vec::<(String, Value)>::deserialize(from)?;
        Ok(super::entries(entries.into_iter().map(|(key, value)| (Arc::from(key), value))))
    }
}

/// What a [`Value::Map`] holds.
type Entries = Arc<[(Arc<str>, Value)]>;

/// In the order of keys; of equal keys the first stays.
fn entries(entries: impl Iterator<Item = (Arc<str>, Value)>) -> Entries {
    let mut entries: Vec<(Arc<str>, Value)> = entries.collect();
    entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    entries.dedup_by(|later, first| later.0 == first.0);
    entries.into()
}

impl FromIterator<Value> for Value {
    /// A list.
    fn from_iter<I: IntoIterator<Item = Value>>(items: I) -> Value {
        Value::List(items.into_iter().collect())
    }
}

impl Value {
    /// A map of these, in any order; of equal keys the first stays.
    pub fn map(from: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
        Value::Map(entries(from.into_iter()))
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value as a number; truth counts as 0 and 1; text and NULL have none.
    #[inline]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value as a whole number, where it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Bool(b) => Some(i64::from(*b)),
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Text(_) => 3,
            Value::List(_) => 4,
            Value::Map(_) => 5,
        }
    }
}

/// A total order: NULL, truth values, numbers, texts, lists, maps; lists item by item and maps entry by
/// entry, a beginning before what it begins; NaN is the largest number and equals itself,
/// as in PostgreSQL and DuckDB; -0.0 equals 0.0. Whole and floating numbers compare by value.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => float_order(*a, *b),
            (Value::Int(a), Value::Float(b)) => int_float_order(*a, *b),
            (Value::Float(a), Value::Int(b)) => int_float_order(*b, *a).reverse(),
            (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::List(a), Value::List(b)) => a.cmp(b),
            (Value::Map(a), Value::Map(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Exact: an i64 beyond 2^53 is not rounded before it is compared.
fn int_float_order(a: i64, b: f64) -> Ordering {
    if b.is_nan() || b >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if b < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let whole = b.trunc();
    a.cmp(&(whole as i64)).then_with(|| 0.0f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal))
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        if let (Value::Int(a), Value::Int(b)) = (self, other) {
            return a == b;
        }
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_total_and_exact() {
        let sorted = [
            Value::Null,
            Value::Bool(false),
            Value::Bool(true),
            Value::Float(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Float(-0.5),
            Value::Int(0),
            Value::Float(0.5),
            Value::Int((1 << 53) - 1),
            Value::Float((1u64 << 53) as f64),
            Value::Int((1 << 53) + 1),
            Value::Int(i64::MAX),
            Value::Float(9.3e18),
            Value::Float(f64::NAN),
            Value::Text("a".into()),
            Value::List([].into()),
            Value::List([Value::Null].into()),
            Value::List([Value::Int(1), Value::Int(2)].into()),
            Value::List([Value::Int(2)].into()),
            Value::map([]),
            Value::map([("b".into(), Value::Int(1)), ("a".into(), Value::Int(2))]),
            Value::map([("a".into(), Value::Int(3))]),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(Value::Float(-0.0), Value::Float(0.0));
        assert_eq!(Value::Float(2.0), Value::Int(2));
    }

    /// Rows, answers and states are made of these: what it takes is what everything takes.
    #[test]
    fn a_value_is_three_words() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn a_map_is_in_the_order_of_its_keys_and_has_each_once() {
        let entry = |key: &str, n| (Arc::from(key), Value::Int(n));
        let map = Value::map([entry("b", 1), entry("B", 2), entry("é", 3), entry("b", 4)]);
        let Value::Map(entries) = &map else { panic!("{map:?}") };
        let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["B", "b", "é"]);
        assert_eq!(entries[1].1, Value::Int(1));
    }
}
