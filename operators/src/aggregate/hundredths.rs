//! Exact sums of numbers of up to two decimals, in whole numbers that need no common base.
//!
//! 13.95 is no multiple of 0.01 once it is an f64, but the nearest f64 to one: `100 x = k + d / 2^57`,
//! exactly, k being whole and d what rounding x to 53 bits has left over. Every f64 from 0.0078 on is a multiple of `2^-59`,
//! so d is whole, and it is small: below 2^24 for amounts up to 10,000. What k and d, their squares and products add up to
//! tells the sum and the sum of squares of x to the last bit, by additions that neither shift nor overflow.
//! Nothing is assumed: a number of which k or d is not small enough is not taken (that is what `Units` of `numbers.rs` is for).
//! Whole numbers are taken too, with d = 0.

use super::exact_sum::{ExactSum, Rounded};
use super::squares::{Count, SumSquares};
use super::units::Units;
use super::wide::Wide;

/// The power of two that `d` counts in.
const FINE: u32 = 57;

/// Sums are told in units of `2^BASE`, squares in units of its square.
pub(super) const BASE: i32 = -59;

/// `2^BASE`
const UNIT: f64 = power(BASE);

/// k and d have fewer bits than this, and so many bits may a count of them have: all sums then fit.
const BITS: u32 = 36;
const MOST_BITS: u32 = 25;

/// Added to a float below 2^51, it leaves the nearest whole number in the low bits.
const TO_WHOLE: f64 = 6_755_399_441_055_744.0;

/// Modulo a power of two odd numbers have an inverse, so that what is known to be a multiple of one is
/// divided by multiplying: 25 and 625 modulo 2^128.
const OVER_25: u128 = inverse(25);
const OVER_625: u128 = inverse(625);

/// By Newton's rule: each step doubles the bits that are right, three at first.
const fn inverse(odd: u128) -> u128 {
    let (mut inverse, mut bits) = (odd, 3);
    while bits < 128 {
        inverse = inverse.wrapping_mul(2u128.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// A number taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    k: i64,
    d: i64,
    /// Whether both are small enough; otherwise they mean nothing.
    pub(super) is_near: bool,
}

impl Part {
    /// Of a finite float.
    #[inline(always)]
    pub(super) fn of_float(x: f64) -> Part {
        let bits = x.to_bits();
        let up = (bits >> 52 & 0x7ff) as u32;
        let up = up.wrapping_sub((1075 + BASE) as u32);
        // Of 100 |x| in units of 2^-57 the low bits alone are looked at; the difference has no others where k is
        // within its bits, for it is then the nearest whole number.
        let m = (bits & ((1 << 52) - 1) | 1 << 52) as i64;
        let whole = x.abs() * 100.0 + TO_WHOLE;
        let k = whole.to_bits().wrapping_sub(TO_WHOLE.to_bits()) as i64;
        let d = (m * 25).wrapping_shl(up).wrapping_sub(k.wrapping_shl(FINE));
        if up >= 64 {
            return Part { k: 0, d: 0, is_near: x == 0.0 };
        }
        let sign = bits as i64 >> 63;
        let (k, d) = ((k ^ sign).wrapping_sub(sign), (d ^ sign).wrapping_sub(sign));
        Part { k, d, is_near: is_small(k) & is_small(d) }
    }

    /// Of a whole number.
    #[inline]
    pub(super) fn of_int(i: i64) -> Part {
        let is_near = i.wrapping_add(1 << 28) as u64 >> 29 == 0;
        Part { k: i.wrapping_mul(100), d: 0, is_near }
    }
}

#[inline]
fn is_small(i: i64) -> bool {
    i.wrapping_add(1 << BITS) as u64 >> (BITS + 1) == 0
}

/// What the parts of some numbers add up to. It is packed, as a window's numbers are kept many times.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(8))]
pub(super) struct Hundredths {
    kk: i128,
    kd: i128,
    dd: i128,
    k: i64,
    d: i64,
}

impl Hundredths {
    /// Whether so many numbers can be held.
    #[inline]
    pub(super) fn holds(count: u64) -> bool {
        count >> MOST_BITS == 0
    }

    /// Takes a number in or out.
    #[inline]
    pub(super) fn step<const IN: bool>(&mut self, part: Part, squares: bool) {
        let Part { k, d, .. } = part;
        let add = |sum: i64, x: i64| sum.wrapping_add(if IN { x } else { -x });
        (self.k, self.d) = (add(self.k, k), add(self.d, d));
        if squares {
            let add = |sum: i128, a: i64, b: i64| {
                let product = i128::from(a) * i128::from(b);
                if IN { sum + product } else { sum - product }
            };
            self.kk = add(self.kk, k, k);
            self.kd = add(self.kd, k, d);
            self.dd = add(self.dd, d, d);
        }
    }

    /// The sum in units of `2^BASE`.
    #[inline]
    fn whole_units(&self) -> i128 {
        let hundredfold = (i128::from(self.k) << FINE) + i128::from(self.d);
        hundredfold.wrapping_mul(OVER_25 as i128)
    }

    /// The sum, rounded once.
    #[inline]
    pub(super) fn sum(&self) -> Rounded {
        match self.near_sum() {
            Some(mantissa) => Rounded { mantissa, exponent: 0 },
            None => Rounded::of(self.whole_units(), BASE),
        }
    }

    /// The same, unless it is very large.
    #[inline(always)]
    pub(super) fn near_sum(&self) -> Option<f64> {
        let units = self.whole_units();
        // Two floats that are exact, then one rounding.
        let (high, low) = ((units >> 52) as i64, units as i64 & ((1 << 52) - 1));
        if (units >> 105) as i64 != (units >> 127) as i64 {
            return None;
        }
        Some((high as f64 * (1u64 << 52) as f64 + low as f64) * UNIT)
    }

    /// The sum, where only whole numbers were put in and are left.
    #[inline]
    pub(super) fn whole(&self) -> Option<i64> {
        (self.d == 0 && self.k % 100 == 0).then_some(self.k / 100)
    }

    /// The same in units of a power of two; none where the squares are below 0, more being taken out than was
    /// put in.
    pub(super) fn units(&self) -> Option<Units> {
        let squares = over_625(self.kk, self.kd, self.dd)?;
        Some(Units { sum: self.whole_units(), squares, base: BASE })
    }

    /// Sum and sum of squares on their own.
    pub(super) fn exact(&self) -> (ExactSum, SumSquares) {
        let sum = ExactSum::of_parts(self.whole_units(), BASE);
        let squares = match over_625(self.kk, self.kd, self.dd) {
            Some(squares) => SumSquares::of_parts(squares, 2 * BASE),
            None => {
                let below = over_625(-self.kk, -self.kd, -self.dd).unwrap_or_default();
                SumSquares::of_wide(Wide::of_signed(true, &below.limbs(), 2 * BASE))
            }
        };
        (sum, squares)
    }

    /// `n * (sum of squares) - sum^2`, rounded once; none below 0.
    #[inline]
    pub(super) fn deviation(&self, n: u64) -> Option<Rounded> {
        match self.near_deviation(n) {
            Some(mantissa) => Some(Rounded { mantissa, exponent: 0 }),
            None => self.far_deviation(n),
        }
    }

    #[inline(never)]
    fn far_deviation(&self, n: u64) -> Option<Rounded> {
        let (n, k, d) = (i128::from(n), i128::from(self.k), i128::from(self.d));
        let (coarse, middle) = (n * self.kk - k * k, n * self.kd - k * d);
        let fine = n * self.dd - d * d;
        if coarse | middle | fine == 0 {
            return Some(Rounded::ZERO);
        }
        Some(over_625(coarse, middle, fine)?.rounded(2 * BASE).plain())
    }

    /// [`Hundredths::deviation`], where floats tell what that is. It is `(coarse + middle / 2^56 + fine / 2^114) / 10000`: the
    /// quotient is known to some hundred bits, and all that lies within its error rounds to the same (Ziv, "Fast evaluation of
    /// elementary mathematical functions with correctly rounded last bit", 1991).
    #[inline(always)]
    pub(super) fn near_deviation(&self, n: u64) -> Option<f64> {
        if n == 1 {
            return Some(0.0);
        }
        let coarse = i128::from(n) * self.kk - i128::from(self.k) * i128::from(self.k);
        if (coarse >> 62) as i64 != 0 || coarse as i64 == 0 {
            return None;
        }
        // In two floats, of which the first is the nearest one.
        let coarse = coarse as i64;
        let high = coarse as f64;
        let low = (coarse - high as i64) as f64;
        // Of both products of either difference some ulps are lost, and these are within the error.
        let (n, k, d) = (n as i64 as f64, self.k as f64, self.d as f64);
        let middle = [n * float(self.kd), k * d];
        let fine = [n * float(self.dd), d * d];
        let lost = low.abs()
            + (middle[0].abs() + middle[1].abs()) * power(-56)
            + (fine[0] + fine[1]) * power(-114);
        let middle = (middle[0] - middle[1]) * power(-56);
        let fine = (fine[0] - fine[1]) * power(-114);
        let quotient = high / 1e4;
        // What is left of the first, exactly, the quotient being cut in halves of 26 bits (Dekker).
        let cut = quotient * 134_217_729.0;
        let upper = cut - (cut - quotient);
        let rest = (high - upper * 1e4) - (quotient - upper) * 1e4;
        let more = (rest + low + middle + fine) * 1e-4;
        let error = (lost * 1e-4 + more.abs()) * (8.0 * f64::EPSILON);
        let (least, most) = (quotient + (more - error), quotient + (more + error));
        (least == most).then_some(least)
    }
}

/// A whole number of up to 97 bits as a float, two ulps off at most. Most fit a word.
#[inline(always)]
fn float(x: i128) -> f64 {
    let word = x as i64;
    if i128::from(word) == x { word as f64 } else { far_float(x) }
}

#[cold]
fn far_float(x: i128) -> f64 {
    let (high, low) = ((x >> 34) as i64, x as i64 & ((1 << 34) - 1));
    high as f64 * (1u64 << 34) as f64 + low as f64
}

/// A power of two.
const fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `(coarse * 2^114 + middle * 2^58 + fine) / 625`, of which it is known that it is whole: ten thousand times a
/// square in units of `2^-114`, as units of `2^(2 BASE)`.
#[inline]
fn over_625(coarse: i128, middle: i128, fine: i128) -> Option<Count> {
    let add = |(high, low): (i128, u128), (more, x): (i128, u128)| {
        let (low, carry) = low.overflowing_add(x);
        (high + more + i128::from(carry), low)
    };
    let coarse = (coarse >> (128 - 2 * FINE), (coarse << (2 * FINE)) as u128);
    let middle = (middle >> (127 - FINE), (middle << (FINE + 1)) as u128);
    let (high, low) = add(add(coarse, middle), (fine >> 127, fine as u128));
    // The lower half of a product with the inverse is that of the quotient; what it gives back is no longer to be
    // divided.
    let quotient = low.wrapping_mul(OVER_625);
    let bottom = (quotient & u128::from(u64::MAX)) * 625;
    let back = ((quotient >> 64) * 625 + (bottom >> 64)) >> 64;
    let top = (high as u128).wrapping_sub(back).wrapping_mul(OVER_625);
    (high >= 0).then_some(Count::of_halves(top, quotient))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_types::Value;

    use super::super::exact_sum::Sum;
    use super::super::numbers::{Asks, Numbers};
    use super::*;

    fn part(x: f64) -> Part {
        Part::of_float(x)
    }

    #[test]
    fn an_inverse_gives_one() {
        assert_eq!((OVER_25.wrapping_mul(25), OVER_625.wrapping_mul(625)), (1, 1));
    }

    /// Which numbers are taken, and that a part is the number.
    #[test]
    fn numbers_of_two_decimals_are_taken_as_they_are() {
        for cents in (-2_000_000..2_000_000i64).step_by(37).chain([0, 1, -1, 99, 100_000_000]) {
            let x = cents as f64 / 100.0;
            let Part { k, d, is_near } = part(x);
            assert!(is_near && k == cents, "{x}");
            let mut sum = Hundredths::default();
            sum.step::<true>(part(x), true);
            assert_eq!(sum.sum().to_f64().to_bits(), (x + 0.0).to_bits(), "{x} {d}");
        }
        for x in [1.0 / 3.0, 0.001, 1e-300, f64::MIN_POSITIVE / 4.0, 1e18, -1e300, f64::MAX, 0.0078]
        {
            assert!(!part(x).is_near, "{x}");
        }
    }

    /// A number of hundredths, one near them, or any.
    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            60 => (-3_000_000..3_000_000i64).prop_map(|cents| Value::Float(cents as f64 / 100.0)),
            20 => (0..50i64).prop_map(|cents| Value::Float(1e6 + cents as f64 / 100.0)),
            4 => any::<i64>().prop_map(|i| Value::Int(i >> 20)),
            1 => (0..1000i64).prop_map(|i| Value::Float(i as f64 / 1000.0)),
            1 => any::<f64>().prop_map(Value::Float),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Numbers of every kind come and go: what they come to has the bits of sums that know no hundredths.
        #[test]
        fn come_to_what_other_sums_come_to(
            all in prop::collection::vec((number(), any::<bool>()), 1..80)
        ) {
            let asks = Asks { sum: true, squares: true, ..Asks::default() };
            let mut numbers = Numbers::new(asks);
            let (mut sum, mut squares) = (Sum::default(), SumSquares::default());
            let mut n = 0;
            let check = |numbers: &Numbers, sum: &Sum, squares: &SumSquares, n: u64| {
                if sum.non_finite().is_none() {
                    let want = sum.finite().rounded().to_f64();
                    prop_assert_eq!(numbers.sum().to_f64().to_bits(), want.to_bits());
                    let want = sum.finite().to_i128().and_then(|sum| i64::try_from(sum).ok());
                    prop_assert_eq!(numbers.whole(), want);
                }
                let want = squares.deviation(n, sum.finite()).to_f64();
                let count = numbers.count();
                prop_assert_eq!(count, n);
                prop_assert_eq!(numbers.deviation().to_f64().to_bits(), want.to_bits());
                Ok(())
            };
            for (value, _) in &all {
                numbers.step_value::<true>(value);
                sum.insert(value);
                squares.insert(value);
                n += 1;
                check(&numbers, &sum, &squares, n)?;
            }
            for (value, _) in all.iter().filter(|(_, goes)| *goes) {
                numbers.step_value::<false>(value);
                sum.remove(value);
                squares.remove(value);
                n -= 1;
                check(&numbers, &sum, &squares, n)?;
            }
        }

        /// The quotient by floats, where they tell, is the one by whole numbers; they tell it wherever the
        /// square fits into 62 bits.
        #[test]
        fn floats_tell_the_nearest_quotient(
            cents in prop::collection::vec(-3_000_000..3_000_000i64, 2..200), more in 0..3i64
        ) {
            let mut sums = Hundredths::default();
            for x in &cents {
                let x = (x + more * 10_000_000) as f64 / 100.0;
                sums.step::<true>(part(x), true);
            }
            let n = cents.len() as u64;
            let (wide, k, d) = (i128::from(n), i128::from(sums.k), i128::from(sums.d));
            let parts =
                (wide * sums.kk - k * k, wide * sums.kd - k * d, wide * sums.dd - d * d);
            let want = over_625(parts.0, parts.1, parts.2).map(|units| units.rounded(2 * BASE).to_f64());
            let near = sums.near_deviation(n);
            let in_reach = parts.0 > 0 && parts.0 >> 62 == 0;
            prop_assert_eq!(near.is_some(), in_reach, "floats tell it for {:?}", parts);
            if let Some(near) = near {
                prop_assert_eq!(Some(near.to_bits()), want.map(f64::to_bits));
            }
            let (sum, squares) = sums.exact();
            prop_assert_eq!(want, Some(squares.deviation(n, &sum).to_f64()));
        }
    }
}
