//! The exact sum of squares, in 256 bits while they do.
//!
//! The square of an f64 has up to 106 bits, so a sum of squares outgrows the 128 bits of an
//! [`ExactSum`] at once where amounts have cents. Here units of `2^base` are counted in 256 bits,
//! which hold squares of numbers that lie a factor of 2^60 apart and 2^30 of them; beyond that
//! the sum goes on in a [`Wide`], and comes back when it can.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::exact_sum::{ExactSum, NO_BASE, REACH, Rounded, SPARE, parts_of};
use super::wide::{Wide, round};

/// How many terms a wide sum takes between two looks whether 256 bits would do again.
const NARROW_EVERY: u32 = 256;

/// The exact sum of squares of the finite numbers.
#[derive(Clone, Debug, Default)]
pub struct SumSquares {
    value: Count,
    /// Even; [`NO_BASE`] while wide.
    base: i32,
    wide: Option<Box<(Wide, u32)>>,
}

/// A number of 256 bits that is not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    high: u128,
    low: u128,
}

impl Count {
    pub(super) const ZERO: Count = Count { high: 0, low: 0 };

    /// `high * 2^128 + low`
    #[inline]
    pub(super) fn of_halves(high: u128, low: u128) -> Count {
        Count { high, low }
    }

    fn new(low: u128) -> Count {
        Count { high: 0, low }
    }

    #[inline]
    pub(super) fn is_zero(self) -> bool {
        self.high | self.low == 0
    }

    /// Times `2^by`; none if a bit would be lost.
    #[inline]
    pub(super) fn shifted(self, by: u32) -> Option<Count> {
        Some(match by {
            0 => self,
            1..128 if self.high >> (128 - by) == 0 => {
                Count { high: self.high << by | self.low >> (128 - by), low: self.low << by }
            }
            128..256 if self.high == 0 && (by == 128 || self.low >> (256 - by) == 0) => {
                Count { high: self.low << (by - 128), low: 0 }
            }
            _ if self.is_zero() => self,
            _ => return None,
        })
    }

    /// The sum; none beyond the range.
    #[inline]
    pub(super) fn plus(self, other: Count) -> Option<Count> {
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high.checked_add(other.high)?.checked_add(u128::from(carry))?;
        Some(Count { high, low })
    }

    #[inline]
    fn minus(self, other: Count) -> Option<Count> {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        let high = self.high.checked_sub(other.high)?.checked_sub(u128::from(borrow))?;
        Some(Count { high, low })
    }

    /// With `square * 2^up` added or taken out, `up` from 0 to 127; none beyond the range.
    #[inline]
    pub(super) fn step<const IN: bool>(self, square: u128, up: u32) -> Option<Count> {
        // In two halves, for no shift may be by all 128 bits.
        let (high, low) = (square >> 1 >> (127 - up), square << up);
        let (low, carry) = match IN {
            true => self.low.overflowing_add(low),
            false => self.low.overflowing_sub(low),
        };
        let high = high + u128::from(carry);
        let high = match IN {
            true => self.high.checked_add(high),
            false => self.high.checked_sub(high),
        };
        Some(Count { high: high?, low })
    }

    /// `n * self - sum^2`, times `2^base`, for numbers of which this is the sum of squares and `sum` the
    /// sum; none where 256 bits might not hold it.
    #[inline]
    pub(super) fn deviation(self, n: u64, sum: u128, base: i32) -> Option<Rounded> {
        if n >> 32 != 0 || self.high >> 96 != 0 {
            return None;
        }
        // The square is no greater (Cauchy and Schwarz).
        Some(self.times(n).minus(Count::square(sum))?.rounded(base))
    }

    /// Times `2^base`, rounded once.
    #[inline]
    pub(super) fn rounded(self, base: i32) -> Rounded {
        let Count { high, low } = self;
        match (high as u64, (high >> 64) as u64) {
            (0, 0) => Rounded::of_magnitude(low, base, false),
            (word, 0) => {
                let shift = word.leading_zeros();
                let next = (low >> 64) as u64;
                // What lies below 64 bits can only break a tie: one bit stands for all of it.
                let sticky = next << shift != 0 || low as u64 != 0;
                let top = word << shift | next >> 1 >> (63 - shift) | u64::from(sticky);
                Rounded { mantissa: top as f64, exponent: base + 128 - shift as i32 }
            }
            _ => {
                let shift = high.leading_zeros();
                let top = high << shift | low >> 1 >> (127 - shift);
                Rounded::of_magnitude(top, base + 128 - shift as i32, low << shift != 0)
            }
        }
    }

    /// Times a count, modulo 2^256.
    #[inline]
    fn times(self, n: u64) -> Count {
        let n = u128::from(n);
        let bottom = (self.low & u128::from(u64::MAX)) * n;
        let middle = (self.low >> 64) * n + (bottom >> 64);
        let low = middle << 64 | bottom & u128::from(u64::MAX);
        Count { high: self.high.wrapping_mul(n).wrapping_add(middle >> 64), low }
    }

    /// The square of a number of 127 bits.
    #[inline]
    fn square(x: u128) -> Count {
        let (high, low) = (x >> 64, x & u128::from(u64::MAX));
        let (squared, cross) = (low * low, high * low);
        // The cross product counts twice; it has 127 bits.
        let (sum, carry) = squared.overflowing_add(cross << 65);
        Count { high: high * high + (cross >> 63) + u128::from(carry), low: sum }
    }

    #[inline]
    pub(super) fn limbs(self) -> [u64; 4] {
        [self.low as u64, (self.low >> 64) as u64, self.high as u64, (self.high >> 64) as u64]
    }
}

impl SumSquares {
    /// Adds a value's square.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        self.change(value, false);
    }

    /// Takes out the square of a value that was added.
    #[inline]
    pub fn remove(&mut self, value: &Value) {
        self.change(value, true);
    }

    #[inline]
    fn change(&mut self, value: &Value, out: bool) {
        if let Some((m, e)) = parts_of(value) {
            match out {
                false => self.step::<true>(m, e),
                true => self.step::<false>(m, e),
            }
        }
    }

    /// Adds the square of a finite number that was taken apart, or takes it out.
    #[inline]
    pub(super) fn step<const IN: bool>(&mut self, m: i64, e: i32) {
        let magnitude = u128::from(m.unsigned_abs());
        let square = magnitude * magnitude;
        let up = (2 * e).wrapping_sub(self.base) as u32;
        if up <= 2 * REACH
            && let Some(value) = self.value.step::<IN>(square, up)
        {
            self.value = value;
            return;
        }
        self.change_slowly(square, 2 * e, !IN);
    }

    #[cold]
    fn change_slowly(&mut self, square: u128, e: i32, out: bool) {
        if square == 0 {
            return;
        }
        if self.wide.is_none()
            && let Some((value, base)) = self.narrow(square, e, out)
        {
            (self.value, self.base) = (value, base);
        } else {
            self.change_wide(square, e, out);
        }
    }

    fn narrow(&self, square: u128, e: i32, out: bool) -> Option<(Count, i32)> {
        let step = if out { Count::minus } else { Count::plus };
        let zeros = square.trailing_zeros();
        let (square, e) = (Count::new(square >> zeros), e + zeros as i32);
        // The base of the sum of the same numbers, twice, so that they need no shift to be compared.
        let down = |spare: i32| {
            let value = match self.value.is_zero() {
                true => Count::ZERO,
                false => self.value.shifted((self.base - e + spare).unsigned_abs())?,
            };
            Some((step(value, square.shifted(spare as u32)?)?, e - spare))
        };
        match e - self.base {
            up @ 0.. if !self.value.is_zero() => {
                Some((step(self.value, square.shifted(up as u32)?)?, self.base))
            }
            _ => down(2 * SPARE).or_else(|| down(0)),
        }
    }

    fn change_wide(&mut self, square: u128, e: i32, out: bool) {
        let (value, base) = (self.value, self.base);
        let (wide, age) = &mut **self
            .wide
            .get_or_insert_with(|| Box::new((Wide::of_limbs(&value.limbs(), base), 0)));
        // Two halves, for a square may fill 126 bits and the sign takes one of 128.
        let signed = |part: u128| if out { -(part as i128) } else { part as i128 };
        wide.add(signed(square & u128::from(u64::MAX)), e);
        wide.add(signed(square >> 64), e + 64);
        *age = age.wrapping_add(1);
        if ((*age).is_multiple_of(NARROW_EVERY) || wide.is_zero())
            && let Some(narrow) = SumSquares::narrowed(wide)
        {
            *self = narrow;
        } else {
            self.base = NO_BASE;
        }
    }

    fn narrowed(wide: &Wide) -> Option<SumSquares> {
        let (limbs, base) = wide.limbs3()?;
        let low = u128::from(limbs[1]) << 64 | u128::from(limbs[0]);
        let value = Count { high: u128::from(limbs[2]), low };
        Some(SumSquares { value, base, wide: None })
    }

    pub(super) fn of_wide(wide: Wide) -> SumSquares {
        SumSquares::narrowed(&wide).unwrap_or_else(|| SumSquares {
            wide: Some(Box::new((wide, 0))),
            base: NO_BASE,
            value: Count::ZERO,
        })
    }

    /// Adds all squares of another.
    pub fn merge(&mut self, other: &SumSquares) {
        if other.is_zero() {
            return;
        }
        let mut wide = self.to_wide();
        wide.plus(&other.to_wide());
        *self = SumSquares::of_wide(wide);
    }

    /// Takes out all squares of another, which were added.
    pub(super) fn unmerge(&mut self, other: &SumSquares) {
        if other.is_zero() {
            return;
        }
        let mut wide = self.to_wide();
        wide.subtract(&other.to_wide());
        *self = SumSquares::of_wide(wide);
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.wide(&self.to_wide());
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<SumSquares> {
        let wide = bytes.wide().filter(|wide| !wide.is_negative())?;
        Some(SumSquares::of_wide(wide))
    }

    pub(super) fn to_wide(&self) -> Wide {
        match &self.wide {
            Some(wide) => wide.0.clone(),
            None => Wide::of_limbs(&self.value.limbs(), self.base),
        }
    }

    /// In units of `2^base`, while 256 bits hold it.
    pub(super) fn parts(&self) -> Option<(Count, i32)> {
        self.wide.is_none().then_some((self.value, self.base))
    }

    /// So many units of `2^base`, an even number.
    pub(super) fn of_parts(value: Count, base: i32) -> SumSquares {
        SumSquares { value, base, wide: None }
    }

    /// `n * (sum of squares) - sum^2`: n^2 times the population variance, without cancellation.
    pub fn deviation(&self, n: u64, sum: &ExactSum) -> Rounded {
        if self.wide.is_none()
            && let Some((s1, base)) = sum.parts()
            && let Some(exact) = self.narrow_deviation(n, s1, 2 * base)
        {
            return exact;
        }
        let mut difference = self.to_wide().times(n);
        difference.subtract(&sum.to_wide().square());
        difference.rounded()
    }

    /// In 256 bits, or in 512, where they do.
    #[inline]
    fn narrow_deviation(&self, n: u64, s1: i128, base: i32) -> Option<Rounded> {
        let magnitude = s1.unsigned_abs();
        if self.base == base
            && let Some(exact) = self.value.deviation(n, magnitude, base)
        {
            return Some(exact);
        }
        let least = if s1 == 0 { self.base } else { base.min(self.base) };
        let mut scaled = [0u64; 5];
        multiply(&self.value.limbs(), &[n], &mut scaled);
        let halves = [magnitude as u64, (magnitude >> 64) as u64];
        let mut square = [0u64; 4];
        multiply(&halves, &halves, &mut square);
        let mut difference = shifted(&scaled, self.base - least)?;
        let square = shifted(&square, if s1 == 0 { 0 } else { base - least })?;
        let mut borrow = false;
        for (limb, sub) in difference.iter_mut().zip(square) {
            let (first, under) = limb.overflowing_sub(sub);
            let (second, again) = first.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (second, under | again);
        }
        // Never below 0 (Cauchy and Schwarz), so no borrow is left.
        Some(round(&difference, least))
    }

    /// Whether it is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.wide.is_none() && self.value.is_zero()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| size_of::<(Wide, u32)>() + wide.0.bytes())
    }
}

/// Eight limbs, `by` bits up; none if a bit would be lost.
fn shifted(limbs: &[u64], by: i32) -> Option<[u64; 8]> {
    let (up, bits) = (by as usize / 64, by as u32 % 64);
    let mut out = [0u64; 8];
    for (i, &limb) in limbs.iter().enumerate().filter(|(_, limb)| **limb != 0) {
        let (low, high) = if bits == 0 { (limb, 0) } else { (limb << bits, limb >> (64 - bits)) };
        *out.get_mut(i + up)? |= low;
        if high != 0 {
            *out.get_mut(i + up + 1)? |= high;
        }
    }
    Some(out)
}

/// Adds the product of two magnitudes to `product`, which has room for it.
fn multiply(a: &[u64], b: &[u64], product: &mut [u64]) {
    for (j, &y) in b.iter().enumerate() {
        let mut carry = 0u128;
        for (i, &x) in a.iter().enumerate() {
            let sum = u128::from(x) * u128::from(y) + u128::from(product[i + j]) + carry;
            product[i + j] = sum as u64;
            carry = sum >> 64;
        }
        product[j + a.len()] = carry as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::exact_sum::Sum;
    use super::*;

    /// The same through numbers of any width.
    fn wide_deviation(values: &[f64], sum: &ExactSum) -> f64 {
        let mut wide = Wide::default();
        for x in values {
            if let Some((m, e)) = parts_of(&Value::Float(*x)) {
                let mut one = Wide::new(i128::from(m), e);
                one = one.square();
                let mut negative = Wide::default();
                negative.subtract(&one);
                wide.subtract(&negative);
            }
        }
        let mut difference = wide.times(values.len() as u64);
        difference.subtract(&sum.to_wide().square());
        difference.rounded().to_f64()
    }

    #[test]
    fn equals_the_wide_way_bit_for_bit() {
        let mut state = 5u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 32
        };
        for round in 0..400 {
            // Cents, whole numbers, a large mean, and magnitudes that need the wide way.
            let value = |r: u64| match round % 5 {
                0 => r as f64 / 100.0,
                1 => (r as i64 - (1 << 31)) as f64,
                2 => 1e7 + r as f64 / 3.0,
                3 => f64::from_bits(r << 32 | 0x3ff0_0000_0000_0000).min(1e300),
                _ => f64::powi(2.0, (r % 400) as i32 - 200) * (r as f64),
            };
            let values: Vec<f64> = (0..=round % 50).map(|_| value(random())).collect();
            let (mut sum, mut squares) = (Sum::default(), SumSquares::default());
            let all: Vec<Value> = values.iter().map(|x| Value::Float(*x)).collect();
            // Others come and go.
            let others: Vec<Value> = (0..20).map(|_| Value::Float(value(random()))).collect();
            for v in others.iter().chain(&all) {
                sum.insert(v);
                squares.insert(v);
            }
            for v in &others {
                sum.remove(v);
                squares.remove(v);
            }
            let n = values.len() as u64;
            let got = squares.deviation(n, sum.finite()).to_f64();
            assert_eq!(
                got.to_bits(),
                wide_deviation(&values, sum.finite()).to_bits(),
                "{values:?}"
            );
            for v in &all {
                squares.remove(v);
            }
            assert!(squares.is_zero());
        }
    }
}
