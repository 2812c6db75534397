//! A two's-complement number of any width: where exact sums go that outgrow 128 bits.
//!
//! Limb `i` weighs `2^(64 * (low + i))`; limbs grow at both ends as terms need them, so a sum of
//! values of similar size takes a few limbs and one over the whole range of f64 takes 34 (squares:
//! 68). This is a superaccumulator in the sense of Kulisch: no term is ever rounded.

use super::exact_sum::Rounded;

/// An exact dyadic number.
#[derive(Clone, Debug)]
pub struct Wide {
    /// The weight of the first limb is `2^(64 * low)`.
    low: i32,
    /// Least first; the last is pure sign (0 or all ones), so that an addition cannot overflow.
    limbs: Vec<u64>,
}

impl Default for Wide {
    fn default() -> Wide {
        Wide { low: 0, limbs: vec![0] }
    }
}

impl Wide {
    /// `m * 2^e`
    pub fn new(m: i128, e: i32) -> Wide {
        let mut wide = Wide::default();
        wide.add(m, e);
        wide
    }

    /// A number that is not negative, from its limbs, least first, times `2^e`.
    pub fn of_limbs(limbs: &[u64], e: i32) -> Wide {
        let mut wide = Wide::default();
        for (i, &limb) in limbs.iter().enumerate() {
            wide.add(i128::from(limb), e + 64 * i as i32);
        }
        wide
    }

    /// A number from its sign, the limbs of its magnitude, least first, and a power of two.
    pub fn of_signed(negative: bool, limbs: &[u64], e: i32) -> Wide {
        let mut wide = Wide::default();
        wide.add_limbs(negative, limbs, e);
        wide
    }

    /// Adds or, if `negative`, subtracts limbs, least first, times `2^e`.
    pub fn add_limbs(&mut self, negative: bool, limbs: &[u64], e: i32) {
        for (i, &limb) in limbs.iter().enumerate() {
            let limb = i128::from(limb);
            self.add(if negative { -limb } else { limb }, e + 64 * i as i32);
        }
    }

    /// Adds `m * 2^e`. Cost: four limbs and the length of a carry.
    pub fn add(&mut self, m: i128, e: i32) {
        if m == 0 {
            return;
        }
        let (limb, shift) = (e.div_euclid(64), e.rem_euclid(64) as u32);
        let bottom = (m as u128) << shift;
        let top = if shift == 0 { m >> 127 } else { m >> (128 - shift) };
        let term = [bottom as u64, (bottom >> 64) as u64, top as u64];
        let fill = (m >> 127) as u64;
        let start = self.reserve(limb, limb + 3);
        let mut carry = false;
        for (i, limb) in self.limbs[start..].iter_mut().enumerate() {
            let add = term.get(i).copied().unwrap_or(fill);
            (*limb, carry) = limb.carrying_sum(add, carry);
            // Beyond the term, adding 0, or -1 and a carry, changes nothing further up.
            if i >= 2 && carry == (fill != 0) {
                break;
            }
        }
        self.extend_sign();
    }

    /// Subtracts another.
    pub fn subtract(&mut self, other: &Wide) {
        self.combine(other, true);
    }

    /// Adds another.
    pub fn plus(&mut self, other: &Wide) {
        self.combine(other, false);
    }

    fn combine(&mut self, other: &Wide, subtract: bool) {
        let start = self.reserve(other.low, other.low + other.limbs.len() as i32);
        let (fill, turn) = (other.sign(), if subtract { u64::MAX } else { 0 });
        let mut carry = subtract;
        for (i, limb) in self.limbs[start..].iter_mut().enumerate() {
            let term = other.limbs.get(i).copied().unwrap_or(fill);
            (*limb, carry) = limb.carrying_sum(term ^ turn, carry);
        }
        self.extend_sign();
    }

    /// The product with a count.
    pub fn times(&self, n: u64) -> Wide {
        self.signed_product(&[n], self.low, self.sign() != 0)
    }

    /// The square.
    pub fn square(&self) -> Wide {
        self.product(self)
    }

    /// The product of two.
    pub fn product(&self, other: &Wide) -> Wide {
        let negative = self.sign() != other.sign();
        self.signed_product(&other.magnitude(), self.low + other.low, negative)
    }

    fn signed_product(&self, magnitude: &[u64], low: i32, negative: bool) -> Wide {
        let product = Wide { low, limbs: multiply(&self.magnitude(), magnitude) };
        if !negative {
            return product;
        }
        let mut turned = Wide { low, limbs: vec![0] };
        turned.subtract(&product);
        turned
    }

    /// Times `2^by`.
    pub fn scaled(mut self, by: i32) -> Wide {
        if by.rem_euclid(64) == 0 {
            self.low += by / 64;
            return self;
        }
        Wide::of_signed(self.sign() != 0, &self.magnitude(), 64 * self.low + by)
    }

    /// Whether it is below 0.
    pub fn is_negative(&self) -> bool {
        self.sign() != 0
    }

    /// The one way to say it: its sign, the limbs of an odd magnitude, least first and the last not 0,
    /// and a power of two; no limbs for 0.
    pub fn canonical(&self) -> (bool, Vec<u64>, i32) {
        let Some(first) = self.first() else { return (false, Vec::new(), 0) };
        let mut limbs = self.magnitude().split_off(first);
        let zeros = limbs[0].trailing_zeros();
        if zeros > 0 {
            for i in 0..limbs.len() {
                let above = limbs.get(i + 1).map_or(0, |above| above << (64 - zeros));
                limbs[i] = limbs[i] >> zeros | above;
            }
        }
        limbs.truncate(limbs.iter().rposition(|&limb| limb != 0).map_or(0, |last| last + 1));
        (self.sign() != 0, limbs, 64 * (self.low + first as i32) + zeros as i32)
    }

    /// Whether it is exactly zero.
    pub fn is_zero(&self) -> bool {
        self.limbs.iter().all(|&limb| limb == 0)
    }

    /// The number as `m * 2^e`, if 100 bits hold it: few enough to go on in 128.
    pub fn narrow(&self) -> Option<(i128, i32)> {
        let Some(first) = self.first() else { return Some((0, 0)) };
        let last = (first..self.limbs.len()).rev().find(|&i| self.magnitude_at(first, i) != 0)?;
        let zeros = self.limbs[first].trailing_zeros();
        let bits =
            64 * (last - first + 1) as u32 - self.magnitude_at(first, last).leading_zeros() - zeros;
        if bits > 100 {
            return None;
        }
        let m = (first..=last).fold(0u128, |m, i| {
            let (limb, at) = (u128::from(self.magnitude_at(first, i)), 64 * (i - first) as u32);
            m | if at >= zeros { limb << (at - zeros) } else { limb >> (zeros - at) }
        }) as i128;
        let e = 64 * (self.low + first as i32) + zeros as i32;
        Some((if self.sign() == 0 { m } else { -m }, e))
    }

    /// A number that is not negative as three limbs times `2^e`, if they hold it.
    pub fn limbs3(&self) -> Option<([u64; 3], i32)> {
        let Some(first) = self.first() else { return Some(([0; 3], 0)) };
        let mut limbs = [0; 3];
        for (i, &limb) in self.limbs[first..].iter().enumerate().filter(|(_, limb)| **limb != 0) {
            *limbs.get_mut(i)? = limb;
        }
        (self.sign() == 0).then_some((limbs, 64 * (self.low + first as i32)))
    }

    /// The nearest number of 53 bits, ties to even.
    pub fn rounded(&self) -> Rounded {
        let Some(first) = self.first() else { return Rounded::ZERO };
        let limb = |i: usize| if i < first { 0 } else { self.magnitude_at(first, i) };
        let last = (first..self.limbs.len()).rev().find(|&i| limb(i) != 0).unwrap_or(first);
        let shift = limb(last).leading_zeros();
        let below = if last > 0 { limb(last - 1) } else { 0 };
        let pair = (u128::from(limb(last)) << 64 | u128::from(below)) << shift;
        // What lies below 64 bits can only break a tie: one sticky bit stands for all of it.
        let sticky = pair as u64 != 0 || first + 1 < last;
        let top = (pair >> 64) as u64 | u64::from(sticky);
        let mantissa = if self.sign() == 0 { top as f64 } else { -(top as f64) };
        Rounded { mantissa, exponent: 64 * (self.low + last as i32) - shift as i32 }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.limbs.capacity() * 8
    }

    fn sign(&self) -> u64 {
        self.limbs.last().map_or(0, |&top| (top as i64 >> 63) as u64)
    }

    /// The first limb that is not 0.
    fn first(&self) -> Option<usize> {
        self.limbs.iter().position(|&limb| limb != 0)
    }

    /// Limb `i` of the absolute value, where `first <= i` is the first that is not 0.
    fn magnitude_at(&self, first: usize, i: usize) -> u64 {
        match (self.sign(), i == first) {
            (0, _) => self.limbs[i],
            (_, true) => self.limbs[i].wrapping_neg(),
            (_, false) => !self.limbs[i],
        }
    }

    fn magnitude(&self) -> Vec<u64> {
        let first = self.first().unwrap_or(self.limbs.len());
        (0..self.limbs.len())
            .map(|i| if i < first { 0 } else { self.magnitude_at(first, i) })
            .collect()
    }

    /// Makes room for limbs `from..to` below the sign; returns where `from` stands.
    fn reserve(&mut self, from: i32, to: i32) -> usize {
        if self.limbs.len() == 1 && self.limbs[0] == 0 {
            self.low = from;
        }
        if from < self.low {
            let missing = (self.low - from) as usize;
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.low = from;
        }
        let needed = (to - self.low) as usize + 1;
        if self.limbs.len() < needed {
            let sign = self.sign();
            self.limbs.resize(needed, sign);
        }
        (from - self.low) as usize
    }

    fn extend_sign(&mut self) {
        let sign = self.sign();
        if self.limbs.last() != Some(&sign) {
            self.limbs.push(sign);
        }
    }
}

/// Limbs, least first, times `2^e`, rounded to 53 bits, ties to even.
pub fn round(limbs: &[u64], e: i32) -> Rounded {
    let Some(last) = limbs.iter().rposition(|&limb| limb != 0) else { return Rounded::ZERO };
    let shift = limbs[last].leading_zeros();
    let below = if last > 0 { limbs[last - 1] } else { 0 };
    let pair = (u128::from(limbs[last]) << 64 | u128::from(below)) << shift;
    let further = last > 1 && limbs[..last - 1].iter().any(|&limb| limb != 0);
    // What lies below 64 bits can only break a tie: one sticky bit stands for all of it.
    let sticky = pair as u64 != 0 || further;
    let top = (pair >> 64) as u64 | u64::from(sticky);
    Rounded { mantissa: top as f64, exponent: e + 64 * last as i32 - shift as i32 }
}

trait CarryingSum: Sized {
    fn carrying_sum(self, other: Self, carry: bool) -> (Self, bool);
}

impl CarryingSum for u64 {
    fn carrying_sum(self, other: u64, carry: bool) -> (u64, bool) {
        let (sum, first) = self.overflowing_add(other);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (sum, first | second)
    }
}

/// The product of two magnitudes, with a limb of sign on top.
fn multiply(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut product = vec![0u64; a.len() + b.len() + 1];
    for (i, &x) in a.iter().enumerate().filter(|(_, x)| **x != 0) {
        let mut carry = 0u128;
        for (j, &y) in b.iter().enumerate() {
            let sum = u128::from(x) * u128::from(y) + u128::from(product[i + j]) + carry;
            product[i + j] = sum as u64;
            carry = sum >> 64;
        }
        product[i + b.len()] = carry as u64;
    }
    product
}
