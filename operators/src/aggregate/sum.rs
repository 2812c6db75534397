//! `sum(x)`
//!
//! Of floats: a float, the exact sum rounded once. Of whole numbers and truth values: a whole
//! number; the sum itself is exact in 128 bits, and one that an int64 cannot hold reads as NULL (SQL
//! has no wrong answer there, DuckDB and PostgreSQL change to wider types that features do not
//! have). `sum(cast(x as double))` has no such limit.

use tidemill_types::{DataType, Value};

use super::moment::Moment;
use super::moments::Moments;
use super::{Aggregate, Call, Entry, Primitive, View};
use crate::column::Builder;

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
        match (view.count(), self.output) {
            (0, _) => Value::Null,
            (_, DataType::Float64) => Value::Float(view.moment().sum()),
            _ => view.moment().whole().map_or(Value::Null, Value::Int),
        }
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        match self.output {
            DataType::Float64 => {
                let any = |moment: &Moment| (moment.count > 0).then(|| moment.sum());
                moments.floats(out, |plain| Some(plain.sum), any);
            }
            _ => {
                let any = |moment: &Moment| moment.whole().filter(|_| moment.count > 0);
                moments.ints(out, |plain| Some(plain.whole), any);
            }
        }
    }
}
