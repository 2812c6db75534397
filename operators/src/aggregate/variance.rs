//! `var_samp`, `var_pop`, `stddev_samp`, `stddev_pop`
//!
//! From exact sums of x and x^2 as `(n S2 - S1^2) / (n (n - 1))`, the numerator taken exactly and
//! rounded once: no cancellation, however large the mean. Over one value the sample forms are NULL;
//! over a NaN or an infinity all are NaN.

use tidemill_types::{DataType, Value};

use super::moment::Moment;
use super::moments::{Moments, Plain};
use super::{Aggregate, Call, Entry, Primitive, View};
use crate::column::Builder;

pub(super) const VAR_SAMP: Entry = Entry {
    name: "var_samp",
    aliases: &["variance"],
    summary: "the sample variance (divisor n - 1); NULL over fewer than two values",
    build: |call| build(call, Variance { spare: 1, root: false }),
};

pub(super) const VAR_POP: Entry = Entry {
    name: "var_pop",
    aliases: &[],
    summary: "the population variance (divisor n)",
    build: |call| build(call, Variance { spare: 0, root: false }),
};

pub(super) const STDDEV_SAMP: Entry = Entry {
    name: "stddev_samp",
    aliases: &["stddev"],
    summary: "the square root of var_samp",
    build: |call| build(call, Variance { spare: 1, root: true }),
};

pub(super) const STDDEV_POP: Entry = Entry {
    name: "stddev_pop",
    aliases: &[],
    summary: "the square root of var_pop",
    build: |call| build(call, Variance { spare: 0, root: true }),
};

fn build(call: &Call<'_>, variance: Variance) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?;
    Ok(Box::new(variance))
}

struct Variance {
    /// What the divisor lacks of n.
    spare: u64,
    root: bool,
}

impl Variance {
    #[inline]
    fn divisor(&self, n: u64) -> f64 {
        match n >> 31 {
            0 => (n * (n - self.spare)) as i64 as f64,
            _ => (u128::from(n) * u128::from(n - self.spare)) as f64,
        }
    }

    #[inline]
    fn of(&self, moment: &Moment) -> Option<f64> {
        let n = moment.count;
        if n <= self.spare {
            return None;
        }
        if moment.non_finite().is_some() {
            return Some(f64::NAN);
        }
        let variance = moment.deviation().divided_by(self.divisor(n));
        Some(if self.root { variance.sqrt() } else { variance }.to_f64())
    }
}

impl Aggregate for Variance {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count, Primitive::Sum, Primitive::SumSquares]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        self.of(view.moment()).map_or(Value::Null, Value::Float)
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        let variance = |plain: Plain| {
            (plain.count > self.spare).then(|| plain.deviation / self.divisor(plain.count))
        };
        match self.root {
            true => {
                moments.floats(out, |plain| variance(plain).map(libm::sqrt), |any| self.of(any))
            }
            false => moments.floats(out, variance, |any| self.of(any)),
        }
    }
}
