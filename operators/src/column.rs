//! Between typed columns and single values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use tidemill_types::{DataType, Value};

/// A column of a type; what is missing or of another type is NULL.
pub fn array<'a>(
    data_type: DataType,
    values: impl ExactSizeIterator<Item = Option<&'a Value>>,
) -> ArrayRef {
    let rows = values.len();
    match data_type {
        DataType::Bool => {
            let mut builder = BooleanBuilder::with_capacity(rows);
            values.for_each(|v| {
                builder.append_option(match v {
                    Some(Value::Bool(b)) => Some(*b),
                    _ => None,
                })
            });
            Arc::new(builder.finish())
        }
        DataType::Int64 => {
            let mut builder = Int64Builder::with_capacity(rows);
            values.for_each(|v| builder.append_option(v.and_then(Value::as_i64)));
            Arc::new(builder.finish())
        }
        DataType::Float64 => {
            let mut builder = Float64Builder::with_capacity(rows);
            values.for_each(|v| builder.append_option(v.and_then(Value::as_f64)));
            Arc::new(builder.finish())
        }
        DataType::String => {
            let mut builder = StringBuilder::new();
            values.for_each(|v| builder.append_option(v.and_then(Value::as_str)));
            Arc::new(builder.finish())
        }
        DataType::Timestamp => {
            let mut builder = TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC");
            values.for_each(|v| builder.append_option(v.and_then(Value::as_i64)));
            Arc::new(builder.finish())
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
