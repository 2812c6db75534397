//! `avg(x)`: the exact sum, rounded once, over the count. Truth values count as 0 and 1: a rate.

use tidemill_types::{DataType, Value};

use super::moment::Moment;
use super::moments::Moments;
use super::{Aggregate, Call, Entry, Primitive, View};
use crate::column::Builder;

pub(super) const ENTRY: Entry = Entry {
    name: "avg",
    aliases: &["mean"],
    summary: "the arithmetic mean; of truth values the share that is true",
    build,
};

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?;
    Ok(Box::new(Avg))
}

struct Avg;

impl Aggregate for Avg {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count, Primitive::Sum]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        match view.count() {
            0 => Value::Null,
            n => Value::Float(view.moment().mean(n)),
        }
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        let any = |moment: &Moment| (moment.count > 0).then(|| moment.mean(moment.count));
        moments.floats(out, |plain| Some(plain.sum / plain.count as i64 as f64), any);
    }
}
