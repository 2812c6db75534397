//! `sum(x)`
//!
//! Of floats: a float, the exact sum rounded once. Of whole numbers and truth values: a whole
//! number; the sum itself is exact in 128 bits, and one that an int64 cannot hold reads as NULL (SQL
//! has no wrong answer there, DuckDB and PostgreSQL change to wider types that features do not
//! have). `sum(cast(x as double))` has no such limit.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const ENTRY: Entry = Entry {
    name: "sum",
    aliases: &[],
    summary: "the exact sum; of whole numbers whole, and NULL beyond 64 bits",
    build,
};

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    let input = call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?;
    let output = if input == DataType::Float64 { input } else { DataType::Int64 };
    Ok(Box::new(Sum { output }))
}

struct Sum {
    output: DataType,
}

impl Aggregate for Sum {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count, Primitive::Sum]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(sum) = view.sum().filter(|_| view.count() > 0) else { return Value::Null };
        if self.output == DataType::Float64 {
            return Value::Float(sum.mean(1));
        }
        let whole = sum.finite().to_i128().and_then(|sum| i64::try_from(sum).ok());
        whole.map_or(Value::Null, Value::Int)
    }
}
