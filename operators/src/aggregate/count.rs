//! `count(*)`, `count(x)`, `count(distinct x)`

use tidemill_types::{DataType, Value};

use super::moments::Moments;
use super::{Aggregate, Call, Entry, Primitive, View};
use crate::column::Builder;

pub(super) const ENTRY: Entry = Entry {
    name: "count",
    aliases: &[],
    summary: "rows, values of x that are not NULL, or different ones: count(*), count(x), count(distinct x)",
    build,
};

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_constants()?;
    match (call.distinct, call.input) {
        (true, None) => Err("count(distinct ...) takes a column; found *".into()),
        (true, Some(_)) => Ok(Box::new(CountDistinct)),
        (false, _) => Ok(Box::new(Count)),
    }
}

struct Count;

impl Aggregate for Count {
    fn output(&self) -> DataType {
        DataType::Int64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        Value::Int(view.count() as i64)
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        moments.ints(out, |plain| Some(plain.count as i64), |any| Some(any.count as i64));
    }
}

struct CountDistinct;

impl Aggregate for CountDistinct {
    fn output(&self) -> DataType {
        DataType::Int64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Distinct]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        Value::Int(view.distinct().map_or(view.count(), |distinct| distinct.len() as u64) as i64)
    }

    fn is_distinct_count(&self) -> bool {
        true
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        moments.ints(out, |plain| Some(plain.count as i64), |any| Some(any.count as i64));
    }
}
