//! Between typed columns and single values.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
    BooleanBuilder, ListArray, MapArray, PrimitiveArray, StringArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType as ArrowType, Float64Type, Int64Type, TimestampMicrosecondType,
};
use hashbrown::HashMap;
use tidemill_types::{DataType, Key, Value, key};
use xxhash_rust::xxh3::Xxh3Builder;

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

/// A column in the making.
pub enum Builder {
    /// [`DataType::Bool`]
    Bool(BooleanBuilder),
    /// [`DataType::Int64`]
    Int64(Numbers<i64>),
    /// [`DataType::Float64`]
    Float64(Numbers<f64>),
    /// [`DataType::String`]
    String(StringBuilder),
    /// [`DataType::Timestamp`]
    Timestamp(Numbers<i64>),
    /// [`DataType::List`]
    List(Parts, Box<Builder>),
    /// [`DataType::Map`]
    Map(Parts, StringBuilder, Box<Builder>),
}

/// A column of numbers in the making: what stands in each row, and in which rows nothing does.
#[derive(Default)]
pub struct Numbers<T> {
    values: Vec<T>,
    nulls: Vec<usize>,
}

impl<T: ArrowNativeType> Numbers<T> {
    fn new(rows: usize) -> Numbers<T> {
        Numbers { values: Vec::with_capacity(rows), nulls: Vec::new() }
    }

    #[inline]
    fn push(&mut self, value: Option<T>) {
        if value.is_none() {
            self.nulls.push(self.values.len());
        }
        self.values.push(value.unwrap_or_default());
    }

    #[inline]
    fn extend(&mut self, values: impl Iterator<Item = Option<T>>) {
        let mut row = self.values.len();
        self.values.extend(values.map(|value| {
            if value.is_none() {
                self.nulls.push(row);
            }
            row += 1;
            value.unwrap_or_default()
        }));
    }

    fn finish<P: ArrowPrimitiveType<Native = T>>(self) -> PrimitiveArray<P> {
        let valid = (!self.nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(self.values.len());
            valid.append_n(self.values.len(), true);
            self.nulls.iter().for_each(|row| valid.set_bit(*row, false));
            NullBuffer::new(valid.finish())
        });
        PrimitiveArray::new(self.values.into(), valid)
    }
}

/// How the items of all rows are divided into rows.
pub struct Parts {
    data_type: DataType,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Parts {
    fn new(data_type: DataType, rows: usize) -> Parts {
        Parts { data_type, ends: Vec::with_capacity(rows), valid: Vec::with_capacity(rows) }
    }

    /// Ends a row, so many items having been appended to it.
    fn end(&mut self, items: usize, valid: bool) {
        self.ends.push(items as i32);
        self.valid.push(valid);
    }

    fn offsets(&self) -> OffsetBuffer<i32> {
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends.iter().copied()).collect();
        OffsetBuffer::new(offsets.into())
    }

    fn nulls(&self) -> Option<NullBuffer> {
        Some(NullBuffer::from(self.valid.as_slice())).filter(|nulls| nulls.null_count() > 0)
    }

    fn items(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }
}

impl Builder {
    /// An empty column with room for so many rows.
    pub fn new(data_type: DataType, rows: usize) -> Builder {
        match data_type {
            DataType::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int64 => Builder::Int64(Numbers::new(rows)),
            DataType::Float64 => Builder::Float64(Numbers::new(rows)),
            DataType::String => Builder::String(StringBuilder::new()),
            DataType::Timestamp => Builder::Timestamp(Numbers::new(rows)),
            DataType::List(item) => Builder::List(
                Parts::new(data_type, rows),
                Box::new(Builder::new(item.into(), rows)),
            ),
            DataType::Map(item) => Builder::Map(
                Parts::new(data_type, rows),
                StringBuilder::new(),
                Box::new(Builder::new(item.into(), rows)),
            ),
        }
    }

    /// Appends a value; one of another type is NULL.
    #[inline]
    pub fn push(&mut self, value: &Value) {
        match self {
            Builder::Bool(builder) => builder.append_option(match value {
                Value::Bool(b) => Some(*b),
                _ => None,
            }),
            Builder::Int64(numbers) => numbers.push(value.as_i64()),
            Builder::Float64(numbers) => numbers.push(value.as_f64()),
            Builder::String(builder) => builder.append_option(value.as_str()),
            Builder::Timestamp(numbers) => numbers.push(value.as_i64()),
            Builder::List(parts, builder) => {
                let before = parts.items();
                let items = match value {
                    Value::List(items) => Some(items),
                    _ => None,
                };
                items.iter().flat_map(|items| items.iter()).for_each(|item| builder.push(item));
                let added = items.map_or(0, |items| items.len());
                parts.end(before + added, items.is_some());
            }
            Builder::Map(parts, keys, builder) => {
                let before = parts.items();
                let entries = match value {
                    Value::Map(entries) => Some(entries),
                    _ => None,
                };
                for (key, value) in entries.iter().flat_map(|entries| entries.iter()) {
                    keys.append_value(key);
                    builder.push(value);
                }
                let added = entries.map_or(0, |entries| entries.len());
                parts.end(before + added, entries.is_some());
            }
        }
    }

    /// Appends a value where it stands; one of another type is NULL.
    #[inline]
    pub fn push_cell(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Builder::Int64(numbers), Cell::Int(i)) => numbers.push(Some(i)),
            (Builder::Float64(numbers), Cell::Float(x)) => numbers.push(Some(x)),
            (Builder::Timestamp(numbers), Cell::Int(i)) => numbers.push(Some(i)),
            (Builder::String(builder), Cell::Text(text)) => builder.append_value(text),
            (other, cell) => other.push(&cell.to_value()),
        }
    }

    /// Appends many floats.
    #[inline]
    pub fn floats(&mut self, values: impl Iterator<Item = Option<f64>>) {
        match self {
            Builder::Float64(numbers) => numbers.extend(values),
            other => other.extend(values.map(|x| x.map_or(Value::Null, Value::Float))),
        }
    }

    /// Appends many whole numbers.
    #[inline]
    pub fn ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        match self {
            Builder::Int64(numbers) => numbers.extend(values),
            other => other.extend(values.map(|i| i.map_or(Value::Null, Value::Int))),
        }
    }

    /// Appends many values.
    #[inline]
    pub fn extend(&mut self, values: impl Iterator<Item = Value>) {
        match self {
            Builder::Int64(numbers) => numbers.extend(values.map(|value| value.as_i64())),
            Builder::Float64(numbers) => numbers.extend(values.map(|value| value.as_f64())),
            other => values.for_each(|value| other.push(&value)),
        }
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        match self {
            Builder::Bool(mut builder) => Arc::new(builder.finish()),
            Builder::Int64(numbers) => Arc::new(numbers.finish::<Int64Type>()),
            Builder::Float64(numbers) => Arc::new(numbers.finish::<Float64Type>()),
            Builder::String(mut builder) => Arc::new(builder.finish()),
            Builder::Timestamp(numbers) => {
                Arc::new(numbers.finish::<TimestampMicrosecondType>().with_timezone("UTC"))
            }
            Builder::List(parts, builder) => {
                let ArrowType::List(field) = parts.data_type.to_arrow() else {
                    return builder.finish();
                };
                let (offsets, valid) = (parts.offsets(), parts.nulls());
                Arc::new(ListArray::new(field, offsets, builder.finish(), valid))
            }
            Builder::Map(parts, mut keys, builder) => {
                let ArrowType::Map(field, sorted) = parts.data_type.to_arrow() else {
                    return builder.finish();
                };
                let ArrowType::Struct(fields) = field.data_type().clone() else {
                    return builder.finish();
                };
                let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), builder.finish()];
                let entries = StructArray::new(fields, columns, None);
                let (offsets, valid) = (parts.offsets(), parts.nulls());
                Arc::new(MapArray::new(field, offsets, entries, valid, sorted))
            }
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
