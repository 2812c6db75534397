//! Columns in the making, value by value or many at a time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanBufferBuilder, BooleanBuilder, ListArray, MapArray,
    PrimitiveArray, StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType as ArrowType, Float64Type, Int64Type, TimestampMicrosecondType,
};
use tidemill_types::{DataType, Value};

use super::Cell;

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

    /// Bytes of the values so far, where they are of any length.
    pub fn long_bytes(&self) -> u64 {
        match self {
            Builder::String(builder) => builder.values_slice().len() as u64,
            Builder::List(parts, builder) => (parts.items() * 8) as u64 + builder.long_bytes(),
            Builder::Map(parts, keys, builder) => {
                let keys = keys.values_slice().len();
                (parts.items() * 8 + keys) as u64 + builder.long_bytes()
            }
            _ => 0,
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
