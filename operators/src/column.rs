//! Between typed columns and single values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder,
    StringArray, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use tidemill_types::{DataType, Key, Value, key};

/// A value of a column, where it stands.
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
        }
    }
}

/// A column in the making.
pub enum Builder {
    /// [`DataType::Bool`]
    Bool(BooleanBuilder),
    /// [`DataType::Int64`]
    Int64(Int64Builder),
    /// [`DataType::Float64`]
    Float64(Float64Builder),
    /// [`DataType::String`]
    String(StringBuilder),
    /// [`DataType::Timestamp`]
    Timestamp(TimestampMicrosecondBuilder),
}

impl Builder {
    /// An empty column with room for so many rows.
    pub fn new(data_type: DataType, rows: usize) -> Builder {
        match data_type {
            DataType::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int64 => Builder::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Builder::Float64(Float64Builder::with_capacity(rows)),
            DataType::String => Builder::String(StringBuilder::new()),
            DataType::Timestamp => {
                let builder = TimestampMicrosecondBuilder::with_capacity(rows);
                Builder::Timestamp(builder.with_timezone("UTC"))
            }
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
            Builder::Int64(builder) => builder.append_option(value.as_i64()),
            Builder::Float64(builder) => builder.append_option(value.as_f64()),
            Builder::String(builder) => builder.append_option(value.as_str()),
            Builder::Timestamp(builder) => builder.append_option(value.as_i64()),
        }
    }

    /// The column.
    pub fn finish(self) -> ArrayRef {
        match self {
            Builder::Bool(mut builder) => Arc::new(builder.finish()),
            Builder::Int64(mut builder) => Arc::new(builder.finish()),
            Builder::Float64(mut builder) => Arc::new(builder.finish()),
            Builder::String(mut builder) => Arc::new(builder.finish()),
            Builder::Timestamp(mut builder) => Arc::new(builder.finish()),
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
        None => rows.map(|_| Value::Null).collect(),
    }
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
            None => Typed::Null,
        }
    }

    /// A row's value.
    #[inline]
    pub fn cell(&self, row: usize) -> Cell<'a> {
        match self {
            Typed::Bool(a) if a.is_valid(row) => Cell::Bool(a.value(row)),
            Typed::Int(values, there) if is(there, row) => Cell::Int(values[row]),
            Typed::Float(values, there) if is(there, row) => Cell::Float(values[row]),
            Typed::Text(a) if a.is_valid(row) => Cell::Text(a.value(row)),
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
}
