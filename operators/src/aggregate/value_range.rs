//! `value_range(x)`: the greatest value less the least.
//!
//! Of numbers; NULL over no values, NaN if one is NaN or both ends are the same infinity. The
//! difference of whole numbers is rounded to a float once.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const ENTRY: Entry = Entry {
    name: "value_range",
    aliases: &["spread"],
    summary: "the greatest value less the least",
    build: |call: &Call<'_>| {
        call.without_distinct()?;
        call.without_constants()?;
        call.input(&[DataType::Int64, DataType::Float64])?;
        Ok(Box::new(ValueRange))
    },
};

struct ValueRange;

impl Aggregate for ValueRange {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Least, Primitive::Greatest]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let moment = view.moment();
        match (moment.extreme(false), moment.extreme(true)) {
            (Some(Value::Int(least)), Some(Value::Int(greatest))) => {
                Value::Float((i128::from(greatest) - i128::from(least)) as f64)
            }
            (Some(Value::Float(least)), Some(Value::Float(greatest))) => {
                Value::Float(greatest - least)
            }
            _ => Value::Null,
        }
    }
}
