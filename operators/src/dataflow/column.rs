//! Values become a typed column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
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
