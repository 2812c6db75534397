//! Against a reference that shares no code: a fixed array of bits in units of 2^-2148, with schoolbook
//! arithmetic and rounding bit by bit.

use proptest::prelude::*;

use super::super::squares::SumSquares;
use super::*;

/// Bits, least first, of a magnitude in units of `2^-2148` (the square of the least f64).
const BITS: usize = 4400;
const UNIT: i32 = -2148;

#[derive(Clone, PartialEq, Debug)]
struct Naive {
    positive: Vec<u8>,
    negative: Vec<u8>,
}

impl Naive {
    fn sum(terms: impl Iterator<Item = (bool, u128, i32)>) -> Naive {
        let mut naive = Naive { positive: vec![0; BITS], negative: vec![0; BITS] };
        for (negative, m, e) in terms {
            let side = if negative { &mut naive.negative } else { &mut naive.positive };
            let mut carry = 0;
            for (offset, place) in side[(e - UNIT) as usize..].iter_mut().enumerate() {
                if offset >= 128 && carry == 0 {
                    break;
                }
                let bit = if offset < 128 { (m >> offset & 1) as u8 } else { 0 };
                let sum = *place + bit + carry;
                (*place, carry) = (sum & 1, sum >> 1);
            }
        }
        naive
    }

    fn difference(&self) -> (bool, Vec<u8>) {
        let less = self.positive.iter().rev().lt(self.negative.iter().rev());
        let (a, b) =
            if less { (&self.negative, &self.positive) } else { (&self.positive, &self.negative) };
        let mut borrow = 0i8;
        let bits = a
            .iter()
            .zip(b)
            .map(|(&a, &b)| {
                let bit = a as i8 - b as i8 - borrow;
                borrow = i8::from(bit < 0);
                (bit & 1) as u8
            })
            .collect();
        (less, bits)
    }

    /// The nearest f64, ties to even, assembled from its fields.
    fn to_f64(&self) -> f64 {
        let (negative, bits) = self.difference();
        let Some(top) = bits.iter().rposition(|&b| b == 1) else { return 0.0 };
        let lowest = (top as i32 - 52).max(-1074 - UNIT);
        let mut m: u64 = 0;
        for i in (lowest..=top as i32).rev() {
            m = m << 1 | u64::from(bits[i as usize]);
        }
        let half = lowest > 0 && bits[lowest as usize - 1] == 1;
        let rest = lowest > 1 && bits[..lowest as usize - 1].contains(&1);
        m += u64::from(half && (rest || m & 1 == 1));
        let exponent = lowest + UNIT;
        // m <= 2^53: both factors are exact, and so is the product unless it overflows.
        let (first, second) = (exponent / 2, exponent - exponent / 2);
        let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
        let magnitude = m as f64 * power(first) * power(second);
        if negative { -magnitude } else { magnitude }
    }
}

fn fields(x: f64) -> (bool, u128, i32) {
    let (bits, negative) = (x.to_bits(), x < 0.0);
    let (exponent, fraction) = ((bits >> 52 & 2047) as i32, u128::from(bits << 12 >> 12));
    if exponent == 0 {
        (negative, fraction, -1074)
    } else {
        (negative, fraction + (1 << 52), exponent - 1075)
    }
}

/// Everyday amounts, values of any size and sign, and near-cancelling giants.
fn any_finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-100_000i32..100_000).prop_map(|cents| f64::from(cents) / 100.0),
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        (-2i32..=2).prop_map(|i| f64::from(i) * 1e300),
        (-3i64..=3).prop_map(|i| f64::from_bits(5) * i as f64),
        (-1000.0..1000.0f64),
    ]
}

fn naive_sum(values: &[f64]) -> f64 {
    Naive::sum(values.iter().map(|&x| fields(x))).to_f64()
}

proptest! {
    #[test]
    fn floats_equal_the_reference(values in prop::collection::vec(any_finite(), 0..60)) {
        let mut sum = Sum::default();
        values.iter().for_each(|&x| sum.insert(&Value::Float(x)));
        prop_assert_eq!(sum.mean(1).to_bits(), naive_sum(&values).to_bits());
        prop_assert_eq!(sum.finite.to_wide().rounded().to_f64().to_bits(), naive_sum(&values).to_bits());
    }

    #[test]
    fn narrowing_loses_nothing(values in prop::collection::vec(any_finite(), 0..6)) {
        let mut sum = Sum::default();
        values.iter().for_each(|&x| sum.insert(&Value::Float(x)));
        let wide = sum.finite.to_wide();
        if let Some((value, base)) = wide.narrow() {
            let narrow = ExactSum { value, base, wide: None };
            prop_assert_eq!(narrow.rounded().to_f64().to_bits(), wide.rounded().to_f64().to_bits());
        }
    }

    #[test]
    fn any_order_and_retraction_give_the_same_bits(
        kept in prop::collection::vec(any_finite(), 0..30),
        gone in prop::collection::vec(any_finite(), 0..30),
        seed in any::<u64>(),
    ) {
        let mut steps: Vec<(u64, bool, f64)> = kept.iter().chain(&gone).map(|&x| (true, x))
            .chain(gone.iter().map(|&x| (false, x)))
            .enumerate()
            .map(|(i, (add, x))| ((i as u64 + 1).wrapping_mul(seed | 1), add, x))
            .collect();
        // A removal may well come before its insertion: the group has no order.
        steps.sort_by_key(|step| step.0);
        let mut sum = Sum::default();
        for (_, add, x) in steps {
            if add { sum.insert(&Value::Float(x)) } else { sum.remove(&Value::Float(x)) }
        }
        prop_assert_eq!(sum.mean(1).to_bits(), naive_sum(&kept).to_bits());
        kept.iter().for_each(|&x| sum.remove(&Value::Float(x)));
        prop_assert_eq!(sum.finite.parts().map(|p| p.0), Some(0));
        prop_assert!(sum.finite.wide.is_none(), "an empty sum is narrow again");
    }

    #[test]
    fn integers_are_exact(values in prop::collection::vec(any::<i64>(), 0..50)) {
        let mut sum = Sum::default();
        values.iter().for_each(|&i| sum.insert(&Value::Int(i)));
        prop_assert_eq!(sum.finite.to_i128(), Some(values.iter().map(|&i| i128::from(i)).sum()));
    }

    #[test]
    fn deviations_equal_the_reference(
        mut values in prop::collection::vec(any_finite(), 1..12),
        shift in prop_oneof![Just(0.0), Just(1e7), Just(1e15)],
        whole in any::<bool>(),
    ) {
        for x in &mut values {
            *x = if whole { ((*x + shift) as i64).clamp(-1 << 52, 1 << 52) as f64 } else { *x };
        }
        let (mut sum, mut squares) = (Sum::default(), SumSquares::default());
        for &x in &values {
            let value = if whole { Value::Int(x as i64) } else { Value::Float(x) };
            sum.insert(&value);
            squares.insert(&value);
        }
        // n * S2 - S1^2 is the sum over all pairs i < j of (x_i - x_j)^2, taken here term by term
        // as x_i^2 + x_j^2 - 2 x_i x_j.
        let mut terms = Vec::new();
        for (i, &x) in values.iter().enumerate() {
            for &y in &values[..i] {
                let ((x_negative, x, e), (y_negative, y, f)) = (fields(x), fields(y));
                terms.push((false, x * x, 2 * e));
                terms.push((false, y * y, 2 * f));
                terms.push((x_negative == y_negative, x * y, e + f + 1));
            }
        }
        let (negative, bits) = Naive::sum(terms.into_iter()).difference();
        prop_assert!(!negative);
        let got = squares.deviation(values.len() as u64, &sum.finite);
        match bits.iter().rposition(|&b| b == 1) {
            None => prop_assert_eq!(got.mantissa, 0.0),
            Some(top) => {
                let want = (0..64).fold(0.0, |want, i| {
                    let bit = top.checked_sub(i).map_or(0, |at| bits[at]);
                    want + f64::from(bit) * libm::ldexp(1.0, -(i as i32))
                });
                let got = libm::ldexp(got.mantissa, got.exponent - (top as i32 + UNIT));
                prop_assert!((got - want).abs() <= 1e-15, "{} {}", got, want);
            }
        }
        for &x in &values {
            squares.remove(&if whole { Value::Int(x as i64) } else { Value::Float(x) });
        }
        prop_assert!(squares.is_zero());
    }
}

#[test]
fn a_lone_giant_widens_the_sum_and_its_going_narrows_it() {
    let mut sum = Sum::default();
    sum.insert(&Value::Float(1e300));
    for i in 0..1_000 {
        sum.insert(&Value::Float(f64::from(i) / 64.0));
    }
    assert!(sum.finite.wide.is_some());
    sum.remove(&Value::Float(1e300));
    for i in 0..600 {
        sum.remove(&Value::Float(f64::from(i) / 64.0));
    }
    assert!(sum.finite.wide.is_none());
    assert_eq!(sum.mean(1), f64::from((600..1_000).sum::<i32>()) / 64.0);
}

#[test]
fn what_is_not_finite_is_counted_beside() {
    let (nan, inf) = (Value::Float(f64::NAN), Value::Float(f64::INFINITY));
    let negative = Value::Float(f64::NEG_INFINITY);
    let mut sum = Sum::default();
    sum.insert(&Value::Float(0.1));
    sum.insert(&inf);
    assert_eq!(sum.mean(1), f64::INFINITY);
    sum.insert(&negative);
    assert!(sum.mean(1).is_nan());
    sum.remove(&inf);
    assert_eq!(sum.mean(1), f64::NEG_INFINITY);
    sum.insert(&nan);
    assert!(sum.mean(1).is_nan());
    sum.remove(&nan);
    sum.remove(&negative);
    assert_eq!(sum.mean(1), 0.1);
    assert!(sum.special.is_none());
}

#[test]
fn a_mean_does_not_overflow_where_its_sum_does() {
    let mut sum = Sum::default();
    sum.insert(&Value::Float(f64::MAX));
    sum.insert(&Value::Float(f64::MAX));
    assert_eq!((sum.mean(1), sum.mean(2)), (f64::INFINITY, f64::MAX));
}
