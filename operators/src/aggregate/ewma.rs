//! `ewma(x, alpha)`: the exponentially weighted mean by row.
//!
//! The newest value weighs 1, the one before it 1 - alpha, the one before that (1 - alpha)^2, and so on; the
//! weighted sum over the sum of the weights. NULL rows are not there. This is pandas'
//! `ewm(alpha, adjust=True, ignore_na=True).mean()` and OpenMLDB's `ew_avg`; by time instead of by row it is
//! `decayed_avg(x, half_life)`. NULL over no values; NaN and infinities make of it what IEEE arithmetic does.
//!
//! It depends on the order of rows, so a read walks back from the newest and stops where a weight is below
//! 2^-60: after 42 / alpha values at most, a few nanoseconds each. All values before that together weigh
//! less than 2^-60 / alpha.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const ENTRY: Entry = Entry {
    name: "ewma",
    aliases: &["ew_avg"],
    summary: "the mean in which each value weighs 1 - alpha of the one after it: ewma(x, 0.1)",
    build,
};

/// Where the walk ends: 2^-60.
const LEAST: f64 = 1.0 / (1u64 << 60) as f64;

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?;
    let alpha = match call.constants {
        [alpha @ (Value::Int(_) | Value::Float(_))] => alpha.as_f64(),
        _ => None,
    };
    match alpha.filter(|alpha| *alpha > 0.0 && *alpha <= 1.0) {
        Some(alpha) => Ok(Box::new(Ewma { alpha })),
        None => Err(format!(
            "{} takes a column and an alpha above 0 and up to 1: {}(x, 0.1)",
            call.name, call.name
        )),
    }
}

struct Ewma {
    alpha: f64,
}

impl Aggregate for Ewma {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let (mut weight, mut weights, mut sum) = (1.0, 0.0, 0.0);
        view.walk(true, |row| {
            let Some(x) = row.value.as_f64() else { return true };
            weights += weight;
            sum += weight * x;
            weight *= 1.0 - self.alpha;
            weight >= LEAST
        });
        if weights == 0.0 { Value::Null } else { Value::Float(sum / weights) }
    }
}
