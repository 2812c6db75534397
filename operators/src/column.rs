//! Between typed columns and single values.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use hashbrown::HashMap;
use tidemill_types::{DataType, Key, Value, key};
use xxhash_rust::xxh3::Xxh3Builder;

mod builder;

pub use builder::Builder;

/// A value of a column that windows may keep, where it stands.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// SQL's NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number, or microseconds.
    Int(i64),
    /// A binary floating-point number.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// A list.
    List(&'a Arc<[Value]>),
    /// A map.
    Map(&'a Arc<[(Arc<str>, Value)]>),
}

impl<'a> Cell<'a> {
    /// The same on its own.
    pub fn to_value(self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(b) => Value::Bool(b),
            Cell::Int(i) => Value::Int(i),
            Cell::Float(x) => Value::Float(x),
            Cell::Text(text) => Value::Text(text.into()),
            Cell::List(items) => Value::List(Arc::clone(items)),
            Cell::Map(entries) => Value::Map(Arc::clone(entries)),
        }
    }
}

impl<'a> From<&'a Value> for Cell<'a> {
    fn from(value: &'a Value) -> Cell<'a> {
        match value {
            Value::Null => Cell::Null,
            Value::Bool(b) => Cell::Bool(*b),
            Value::Int(i) => Cell::Int(*i),
            Value::Float(x) => Cell::Float(*x),
            Value::Text(text) => Cell::Text(text),
            Value::List(items) => Cell::List(items),
            Value::Map(entries) => Cell::Map(entries),
        }
    }
}

/// The values of a typed column, row by row.
pub fn values(array: &ArrayRef) -> Vec<Value> {
    let rows = 0..array.len();
    match DataType::from_arrow(array.data_type()) {
        Some(DataType::Bool) => {
            let a = array.as_boolean();
            rows.map(|i| if a.is_null(i) { Value::Null } else { Value::Bool(a.value(i)) }).collect()
        }
        Some(DataType::Int64) => {
            let a = array.as_primitive::<Int64Type>();
            rows.map(|i| if a.is_null(i) { Value::Null } else { Value::Int(a.value(i)) }).collect()
        }
        Some(DataType::Timestamp) => {
            let a = array.as_primitive::<TimestampMicrosecondType>();
            rows.map(|i| if a.is_null(i) { Value::Null } else { Value::Int(a.value(i)) }).collect()
        }
        Some(DataType::Float64) => {
            let a = array.as_primitive::<Float64Type>();
            rows.map(|i| if a.is_null(i) { Value::Null } else { Value::Float(a.value(i)) })
                .collect()
        }
        Some(DataType::String) => {
            let a = array.as_string::<i32>();
            rows.map(|i| if a.is_null(i) { Value::Null } else { Value::Text(a.value(i).into()) })
                .collect()
        }
        Some(DataType::List(_)) => {
            let a = array.as_list::<i32>();
            let held = held(a.offsets());
            let items = values(&a.values().slice(held.start, held.len()));
            rows.map(|i| match part(a.offsets(), i).filter(|_| a.is_valid(i)) {
                Some(part) => Value::List(items[part].into()),
                None => Value::Null,
            })
            .collect()
        }
        Some(DataType::Map(_)) => {
            let a = array.as_map();
            let held = held(a.offsets());
            let items = values(&a.values().slice(held.start, held.len()));
            let keys = texts(&a.keys().as_string::<i32>().slice(held.start, held.len()));
            rows.map(|i| match part(a.offsets(), i).filter(|_| a.is_valid(i)) {
                Some(part) => Value::map(part.map(|at| (Arc::clone(&keys[at]), items[at].clone()))),
                None => Value::Null,
            })
            .collect()
        }
        None => rows.map(|_| Value::Null).collect(),
    }
}

/// The keys of maps: the rows of a column name few different ones, of which each is there once.
fn texts(keys: &StringArray) -> Vec<Arc<str>> {
    let mut known: HashMap<&str, Arc<str>, Xxh3Builder> = HashMap::default();
    let one =
        |at| Arc::clone(known.entry(keys.value(at)).or_insert_with_key(|key| Arc::from(*key)));
    (0..keys.len()).map(one).collect()
}

/// Which items all rows together hold: a part of a column still has those of the whole.
fn held(offsets: &OffsetBuffer<i32>) -> Range<usize> {
    let end = |at: Option<&i32>| at.map_or(0, |end| *end as usize);
    end(offsets.first())..end(offsets.last())
}

/// The items of a row, among those of [`held`].
fn part(offsets: &OffsetBuffer<i32>, row: usize) -> Option<Range<usize>> {
    let end = |at: usize| usize::try_from(offsets.get(at)? - offsets[0]).ok();
    Some(end(row)?..end(row + 1)?)
}

/// The key of each row over these columns; none where one of them is NULL.
pub fn keys(columns: &[ArrayRef], rows: usize) -> Vec<Option<Key>> {
    let columns: Vec<Typed<'_>> = columns.iter().map(Typed::of).collect();
    let mut bytes = Vec::new();
    let key = |row| {
        bytes.clear();
        columns.iter().all(|column| column.put(row, &mut bytes)).then(|| Key::of_bytes(&bytes))
    };
    (0..rows).map(key).collect()
}

/// A column whose type is known.
pub enum Typed<'a> {
    /// Truth values.
    Bool(&'a BooleanArray),
    /// Whole numbers, and which of them are there.
    Int(&'a [i64], Option<&'a NullBuffer>),
    /// Floats, and which of them are there.
    Float(&'a [f64], Option<&'a NullBuffer>),
    /// Texts.
    Text(&'a StringArray),
    /// A list or a map.
    Nested(Vec<Value>),
    /// A type that no column has is NULL everywhere.
    Null,
}

impl<'a> Typed<'a> {
    /// Looks at the type once.
    pub fn of(array: &'a ArrayRef) -> Typed<'a> {
        match DataType::from_arrow(array.data_type()) {
            Some(DataType::Bool) => Typed::Bool(array.as_boolean()),
            Some(DataType::Int64) => {
                Typed::Int(array.as_primitive::<Int64Type>().values(), array.nulls())
            }
            Some(DataType::Timestamp) => {
                Typed::Int(array.as_primitive::<TimestampMicrosecondType>().values(), array.nulls())
            }
            Some(DataType::Float64) => {
                Typed::Float(array.as_primitive::<Float64Type>().values(), array.nulls())
            }
            Some(DataType::String) => Typed::Text(array.as_string::<i32>()),
            Some(DataType::List(_) | DataType::Map(_)) => Typed::Nested(values(array)),
            None => Typed::Null,
        }
    }

    /// A row's value.
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Typed::Bool(a) if a.is_valid(row) => Cell::Bool(a.value(row)),
            Typed::Int(values, there) if is(there, row) => Cell::Int(values[row]),
            Typed::Float(values, there) if is(there, row) => Cell::Float(values[row]),
            Typed::Text(a) if a.is_valid(row) => Cell::Text(a.value(row)),
            Typed::Nested(values) => Cell::from(&values[row]),
            _ => Cell::Null,
        }
    }

    /// Appends the canonical bytes of a row's value; false if that is NULL.
    fn put(&self, row: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Typed::Bool(a) if a.is_valid(row) => key::canonical_bool(a.value(row), out),
            Typed::Int(values, there) if is(there, row) => key::canonical_int(values[row], out),
            Typed::Float(values, there) if is(there, row) => key::canonical_float(values[row], out),
            Typed::Text(a) if a.is_valid(row) => key::canonical_text(a.value(row), out),
            Typed::Nested(values) if !values[row].is_null() => key::canonical(&values[row], out),
            _ => return false,
        }
        true
    }
}

#[inline]
fn is(there: &Option<&NullBuffer>, row: usize) -> bool {
    there.is_none_or(|nulls| nulls.is_valid(row))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn keys_of_columns_are_keys_of_values() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
            Arc::new(Int64Array::from(vec![Some(1), Some(-1), Some(0), None])),
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), Some(1.5), Some(0.0)])),
            Arc::new(StringArray::from(vec![Some("a"), Some(""), Some("b"), Some("a")])),
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(5), Some(-5), Some(0), Some(1)])
                    .with_timezone("UTC"),
            ),
        ];
        for n in 0..=columns.len() {
            let columns = &columns[..n];
            let values: Vec<Vec<Value>> = columns.iter().map(values).collect();
            let wanted: Vec<Option<Key>> =
                (0..4).map(|row| Key::of(values.iter().map(|c| &c[row]))).collect();
            assert_eq!(keys(columns, 4), wanted, "{n} columns");
        }
    }

    #[test]
    fn lists_and_maps_go_through_columns() {
        let numbers = |items: &[Option<i64>]| {
            Value::List(items.iter().map(|i| i.map_or(Value::Null, Value::Int)).collect())
        };
        let counts = |entries: &[(&str, Option<f64>)]| {
            Value::map(
                entries.iter().map(|(k, v)| (Arc::from(*k), v.map_or(Value::Null, Value::Float))),
            )
        };
        let columns = [
            (
                DataType::List(tidemill_types::Item::Int64),
                vec![
                    numbers(&[Some(1), None, Some(-3)]),
                    Value::Null,
                    numbers(&[]),
                    numbers(&[None]),
                ],
            ),
            (
                DataType::Map(tidemill_types::Item::Float64),
                vec![
                    counts(&[]),
                    counts(&[("b", Some(0.5)), ("a", None)]),
                    Value::Null,
                    counts(&[]),
                ],
            ),
        ];
        for (data_type, wanted) in columns {
            let mut builder = Builder::new(data_type, wanted.len());
            wanted.iter().for_each(|value| builder.push(value));
            let column = builder.finish();
            assert_eq!(*column.data_type(), data_type.to_arrow());
            assert_eq!(values(&column), wanted);
            assert_eq!(values(&column.slice(1, 2)), wanted[1..3]);
            let by_value: Vec<Option<Key>> = wanted.iter().map(|v| Key::of([v])).collect();
            assert_eq!(keys(&[column], wanted.len()), by_value);
        }
    }
}
