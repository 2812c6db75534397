//! `geometric_mean(x)`: e to the mean of the natural logarithms.
//!
//! Each logarithm is rounded to an f64 (by the portable `libm`), their sum is exact: a function of the
//! multiset. As IEEE has it: a zero makes the mean 0, a negative value NaN, an infinity infinite, both a zero
//! and an infinity NaN. NULL over no values.

use std::any::Any;

use tidemill_types::{DataType, Value};

use super::bytes::{Reader, Writer};
use super::exact_sum::Sum;
use super::{Aggregate, Call, Entry, Primitive, Row, Running, View};

pub(super) const ENTRY: Entry = Entry {
    name: "geometric_mean",
    aliases: &["geomean"],
    summary: "e to the mean of the logarithms; NaN where a value is negative",
    build,
};

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    call.input(&[DataType::Int64, DataType::Float64])?;
    Ok(Box::new(GeometricMean))
}

struct GeometricMean;

impl Aggregate for GeometricMean {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count, Primitive::Own]
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::<Logarithms>::default())
    }

    fn finish(&self, view: &View<'_>) -> Value {
        match (view.count(), view.own::<Logarithms>()) {
            (n @ 1.., Some(logarithms)) => Value::Float(libm::exp(logarithms.sum.mean(n))),
            _ => Value::Null,
        }
    }
}

/// The exact sum of logarithms.
#[derive(Clone, Debug, Default)]
struct Logarithms {
    sum: Sum,
}

fn logarithm(value: &Value) -> Value {
    value.as_f64().map_or(Value::Null, |x| Value::Float(libm::log(x)))
}

impl Running for Logarithms {
    fn name(&self) -> String {
        "logarithms".to_string()
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::<Logarithms>::default()
    }

    fn insert(&mut self, row: &Row<'_>) {
        self.sum.insert(&logarithm(row.value));
    }

    fn remove(&mut self, row: &Row<'_>) {
        self.sum.remove(&logarithm(row.value));
    }

    fn clear(&mut self) {
        *self = Logarithms::default();
    }

    fn merge(&mut self, other: &dyn Running) {
        if let Some(other) = other.as_any().downcast_ref::<Logarithms>() {
            self.sum.merge(&other.sum);
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.sum.save(out.byte(1));
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let _version = bytes.byte().filter(|version| *version == 1)?;
        let sum = Sum::restore(&mut bytes)?;
        bytes.end(Box::new(Logarithms { sum }))
    }

    fn bytes(&self) -> usize {
        size_of::<Logarithms>() + self.sum.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
