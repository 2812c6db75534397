//! Sums that do not drift: after ten million inserts and evictions, of values from 1e-300 to 1e300, a running
//! value is that of a fresh computation, bit for bit.
//!
//! A billion of them, for sum and variance, take about 75 seconds of one core:
//! `TIDEMILL_SLIDE=1000000000 cargo test --release --workspace --test slide`.

use std::collections::VecDeque;

use tidemill_operators::aggregate::numbers::Numbers;
use tidemill_operators::aggregate::state::State;
use tidemill_operators::aggregate::{self, Call, Primitive, Row, Unnest};
use tidemill_types::{DataType, Value};

/// Rows in the window.
const WINDOW: usize = 1_000;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Amounts with cents; now and then for a while any magnitude, a giant and its opposite, or what is no
    /// number.
    fn value(&mut self, step: u64) -> f64 {
        let bits = self.bits();
        let cents = (bits % 2_000_000) as f64 / 100.0 - 5_000.0;
        match step / 5_000 % 8 {
            3 => {
                let exponent = (bits >> 13 & 0x7ff).clamp(27, 2_019);
                f64::from_bits(bits & 0x800f_ffff_ffff_ffff | exponent << 52)
            }
            5 if step.is_multiple_of(100) => [1e300, -1e300, 1e-300, 3e15][bits as usize % 4],
            6 if step.is_multiple_of(1_000) => {
                [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][bits as usize % 3]
            }
            _ => cents,
        }
    }
}

/// Slides `states` over so many rows; compares with fresh ones ten times on the way.
fn slide(fresh: impl Fn() -> Vec<State>, steps: u64) {
    let mut chance = Chance(42);
    let mut states = fresh();
    let mut window: VecDeque<(i64, Value, Value)> = VecDeque::new();
    let mut compared = 0;
    for step in 0..steps {
        let next =
            (step as i64, Value::Float(chance.value(step)), Value::Float(chance.value(step + 2)));
        let row = Row { time: next.0, value: &next.1, second: &next.2 };
        states.iter_mut().for_each(|state| state.insert(&row));
        window.push_back(next);
        if window.len() > WINDOW
            && let Some((time, value, second)) = window.pop_front()
        {
            let row = Row { time, value: &value, second: &second };
            states.iter_mut().for_each(|state| state.remove(&row));
        }
        // In each of the phases, and at the end.
        if (step + 1) % (steps / 10) == 0 {
            let mut anew = fresh();
            for (time, value, second) in &window {
                let row = Row { time: *time, value, second };
                anew.iter_mut().for_each(|state| state.insert(&row));
            }
            for (state, anew) in states.iter().zip(&anew) {
                assert_eq!(state.save(), anew.save(), "after {step} steps");
            }
            if let ([State::Numbers(sum), ..], [State::Numbers(anew), ..]) =
                (&states[..], &anew[..])
            {
                let bits = |numbers: &Numbers| {
                    let sum = numbers.non_finite().unwrap_or_else(|| numbers.sum().to_f64());
                    if sum.is_nan() { 0 } else { sum.to_bits() }
                };
                assert_eq!(bits(sum), bits(anew), "after {step} steps");
            }
            compared += 1;
        }
    }
    assert!(compared >= 10);
}

#[test]
fn sums_and_squares_do_not_drift() {
    let steps = match std::env::var("TIDEMILL_SLIDE") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("TIDEMILL_SLIDE is no number: {text}")),
        Err(_) => 10_000_000,
    };
    let primitives = [Primitive::Sum, Primitive::SumSquares, Primitive::Count];
    slide(|| primitives.iter().filter_map(|p| State::new(*p)).collect(), steps);
}

#[test]
fn what_aggregates_keep_themselves_does_not_drift() {
    let half_life = [Value::Text("64us".into())];
    let float = Some(DataType::Float64);
    let running = |name: &str, second: Option<DataType>, constants: &[Value]| {
        let call =
            Call { name, distinct: false, input: float, second, constants, unnest: Unnest::No };
        let aggregate = aggregate::build(&call).expect("an aggregate");
        State::Own(aggregate.running().expect("a value of its own"))
    };
    let fresh = || {
        vec![
            running("corr", float, &[]),
            running("slope_over_time", None, &[]),
            running("kurtosis", None, &[]),
            running("geometric_mean", None, &[]),
            running("decayed_sum", None, &half_life),
        ]
    };
    slide(fresh, 1_000_000);
}
