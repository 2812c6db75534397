//! Exact sums of products: of x*y, x^3, x^4.
//!
//! A product of floats has many bits (two factors 106, four 212), so its sums outgrow the 128 bits of an
//! [`ExactSum`](super::exact_sum::ExactSum) at once. Here units of `2^base` are counted in `N` limbs of
//! 64 bits; what they do not hold goes on in a [`Wide`], and comes back when it can. Nothing is rounded,
//! so the sum is a function of the multiset of its terms.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::exact_sum::parts_of;
use super::wide::Wide;

/// How many terms a wide sum takes between two looks whether `N` limbs would do again.
const NARROW_EVERY: u32 = 256;

/// A product of up to four numbers, exactly: `magnitude * 2^exponent`, or that below 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    magnitude: [u64; 4],
    exponent: i32,
    negative: bool,
}

impl Term {
    /// A number; none of what is no finite number.
    #[inline]
    pub(super) fn of(value: &Value) -> Option<Term> {
        let (m, exponent) = parts_of(value)?;
        // In the fewest bits, so that a product of four numbers fits, and of small ones more.
        let zeros = if m == 0 { 0 } else { m.trailing_zeros() };
        let magnitude = [m.unsigned_abs() >> zeros, 0, 0, 0];
        Some(Term { magnitude, exponent: exponent + zeros as i32, negative: m < 0 })
    }

    /// A finite float.
    #[inline]
    pub(super) fn of_float(x: f64) -> Option<Term> {
        Term::of(&Value::Float(x))
    }

    /// The product with one that is a single number. Of more than four numbers, none.
    #[inline]
    pub(super) fn times(&self, number: &Term) -> Option<Term> {
        let factor = number.magnitude[0];
        let (mut magnitude, mut carry) = ([0; 4], 0u128);
        for (out, &limb) in magnitude.iter_mut().zip(&self.magnitude) {
            carry += u128::from(limb) * u128::from(factor);
            (*out, carry) = (carry as u64, carry >> 64);
        }
        let exponent = self.exponent + number.exponent;
        let negative = self.negative != number.negative;
        (carry == 0).then_some(Term { magnitude, exponent, negative })
    }

    /// Times `2^by`.
    #[inline]
    pub(super) fn scaled(self, by: i32) -> Term {
        Term { exponent: self.exponent + by, ..self }
    }

    /// What takes it out again.
    #[inline]
    pub(super) fn negated(self) -> Term {
        Term { negative: !self.negative, ..self }
    }
}

/// An exact sum of [`Term`]s in `N` limbs while they do. Ten to thirty nanoseconds a term, a few times
/// that while wide.
#[derive(Clone, Debug)]
pub(super) struct Dyadic<const N: usize> {
    /// Two's complement, least limb first.
    value: [u64; N],
    base: i32,
    wide: Option<Box<(Wide, u32)>>,
}

impl<const N: usize> Default for Dyadic<N> {
    fn default() -> Dyadic<N> {
        Dyadic { value: [0; N], base: 0, wide: None }
    }
}

impl<const N: usize> Dyadic<N> {
    /// Adds a term.
    #[inline]
    pub(super) fn add(&mut self, term: &Term) {
        if term.magnitude == [0; 4] {
            return;
        }
        if self.wide.is_none()
            && let Some((value, base)) = self.narrow_sum(term)
        {
            (self.value, self.base) = (value, base);
        } else {
            self.add_wide(|wide| wide.add_limbs(term.negative, &term.magnitude, term.exponent));
        }
    }

    /// Adds all terms of another.
    pub(super) fn merge(&mut self, other: &Dyadic<N>) {
        self.add_wide(|wide| wide.plus(&other.to_wide()));
        self.settle();
    }

    #[inline]
    fn narrow_sum(&self, term: &Term) -> Option<([u64; N], i32)> {
        if self.value == [0; N] {
            let value = shifted::<N>(&term.magnitude, 0, 0)?;
            return Some((if term.negative { negated(value) } else { value }, term.exponent));
        }
        let distance = term.exponent - self.base;
        let up = distance.max(0).unsigned_abs();
        let mut magnitude = shifted::<N>(&term.magnitude, up, 0)?;
        let (mut value, mut base) = (self.value, self.base);
        if distance < 0 {
            value = shifted(&value, distance.unsigned_abs(), sign(&value))?;
            base = term.exponent;
        }
        if term.negative {
            magnitude = negated(magnitude);
        }
        let (before, added) = (sign(&value), sign(&magnitude));
        let mut carry = false;
        for (limb, add) in value.iter_mut().zip(magnitude) {
            let (sum, first) = limb.overflowing_add(add);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first | second);
        }
        (before != added || sign(&value) == before).then_some((value, base))
    }

    #[cold]
    fn add_wide(&mut self, add: impl FnOnce(&mut Wide)) {
        let narrow = (self.value, self.base);
        let (wide, age) =
            &mut **self.wide.get_or_insert_with(|| Box::new((wide_of(&narrow.0, narrow.1), 0)));
        add(wide);
        *age = age.wrapping_add(1);
        if (*age).is_multiple_of(NARROW_EVERY) || wide.is_zero() {
            self.settle();
        }
    }

    /// Back into `N` limbs, if one of them would be to spare.
    fn settle(&mut self) {
        let Some(wide) = &self.wide else { return };
        let (negative, limbs, base) = wide.0.canonical();
        if limbs.len() < N
            && let Some(value) = shifted::<N>(&limbs, 0, 0)
        {
            let value = if negative { negated(value) } else { value };
            *self = Dyadic { value, base, wide: None };
        }
    }

    /// The sum at any width.
    pub(super) fn to_wide(&self) -> Wide {
        match &self.wide {
            Some(wide) => wide.0.clone(),
            None => wide_of(&self.value, self.base),
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| size_of::<(Wide, u32)>() + wide.0.bytes())
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.wide(&self.to_wide());
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<Dyadic<N>> {
        let mut sum = Dyadic { wide: Some(Box::new((bytes.wide()?, 0))), ..Dyadic::default() };
        sum.settle();
        Some(sum)
    }
}

/// All ones below 0, else 0.
#[inline]
fn sign(limbs: &[u64]) -> u64 {
    limbs.last().map_or(0, |&top| (top as i64 >> 63) as u64)
}

#[inline]
fn negated<const N: usize>(mut value: [u64; N]) -> [u64; N] {
    let mut carry = true;
    for limb in &mut value {
        (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
    }
    value
}

fn wide_of<const N: usize>(value: &[u64; N], base: i32) -> Wide {
    let negative = sign(value) != 0;
    Wide::of_signed(negative, &if negative { negated(*value) } else { *value }, base)
}

/// Limbs with `fill` above them, `by` bits up; none if a bit or the sign would be lost.
#[inline]
fn shifted<const N: usize>(limbs: &[u64], by: u32, fill: u64) -> Option<[u64; N]> {
    let (up, bits) = (by as usize / 64, by % 64);
    let mut out = [fill; N];
    let mut below = 0;
    for (i, limb) in limbs.iter().copied().chain([fill]).enumerate() {
        let moved = if bits == 0 { limb } else { limb << bits | below >> (64 - bits) };
        match out.get_mut(i + up) {
            Some(place) => *place = moved,
            None if moved == fill => {}
            None => return None,
        }
        below = limb;
    }
    out[..up.min(N)].fill(0);
    (sign(&out) == fill).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 11
    }

    /// Cents, whole numbers, a large mean, any size and the ends of the range.
    fn number(round: u64, state: &mut u64) -> f64 {
        let r = random(state);
        match round % 5 {
            0 => (r % 100_000) as f64 / 100.0 - 300.0,
            1 => (r % 2_000) as f64 - 1_000.0,
            2 => 1e9 + (r % 1_000) as f64 / 3.0,
            3 => {
                libm::ldexp(r as f64, (r % 1_900) as i32 - 1_000)
                    * if r & 1 == 0 { 1.0 } else { -1.0 }
            }
            _ => [f64::MAX, -f64::MAX, 5e-324, -5e-324, 1.0, 0.0][(r % 6) as usize],
        }
    }

    fn term(factors: &[f64]) -> Term {
        let mut product = Term::of_float(1.0).unwrap();
        for factor in factors {
            product = product.times(&Term::of_float(*factor).unwrap()).unwrap();
        }
        product
    }

    /// Products through [`Wide`] alone.
    fn wide(factors: &[f64]) -> Wide {
        let number = |x: f64| {
            let (m, e) = parts_of(&Value::Float(x)).unwrap();
            Wide::new(i128::from(m), e)
        };
        factors.iter().fold(Wide::new(1, 0), |product, x| product.product(&number(*x)))
    }

    #[test]
    fn equals_the_wide_way_and_forgets_without_a_trace() {
        let mut state = 11;
        for round in 0..500 {
            let mut sum = Dyadic::<4>::default();
            let mut other = Dyadic::<4>::default();
            let mut want = Wide::default();
            let mut terms = Vec::new();
            for i in 0..round % 60 {
                let kind = if random(&mut state).is_multiple_of(20) { 3 } else { round };
                let factors: Vec<f64> =
                    (0..1 + random(&mut state) % 4).map(|_| number(kind, &mut state)).collect();
                want.plus(&wide(&factors));
                let term = term(&factors);
                if i % 3 == 0 {
                    other.add(&term)
                } else {
                    sum.add(&term)
                }
                terms.push(term);
                let gone = Term::of_float(number(kind, &mut state)).unwrap();
                sum.add(&gone);
                sum.add(&gone.negated());
            }
            sum.merge(&other);
            assert_eq!(sum.to_wide().canonical(), want.canonical(), "round {round}");
            let mut out = Writer::default();
            sum.save(&mut out);
            let bytes = out.finish();
            let mut reader = Reader::new(&bytes);
            let again = reader.wide().and_then(|wide| reader.end(wide)).unwrap();
            assert_eq!(again.canonical(), want.canonical());
            terms.iter().for_each(|term| sum.add(&term.negated()));
            assert!(sum.to_wide().is_zero() && sum.wide.is_none(), "round {round}");
        }
    }

    #[test]
    fn a_giant_that_goes_leaves_the_sum_narrow() {
        let mut sum = Dyadic::<4>::default();
        sum.add(&term(&[1e300, 1e300]));
        for i in 0..1_000 {
            sum.add(&term(&[f64::from(i) / 64.0, 0.1]));
        }
        assert!(sum.wide.is_some());
        sum.add(&term(&[1e300, 1e300]).negated());
        (0..600).for_each(|i| sum.add(&term(&[f64::from(i) / 64.0, 0.1]).negated()));
        assert!(sum.wide.is_none());
    }

    #[test]
    fn shifts_lose_nothing() {
        assert_eq!(shifted::<2>(&[u64::MAX, 0], 63, 0), Some([1 << 63, u64::MAX >> 1]));
        assert_eq!(shifted::<2>(&[u64::MAX, 0], 64, 0), None);
        assert_eq!(shifted::<2>(&[3, 0], 125, 0), Some([0, 3 << 61]));
        assert_eq!(shifted::<2>(&[3, 0], 126, 0), None);
        assert_eq!(shifted::<2>(&[1, 0], 700, 0), None);
        assert_eq!(shifted::<2>(&[u64::MAX, u64::MAX], 127, u64::MAX), Some([0, 1 << 63]));
        assert_eq!(shifted::<2>(&[u64::MAX - 1, u64::MAX], 127, u64::MAX), None);
    }
}
