//! Exact sums: a function of the multiset of terms, whatever their order.
//!
//! A term is `m * 2^e`. While terms are of similar size, an i128 counts units of `2^base`, and the
//! base moves as terms need it; when 128 bits do not hold the sum, it goes on in a [`Wide`], and
//! comes back when it can. Nothing is rounded before it is read, so a term that is taken out again
//! leaves the very sum from before, and any order, late rows and any number of workers give the
//! same bits. (Neal, "Fast exact summation using small and large superaccumulators", 2015.)

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::wide::Wide;

/// How many terms a wide sum takes between two looks whether 128 bits would do again.
const NARROW_EVERY: u32 = 256;

/// How far above the base a term of 64 bits is added without a further look.
pub(super) const REACH: u32 = 62;

/// How far below the first term the base is put, so that smaller ones find it low enough.
pub(super) const SPARE: i32 = 20;

/// The base of a sum that is wide: nothing is within reach of it.
pub(super) const NO_BASE: i32 = i32::MIN;

/// An exact sum of dyadic numbers. A nanosecond or two a term, about ten times that while wide.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    value: i128,
    /// [`NO_BASE`] while wide.
    base: i32,
    wide: Option<Box<(Wide, u32)>>,
}

/// A number rounded to 53 bits, not yet scaled: `mantissa * 2^exponent`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounded {
    /// Finite; 0 only for an exact zero.
    pub mantissa: f64,
    /// May lie far beyond what an f64 can hold.
    pub exponent: i32,
}

impl Rounded {
    /// Zero.
    pub const ZERO: Rounded = Rounded { mantissa: 0.0, exponent: 0 };

    /// The same without an exponent, which must be from -900 to 900 and the mantissa from 1 to 2^64 or 0.
    #[inline]
    pub(super) fn plain(self) -> Rounded {
        let power = f64::from_bits(((self.exponent + 1023) as u64) << 52);
        Rounded { mantissa: self.mantissa * power, exponent: 0 }
    }

    /// The same without an exponent; none where what is made of it, divided by counts, might leave the normal numbers,
    /// which are as they are with the exponent kept apart.
    #[inline]
    pub(super) fn near(self) -> Option<f64> {
        match self.exponent {
            0 => Some(self.mantissa),
            exponent if exponent.abs() <= 800 => Some(self.plain().mantissa),
            _ => None,
        }
    }

    /// The quotient, rounded once more.
    #[inline]
    pub fn divided_by(self, divisor: f64) -> Rounded {
        Rounded { mantissa: self.mantissa / divisor, ..self }
    }

    /// The product, rounded once more.
    pub fn times(self, other: Rounded) -> Rounded {
        let mantissa = self.mantissa * other.mantissa;
        Rounded { mantissa, exponent: self.exponent + other.exponent }
    }

    /// The quotient of two, rounded once more.
    pub fn over(self, divisor: Rounded) -> Rounded {
        let mantissa = self.mantissa / divisor.mantissa;
        Rounded { mantissa, exponent: self.exponent - divisor.exponent }
    }

    /// Whether it is an exact zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0.0
    }

    /// The square root; NaN below 0.
    #[inline]
    pub fn sqrt(self) -> Rounded {
        if self.exponent == 0 {
            return Rounded { mantissa: libm::sqrt(self.mantissa), exponent: 0 };
        }
        let odd = self.exponent.rem_euclid(2);
        let mantissa = libm::sqrt(self.mantissa * f64::from(1 + odd));
        Rounded { mantissa, exponent: (self.exponent - odd) / 2 }
    }

    /// The nearest f64; infinite beyond its range.
    #[inline]
    pub fn to_f64(self) -> f64 {
        if self.exponent == 0 {
            return self.mantissa;
        }
        let own = (self.mantissa.to_bits() >> 52 & 0x7ff) as i32;
        // Where neither power nor product leaves the normal numbers, a product is exact.
        if (-1022..=1023).contains(&self.exponent) && (2..2046).contains(&(own + self.exponent)) {
            return self.mantissa * f64::from_bits(((self.exponent + 1023) as u64) << 52);
        }
        libm::ldexp(self.mantissa, self.exponent)
    }

    /// `value * 2^exponent`
    #[inline]
    pub(super) fn of(value: i128, exponent: i32) -> Rounded {
        let magnitude = Rounded::of_magnitude(value.unsigned_abs(), exponent, false);
        match value < 0 {
            true => Rounded { mantissa: -magnitude.mantissa, ..magnitude },
            false => magnitude,
        }
    }

    /// `magnitude * 2^exponent`, rounded to nearest, ties to even; `sticky` says whether there is more
    /// below the magnitude, which then has at least 55 bits.
    #[inline]
    pub(super) fn of_magnitude(magnitude: u128, exponent: i32, sticky: bool) -> Rounded {
        let (high, low) = ((magnitude >> 64) as u64, magnitude as u64);
        if high == 0 {
            return Rounded { mantissa: (low | u64::from(sticky)) as f64, exponent };
        }
        let shift = high.leading_zeros();
        let pair = magnitude << shift;
        // What lies below 64 bits can only break a tie: one bit stands for all of it.
        let top = (pair >> 64) as u64 | u64::from(pair as u64 != 0 || sticky);
        Rounded { mantissa: top as f64, exponent: exponent + 64 - shift as i32 }
    }
}

impl ExactSum {
    /// Adds `m * 2^e`, or takes it out: most terms are a shift and an addition.
    #[inline]
    pub fn step<const IN: bool>(&mut self, m: i64, e: i32) {
        let up = e.wrapping_sub(self.base) as u32;
        if up <= REACH {
            let term = i128::from(m) << up;
            let sum = if IN { self.value.checked_add(term) } else { self.value.checked_sub(term) };
            if let Some(sum) = sum {
                self.value = sum;
                return;
            }
        }
        let m = i128::from(m);
        self.add(if IN { m } else { -m }, e);
    }

    /// Adds `m * 2^e`; adding `-m` takes it out.
    #[cold]
    pub fn add(&mut self, m: i128, e: i32) {
        if m == 0 {
            return;
        }
        if self.wide.is_none()
            && let Some((value, base)) = narrow_sum(self.value, self.base, m, e)
        {
            (self.value, self.base) = (value, base);
        } else {
            self.add_wide(m, e);
        }
    }

    fn add_wide(&mut self, m: i128, e: i32) {
        let (value, base) = (self.value, self.base);
        let (wide, age) =
            &mut **self.wide.get_or_insert_with(|| Box::new((Wide::new(value, base), 0)));
        wide.add(m, e);
        *age = age.wrapping_add(1);
        if ((*age).is_multiple_of(NARROW_EVERY) || wide.is_zero())
            && let Some((value, base)) = wide.narrow()
        {
            *self = ExactSum { value, base, wide: None };
        } else {
            self.base = NO_BASE;
        }
    }

    /// Adds all terms of another.
    pub fn merge(&mut self, other: &ExactSum) {
        match (&self.wide, other.parts()) {
            (None, Some((m, e))) => self.add(m, e),
            _ => {
                let mut wide = self.to_wide();
                wide.plus(&other.to_wide());
                *self = ExactSum::of_wide(wide);
            }
        }
    }

    /// Takes out all terms of another, which were added.
    pub(super) fn unmerge(&mut self, other: &ExactSum) {
        let mut wide = self.to_wide();
        wide.subtract(&other.to_wide());
        *self = ExactSum::of_wide(wide);
    }

    fn of_wide(wide: Wide) -> ExactSum {
        match wide.narrow() {
            Some((value, base)) => ExactSum { value, base, wide: None },
            None => ExactSum { value: 0, base: NO_BASE, wide: Some(Box::new((wide, 0))) },
        }
    }

    /// `value * 2^base`
    pub(super) fn of_parts(value: i128, base: i32) -> ExactSum {
        ExactSum { value, base, wide: None }
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.wide(&self.to_wide());
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<ExactSum> {
        bytes.wide().map(ExactSum::of_wide)
    }

    /// The sum, correctly rounded to 53 bits (nearest, ties to even).
    #[inline]
    pub fn rounded(&self) -> Rounded {
        match &self.wide {
            Some(wide) => wide.0.rounded(),
            None => Rounded::of(self.value, self.base),
        }
    }

    /// The sum, where it is a whole number of at most 127 bits.
    pub fn to_i128(&self) -> Option<i128> {
        let (value, base) = self.parts()?;
        if base >= 0 {
            return shift_left(value, base);
        }
        let fraction = (-base) as u32;
        (value == 0 || value.trailing_zeros() >= fraction).then(|| value >> fraction.min(127))
    }

    /// The sum as `m * 2^e`, while 128 bits hold it.
    pub fn parts(&self) -> Option<(i128, i32)> {
        match &self.wide {
            Some(wide) => wide.0.narrow(),
            None => Some((self.value, self.base)),
        }
    }

    /// The sum at any width.
    pub fn to_wide(&self) -> Wide {
        match &self.wide {
            Some(wide) => wide.0.clone(),
            None => Wide::new(self.value, self.base),
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| size_of::<(Wide, u32)>() + wide.0.bytes())
    }
}

fn narrow_sum(value: i128, base: i32, m: i128, e: i32) -> Option<(i128, i32)> {
    let zeros = m.trailing_zeros();
    let (m, e) = (m >> zeros, e + zeros as i32);
    let down = |spare| {
        let m = shift_left(m, spare)?;
        let lowered = if value == 0 { 0 } else { shift_left(value, base - e + spare)? };
        Some((lowered.checked_add(m)?, e - spare))
    };
    let distance = e - base;
    if value == 0 || distance < 0 {
        return down(SPARE).or_else(|| down(0));
    }
    if let Some(sum) = shift_left(m, distance).and_then(|m| value.checked_add(m)) {
        return Some((sum, base));
    }
    let raise = (value.trailing_zeros() as i32).min(distance);
    let sum = (value >> raise).checked_add(shift_left(m, distance - raise)?)?;
    Some((sum, base + raise))
}

#[inline]
pub(super) fn shift_left(value: i128, by: i32) -> Option<i128> {
    let shifted = value.checked_shl(by as u32)?;
    (shifted >> by == value).then_some(shifted)
}

/// A finite f64 as `m * 2^e`, m of at most 53 bits.
#[inline]
pub(super) fn dyadic(x: f64) -> (i64, i32) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let m = fraction | i64::from(exponent != 0) << 52;
    let sign = bits as i64 >> 63;
    ((m ^ sign) - sign, exponent.max(1) - 1075)
}

/// A number's parts, if it is a finite number; truth counts as 0 and 1.
#[inline]
pub(super) fn parts_of(value: &Value) -> Option<(i64, i32)> {
    match value {
        Value::Int(i) => Some((*i, 0)),
        Value::Float(x) if x.is_finite() => Some(dyadic(*x)),
        Value::Bool(b) => Some((i64::from(*b), 0)),
        _ => None,
    }
}

/// The exact sum of numbers, with NaN and the infinities counted beside it, so that they too can be
/// taken out again. NULL and text are not there.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    finite: ExactSum,
    special: Option<Box<Special>>,
}

/// How many values are not finite, by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Special {
    pub(super) nan: u64,
    pub(super) positive: u64,
    pub(super) negative: u64,
}

impl Special {
    /// Counts a value; finite ones are not there.
    pub(super) fn change(&mut self, x: f64, change: impl Fn(&mut u64)) {
        if x.is_nan() {
            change(&mut self.nan);
        } else if x.is_infinite() {
            change(if x > 0.0 { &mut self.positive } else { &mut self.negative });
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.nan | self.positive | self.negative == 0
    }

    /// What they sum up to.
    pub(super) fn sum(&self) -> Option<f64> {
        match (self.nan, self.positive, self.negative) {
            (0, 0, 0) => None,
            (0, _, 0) => Some(f64::INFINITY),
            (0, 0, _) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// Takes out those of another, which were added.
    pub(super) fn unmerge(&mut self, other: &Special) {
        self.nan = self.nan.saturating_sub(other.nan);
        self.positive = self.positive.saturating_sub(other.positive);
        self.negative = self.negative.saturating_sub(other.negative);
    }

    /// Adds those of another.
    pub(super) fn merge(&mut self, other: &Special) {
        self.nan = self.nan.saturating_add(other.nan);
        self.positive = self.positive.saturating_add(other.positive);
        self.negative = self.negative.saturating_add(other.negative);
    }
}

impl Sum {
    /// Adds a value.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        match parts_of(value) {
            Some((m, e)) => self.finite.step::<true>(m, e),
            None => self.special(value, |count| *count += 1),
        }
    }

    /// Takes out a value that was added.
    #[inline]
    pub fn remove(&mut self, value: &Value) {
        match parts_of(value) {
            Some((m, e)) => self.finite.step::<false>(m, e),
            None => self.special(value, |count| *count = count.saturating_sub(1)),
        }
    }

    #[cold]
    fn special(&mut self, value: &Value, change: fn(&mut u64)) {
        let Value::Float(x) = value else { return };
        let special = self.special.get_or_insert_default();
        special.change(*x, change);
        if special.is_empty() {
            self.special = None;
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Sum) {
        self.finite.merge(&other.finite);
        if let Some(special) = &other.special {
            self.special.get_or_insert_default().merge(special);
        }
    }

    pub(super) fn save(&self, out: &mut Writer) {
        self.finite.save(out);
        out.special(self.special.as_deref());
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<Sum> {
        Some(Sum { finite: ExactSum::restore(bytes)?, special: bytes.special()? })
    }

    /// NaN or an infinity, if there is one among the values or they make one.
    pub fn non_finite(&self) -> Option<f64> {
        self.special.as_ref()?.sum()
    }

    /// The sum of the finite values.
    pub fn finite(&self) -> &ExactSum {
        &self.finite
    }

    /// The sum divided by a count: the sum is rounded once, the quotient once, and there is no
    /// overflow in between.
    #[inline]
    pub fn mean(&self, n: u64) -> f64 {
        self.non_finite().unwrap_or_else(|| self.finite.rounded().divided_by(n as f64).to_f64())
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.finite.bytes() + self.special.as_ref().map_or(0, |_| size_of::<Special>())
    }
}

#[cfg(test)]
mod tests;
