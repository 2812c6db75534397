//! `quantile(x, q)` and `median(x)`: SQL's `percentile_cont`, linear between the two nearest ranks.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

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
            None => Err(format!("{} takes a share from 0 to 1; found {q:?}", call.name)),
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
            let low = ordered.kth(below as usize)?;
            if rank == below {
                return low.as_f64();
            }
            let (high, share) = (ordered.kth(below as usize + 1)?, rank - below);
            match (&low, &high) {
                (Value::Int(low), Value::Int(high)) => Some(between_ints(*low, *high, share)),
                _ => Some(between(low.as_f64()?, high.as_f64()?, share)),
            }
        };
        quantile().map_or(Value::Null, Value::Float)
    }
}

/// Beyond 2^53 whole numbers are no floats: what lies between them is rounded once, at the end.
fn between_ints(low: i64, high: i64, share: f64) -> f64 {
    const EXACT: u64 = 1 << 53;
    let near = low.unsigned_abs() <= EXACT && high.unsigned_abs() <= EXACT;
    // The share is a multiple of 2^-53, or it is that of the lowest rank and may be as small as it likes.
    let (parts, of) = (share * (1u64 << 53) as f64, 1i128 << 53);
    if near || parts != parts.trunc() {
        return between(low as f64, high as f64, share);
    }
    let (low, high) = (i128::from(low), i128::from(high));
    (low * of + (high - low) * parts as i128) as f64 / of as f64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_that_are_no_floats_are_rounded_once() {
        assert_eq!(between_ints(i64::MIN, i64::MAX, 0.5), -0.5);
        let two = 1i64 << 53;
        assert_eq!(between_ints(two + 1, two + 3, 0.5), (two + 2) as f64);
        assert_eq!(between_ints(-two - 3, two + 3, 0.5), 0.0);
        assert_eq!(between_ints(i64::MAX - 1, i64::MAX, 0.25), i64::MAX as f64);
        // Below, and where the share has more bits than that, the floats tell it.
        assert_eq!(between_ints(1, 4, 0.1), between(1.0, 4.0, 0.1));
        assert_eq!(between_ints(0, i64::MAX, 1e-30), between(0.0, i64::MAX as f64, 1e-30));
    }
}
