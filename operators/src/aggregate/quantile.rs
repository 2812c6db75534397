//! `quantile(x, q)` and `median(x)`: SQL's `percentile_cont`, linear between the two nearest ranks.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View, written};

pub(super) const QUANTILE: Entry = Entry {
    name: "quantile",
    aliases: &["percentile_cont", "quantile_cont"],
    summary: "the q-quantile, linear between ranks: quantile(x, 0.9)",
    build: |call| {
        let q = match call.constants {
            [q] => q,
            other => {
                return Err(format!("{} takes 2 arguments; found {}", call.name, other.len() + 1));
            }
        };
        match q
            .as_f64()
            .filter(|q| (0.0..=1.0).contains(q) && !matches!(call.constants, [Value::Bool(_)]))
        {
            Some(q) => build(call, q),
            None => Err(format!("{} takes a share from 0 to 1; found {}", call.name, written(q))),
        }
    },
};

pub(super) const MEDIAN: Entry = Entry {
    name: "median",
    aliases: &[],
    summary: "quantile(x, 0.5)",
    build: |call| {
        call.without_constants()?;
        build(call, 0.5)
    },
};

fn build(call: &Call<'_>, q: f64) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    call.input(&[DataType::Int64, DataType::Float64])?;
    Ok(Box::new(Quantile { q }))
}

struct Quantile {
    q: f64,
}

impl Aggregate for Quantile {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Ordered]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let quantile = || {
            let ordered = view.ordered()?;
            let rank = self.q * ordered.len().checked_sub(1)? as f64;
            let below = rank.floor();
            let low = ordered.kth(below as usize)?.as_f64()?;
            if rank == below {
                return Some(low);
            }
            Some(between(low, ordered.kth(below as usize + 1)?.as_f64()?, rank - below))
        };
        quantile().map_or(Value::Null, Value::Float)
    }
}

fn between(low: f64, high: f64, share: f64) -> f64 {
    let distance = high - low;
    match distance.is_finite() {
        true => low + distance * share,
        // Equal infinities differ by nothing; finite ends may lie further apart than an f64 reaches.
        false if low == high => low,
        false => low * (1.0 - share) + high * share,
    }
}
