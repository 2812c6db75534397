//! `skewness(x)`, `kurtosis(x)` and their population forms `skew_pop(x)`, `kurtosis_pop(x)`.
//!
//! With M2, M3, M4 the sums of powers about the mean: `skew_pop` is g1 = (M3/n) / (M2/n)^1.5, and
//! `kurtosis_pop` the excess g2 = (M4/n) / (M2/n)^2 - 3. `skewness` and `kurtosis` are what DuckDB,
//! Excel and SAS call so, corrected for the size of the sample: G1 = g1 sqrt(n(n-1)) / (n-2), G2 =
//! ((n+1) g2 + 6) (n-1) / ((n-2)(n-3)). (Joanes and Gill, "Comparing measures of sample skewness and
//! kurtosis", 1998.)
//!
//! NULL where undefined: over fewer than 3 values (skewness, skew_pop), 4 (kurtosis, kurtosis_pop), or where
//! all values are equal. Chronon's SKEW and KURTOSIS are the population forms with those same rules, and
//! NaN in the place of NULL. NaN and infinities among the values make all NaN.
//!
//! From exact sums of x to x^4; each numerator and denominator is taken exactly and rounded once: no
//! cancellation, however large the mean.

use std::any::Any;

use tidemill_types::{DataType, Value};

use super::bytes::{Reader, Writer};
use super::dyadic::{Dyadic, Term};
use super::exact_sum::Rounded;
use super::wide::Wide;
use super::{Aggregate, Call, Entry, Primitive, Row, Running, View};

pub(super) const SKEWNESS: Entry = Entry {
    name: "skewness",
    aliases: &[],
    summary: "the sample skewness; NULL over fewer than three values",
    build: |call| build(call, Shape { power: 3, sample: true }),
};

pub(super) const SKEW_POP: Entry = Entry {
    name: "skew_pop",
    aliases: &["skew"],
    summary: "the population skewness g1; NULL over fewer than three values",
    build: |call| build(call, Shape { power: 3, sample: false }),
};

pub(super) const KURTOSIS: Entry = Entry {
    name: "kurtosis",
    aliases: &[],
    summary: "the sample excess kurtosis; NULL over fewer than four values",
    build: |call| build(call, Shape { power: 4, sample: true }),
};

pub(super) const KURTOSIS_POP: Entry = Entry {
    name: "kurtosis_pop",
    aliases: &[],
    summary: "the population excess kurtosis g2; NULL over fewer than four values",
    build: |call| build(call, Shape { power: 4, sample: false }),
};

fn build(call: &Call<'_>, shape: Shape) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?;
    Ok(Box::new(shape))
}

struct Shape {
    power: u64,
    sample: bool,
}

impl Aggregate for Shape {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Count, Primitive::Sum, Primitive::SumSquares, Primitive::Own]
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::<Powers>::default())
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let n = view.count();
        let Some(numbers) = view.numbers() else { return Value::Null };
        let Some(powers) = view.own::<Powers>().filter(|_| n >= self.power) else {
            return Value::Null;
        };
        if numbers.non_finite().is_some() {
            return Value::Float(f64::NAN);
        }
        let (s1, s2) = numbers.to_wide();
        let moments = Moments { n, s1, s2, powers };
        let a2 = moments.second();
        if a2.is_zero() {
            return Value::Null;
        }
        let shape =
            if self.power == 3 { self.third(&moments, &a2) } else { self.fourth(&moments, &a2) };
        Value::Float(shape.to_f64())
    }
}

impl Shape {
    fn third(&self, moments: &Moments<'_>, a2: &Wide) -> Rounded {
        let n = moments.n as f64;
        let a2 = a2.rounded();
        let g1 = moments.third().rounded().over(a2.times(a2.sqrt()));
        match self.sample {
            true => g1.times(number(libm::sqrt(n * (n - 1.0)) / (n - 2.0))),
            false => g1,
        }
    }

    fn fourth(&self, moments: &Moments<'_>, a2: &Wide) -> Rounded {
        let n = moments.n;
        let (mut numerator, square) = (moments.fourth(), a2.square());
        if !self.sample {
            numerator.subtract(&square.times(3));
            return numerator.rounded().over(square.rounded());
        }
        numerator = numerator.times(n + 1);
        numerator.subtract(&square.times(3).times(n - 1));
        let n = n as f64;
        let factor = (n - 1.0) / ((n - 2.0) * (n - 3.0));
        numerator.rounded().over(square.rounded()).times(number(factor))
    }
}

fn number(mantissa: f64) -> Rounded {
    Rounded { mantissa, exponent: 0 }
}

/// Sums of powers, and from them those about the mean, exactly.
struct Moments<'a> {
    n: u64,
    s1: Wide,
    s2: Wide,
    powers: &'a Powers,
}

impl Moments<'_> {
    /// n M2 = n S2 - S1^2
    fn second(&self) -> Wide {
        let mut a2 = self.s2.times(self.n);
        a2.subtract(&self.s1.square());
        a2
    }

    /// n^2 M3 = n^2 S3 - 3 n S1 S2 + 2 S1^3
    fn third(&self) -> Wide {
        let mut a3 = self.powers.cubes.to_wide().times(self.n);
        a3.subtract(&self.s1.product(&self.s2).times(3));
        let mut a3 = a3.times(self.n);
        a3.plus(&self.s1.square().product(&self.s1).times(2));
        a3
    }

    /// n^3 M4 = n^3 S4 - 4 n^2 S1 S3 + 6 n S1^2 S2 - 3 S1^4
    fn fourth(&self) -> Wide {
        let square = self.s1.square();
        let mut a4 = self.powers.fourths.to_wide().times(self.n);
        a4.subtract(&self.s1.product(&self.powers.cubes.to_wide()).times(4));
        let mut a4 = a4.times(self.n);
        a4.plus(&square.product(&self.s2).times(6));
        let mut a4 = a4.times(self.n);
        a4.subtract(&square.square().times(3));
        a4
    }
}

/// The exact sums of x^3 and x^4 of the finite values.
#[derive(Clone, Debug, Default)]
struct Powers {
    cubes: Dyadic<5>,
    fourths: Dyadic<6>,
}

impl Powers {
    fn change(&mut self, value: &Value, out: bool) {
        let Some(x) = Term::of(value) else { return };
        let Some(cube) = x.times(&x).and_then(|square| square.times(&x)) else { return };
        let Some(fourth) = cube.times(&x) else { return };
        self.cubes.add(&if out { cube.negated() } else { cube });
        self.fourths.add(&if out { fourth.negated() } else { fourth });
    }
}

impl Running for Powers {
    fn name(&self) -> String {
        "powers".to_string()
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::<Powers>::default()
    }

    fn insert(&mut self, row: &Row<'_>) {
        self.change(row.value, false);
    }

    fn remove(&mut self, row: &Row<'_>) {
        self.change(row.value, true);
    }

    fn clear(&mut self) {
        *self = Powers::default();
    }

    fn merge(&mut self, other: &dyn Running) {
        if let Some(other) = other.as_any().downcast_ref::<Powers>() {
            self.cubes.merge(&other.cubes);
            self.fourths.merge(&other.fourths);
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(1);
        self.cubes.save(&mut out);
        self.fourths.save(&mut out);
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let _version = bytes.byte().filter(|version| *version == 1)?;
        let powers =
            Powers { cubes: Dyadic::restore(&mut bytes)?, fourths: Dyadic::restore(&mut bytes)? };
        bytes.end(Box::new(powers))
    }

    fn bytes(&self) -> usize {
        size_of::<Powers>() + self.cubes.bytes() + self.fourths.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
