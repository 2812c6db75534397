//! Definitions of moments of two columns and of higher powers, and of what decays or reads times: in whole
//! numbers of any size, each quotient rounded at the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datasketches::cpc::CpcSketch;
use datasketches::hash::value::{canonical_float, raw_bytes};
use datasketches::hll::{HllSketch, HllType};
use num_bigint::{BigInt, Sign};
use tidemill_types::Value;

use super::{Built, Given};

/// Those whose result depends on the times of rows or their order.
pub const ORDERED: &[&str] = &[
    "slope_over_time",
    "decayed_sum",
    "decayed_count",
    "decayed_avg",
    "ewma",
    "time_since_last",
    "time_since_first",
    "change",
    "delta",
    "rate",
    "drawdown",
];

/// Texts that calls are tried with: half-lives.
pub const HALF_LIVES: [&str; 2] = ["7us", "1h"];

/// Those that two definitions round differently, and how far apart they may be, relatively.
pub fn distance(name: &str) -> Option<f64> {
    let near = name.starts_with("regr_")
        || ["corr", "covar_", "skew", "kurtosis", "geometric", "decayed_", "slope_"]
            .iter()
            .any(|family| name.starts_with(family));
    near.then_some(4e-15)
}

/// The result, where the call is one of these.
pub fn evaluate(call: &Built, rows: &[Given], now: i64) -> Option<Value> {
    let counts = |row: &&Given| call.input.is_none() || !row.value.is_null();
    let seen: Vec<&Given> = rows.iter().filter(counts).collect();
    let float = |x: Option<f64>| x.map_or(Value::Null, Value::Float);
    Some(match call.name {
        "skewness" | "skew_pop" => shape(call, &seen, 3),
        "kurtosis" | "kurtosis_pop" => shape(call, &seen, 4),
        "geometric_mean" => float((!seen.is_empty()).then(|| {
            let logs = seen.iter().map(|row| libm::log(number(&row.value)));
            // With what each addition rounds off carried along (Neumaier): forty plain ones would be
            // further from the truth than what is tried here.
            let (sum, rest) = logs.fold((0.0, 0.0), |(sum, rest): (f64, f64), x| {
                let next = sum + x;
                let lost = if sum.abs() >= x.abs() { sum - next + x } else { x - next + sum };
                (next, if lost.is_finite() { rest + lost } else { rest })
            });
            libm::exp((sum + rest) / seen.len() as f64)
        })),
        "slope_over_time" => {
            let at = |row: &&Given| (row.value.clone(), Value::Int(row.time));
            let slope = line("regr_slope", &seen.iter().map(at).collect::<Vec<_>>());
            float(slope.map(|slope| slope * 1e6))
        }
        name if name.starts_with("regr_") || name.starts_with("co") && call.second.is_some() => {
            let pair = |row: &&Given| (row.value.clone(), row.second.clone());
            let pairs: Vec<(Value, Value)> =
                seen.iter().filter(|row| !row.second.is_null()).map(pair).collect();
            match name {
                "regr_count" => Value::Int(pairs.len() as i64),
                name => float(line(name, &pairs)),
            }
        }
        name if name.starts_with("decayed_") => decayed(call, &seen, now),
        "ewma" => {
            let alpha = number(&call.constants[0]);
            let (mut weight, mut weights, mut sum) = (1.0, 0.0, 0.0);
            for row in seen.iter().rev() {
                // What weighs less than 2^-60 is not there.
                if weight * 1_152_921_504_606_846_976.0 >= 1.0 {
                    weights += weight;
                    sum += weight * number(&row.value);
                    weight *= 1.0 - alpha;
                }
            }
            float((!seen.is_empty()).then(|| sum / weights))
        }
        "time_since_last" => float(seen.last().map(|row| (now - row.time) as f64 / 1e6)),
        "time_since_first" => float(seen.first().map(|row| (now - row.time) as f64 / 1e6)),
        "change" => difference(seen.iter().rev().nth(1), seen.last()),
        "delta" => difference(seen.first().filter(|_| seen.len() > 1), seen.last()),
        "rate" => float(match (seen.first(), seen.last()) {
            (Some(first), Some(last)) if seen.len() > 1 && first.time < last.time => {
                let difference = match (&first.value, &last.value) {
                    (Value::Int(a), Value::Int(b)) => (i128::from(*b) - i128::from(*a)) as f64,
                    (a, b) => number(b) - number(a),
                };
                Some(difference / ((last.time - first.time) as f64 / 1e6))
            }
            _ => None,
        }),
        "drawdown" => float(drawdown(&seen)),
        "value_range" => {
            let values = || seen.iter().map(|row| &row.value);
            match (values().min(), values().max()) {
                (Some(Value::Int(a)), Some(Value::Int(b))) => {
                    Value::Float((i128::from(*b) - i128::from(*a)) as f64)
                }
                (Some(a), Some(b)) => Value::Float(number(b) - number(a)),
                _ => Value::Null,
            }
        }
        "approx_count_distinct" => {
            let different: std::collections::BTreeSet<&Value> =
                seen.iter().map(|row| &row.value).collect();
            Value::Int(different.len() as i64)
        }
        "approx_percentile" => {
            let values: Vec<&Value> = seen.iter().map(|row| &row.value).collect();
            super::quantile(&values, number(&call.constants[0]))
        }
        "hll_sketch" | "cpc_sketch" => sketch(call, &seen),
        _ => return None,
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn difference(before: Option<&&Given>, after: Option<&&Given>) -> Value {
    match (before.map(|row| &row.value), after.map(|row| &row.value)) {
        (Some(Value::Int(a)), Some(Value::Int(b))) => {
            i64::try_from(i128::from(*b) - i128::from(*a)).map_or(Value::Null, Value::Int)
        }
        (Some(a), Some(b)) => Value::Float(number(b) - number(a)),
        _ => Value::Null,
    }
}

/// For each row, from the greatest value up to there.
fn drawdown(seen: &[&Given]) -> Option<f64> {
    let values: Vec<f64> = seen.iter().map(|row| number(&row.value)).collect();
    if values.iter().any(|x| x.is_nan()) {
        return Some(f64::NAN);
    }
    let mut most: Option<f64> = None;
    for (i, &x) in values.iter().enumerate() {
        let peak = values[..=i].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let share = match (peak, x) {
            _ if peak <= 0.0 => continue,
            _ if peak == x => 0.0,
            (f64::INFINITY, f64::NEG_INFINITY) => f64::INFINITY,
            (f64::INFINITY, _) => 1.0,
            _ => (peak - x) / peak,
        };
        most = Some(most.map_or(share, |most| most.max(share)));
    }
    most
}

/// In units of 1/64.
fn units(value: &Value) -> BigInt {
    match value {
        Value::Float(x) => BigInt::from((x * 64.0) as i128),
        other => BigInt::from(other.as_i64().expect("a number")) * 64,
    }
}

/// The quotient, rounded twice at most.
fn ratio(dividend: &BigInt, divisor: &BigInt) -> f64 {
    let spare = (80 + divisor.bits() as i64 - dividend.bits() as i64).max(0);
    let quotient: BigInt = (dividend << spare) / divisor;
    libm::ldexp(quotient.to_string().parse().expect("a number"), -(spare as i32))
}

fn not_finite<'a>(values: impl Iterator<Item = &'a Value>) -> Option<f64> {
    let sum: f64 = values.map(number).filter(|x| !x.is_finite()).sum();
    (sum != 0.0).then_some(sum)
}

/// Of (y, x) pairs: from sums over pairs of pairs, so that each is one about the means.
fn line(name: &str, pairs: &[(Value, Value)]) -> Option<f64> {
    let n = pairs.len() as u64;
    let specials = [not_finite(pairs.iter().map(|p| &p.0)), not_finite(pairs.iter().map(|p| &p.1))];
    let y: Vec<BigInt> = pairs.iter().map(|(y, _)| units(y)).collect();
    let x: Vec<BigInt> = pairs.iter().map(|(_, x)| units(x)).collect();
    // n times the sum of products about the means.
    let about = |a: &[BigInt], b: &[BigInt]| {
        let mut sum = BigInt::ZERO;
        for i in 0..a.len() {
            for j in 0..i {
                sum += (&a[i] - &a[j]) * (&b[i] - &b[j]);
            }
        }
        sum
    };
    let mean = |values: &[BigInt], special: Option<f64>| {
        special.unwrap_or_else(|| ratio(&values.iter().sum(), &BigInt::from(64)) / n as f64)
    };
    let square = BigInt::from(64 * 64);
    match name {
        _ if n == 0 => None,
        "regr_avgy" => Some(mean(&y, specials[0])),
        "regr_avgx" => Some(mean(&x, specials[1])),
        "covar_samp" if n == 1 => None,
        _ if specials.iter().any(Option::is_some) => Some(f64::NAN),
        "covar_pop" => Some(ratio(&about(&y, &x), &(square * n * n))),
        "covar_samp" => Some(ratio(&about(&y, &x), &(square * n * (n - 1)))),
        "regr_sxx" => Some(ratio(&about(&x, &x), &(square * n))),
        "regr_syy" => Some(ratio(&about(&y, &y), &(square * n))),
        "regr_sxy" => Some(ratio(&about(&y, &x), &(square * n))),
        _ => {
            let (yy, xx, yx) = (about(&y, &y), about(&x, &x), about(&y, &x));
            match name {
                _ if xx == BigInt::ZERO => None,
                "regr_slope" => Some(ratio(&yx, &xx)),
                "regr_intercept" => {
                    let (sy, sx): (BigInt, BigInt) = (y.iter().sum(), x.iter().sum());
                    Some(ratio(&(sy * &xx - sx * &yx), &(xx * n * 64)))
                }
                "regr_r2" if yy == BigInt::ZERO => Some(1.0),
                "corr" if yy == BigInt::ZERO => None,
                "regr_r2" => Some(ratio(&(&yx * &yx), &(yy * xx))),
                "corr" => {
                    let root = ratio(&(&yx * &yx), &(yy * xx)).sqrt();
                    Some(if yx.sign() == Sign::Minus { -root } else { root })
                }
                other => panic!("no definition of {other}"),
            }
        }
    }
}

/// From values in the order of [`Value`], each once; the hashes are those of the library.
fn sketch(call: &Built, seen: &[&Given]) -> Value {
    let different: std::collections::BTreeSet<&Value> = seen.iter().map(|row| &row.value).collect();
    let lg_k = call.constants.first().and_then(Value::as_i64);
    let mut hll = HllSketch::new(lg_k.unwrap_or(12) as u8, HllType::Hll4).expect("an lg_k");
    let mut cpc = CpcSketch::new(lg_k.unwrap_or(11) as u8).expect("an lg_k");
    for value in &different {
        match value {
            Value::Float(x) => {
                hll.update(canonical_float::from_f64(*x));
                cpc.update(canonical_float::from_f64(*x));
            }
            Value::Text(text) if !text.is_empty() => {
                hll.update(raw_bytes::from_str(text));
                cpc.update(raw_bytes::from_str(text));
            }
            Value::Text(_) => {}
            other => {
                hll.update(other.as_i64().expect("a whole number"));
                cpc.update(other.as_i64().expect("a whole number"));
            }
        }
    }
    let bytes = if call.name == "hll_sketch" { hll.serialize() } else { cpc.serialize() };
    match different.is_empty() {
        true => Value::Null,
        false => Value::Text(STANDARD.encode(bytes).into()),
    }
}

/// From sums of powers of `n x - sum`, which is n times the distance from the mean.
fn shape(call: &Built, seen: &[&Given], power: u32) -> Value {
    let n = seen.len();
    if n < power as usize {
        return Value::Null;
    }
    if not_finite(seen.iter().map(|row| &row.value)).is_some() {
        return Value::Float(f64::NAN);
    }
    let values: Vec<BigInt> = seen.iter().map(|row| units(&row.value)).collect();
    let sum: BigInt = values.iter().sum();
    let moment = |power: u32| values.iter().map(|x| (x * n - &sum).pow(power)).sum::<BigInt>();
    let second = moment(2);
    if second == BigInt::ZERO {
        return Value::Null;
    }
    let sample = ["skewness", "kurtosis"].contains(&call.name);
    let size = n as f64;
    Value::Float(if power == 3 {
        // m3 / m2^1.5 = sqrt(n M3^2 / M2^3) with the sign of M3.
        let third = moment(3);
        let root = ratio(&(&third * &third * n), &second.pow(3)).sqrt();
        let skew = if third.sign() == Sign::Minus { -root } else { root };
        if sample { skew * (size * (size - 1.0)).sqrt() / (size - 2.0) } else { skew }
    } else {
        // m4 / m2^2 = n M4 / M2^2
        let (fourth, square) = (moment(4) * n, &second * &second);
        if sample {
            let excess = fourth * (n + 1) - &square * (3 * (n - 1));
            ratio(&excess, &square) * (size - 1.0) / ((size - 2.0) * (size - 3.0))
        } else {
            ratio(&(fourth - &square * 3), &square)
        }
    })
}

/// Each weight as it is defined: rounded within its half-life, doubled exactly from one to the next.
fn decayed(call: &Built, seen: &[&Given], now: i64) -> Value {
    let Value::Text(text) = &call.constants[0] else { panic!("a half-life") };
    let half_life = tidemill_config::units::duration(text).expect("a half-life");
    let split = |time: i64| {
        let within = time.rem_euclid(half_life) as f64 / half_life as f64;
        (time.div_euclid(half_life), libm::exp2(within))
    };
    let (last, factor) = split(now);
    // In units of 2^-52 at 200 half-lives before the moment.
    let weight = |row: &Given| {
        let (half_life, factor) = split(row.time);
        BigInt::from((factor * libm::ldexp(1.0, 52)) as u64) << (half_life - last + 200)
    };
    let scale = BigInt::from(1u8) << 252;
    let weights: BigInt = seen.iter().map(|row| weight(row)).sum();
    let counted = |total: &BigInt| ratio(total, &scale) / factor;
    if call.name == "decayed_count" {
        return Value::Float(counted(&weights));
    }
    if seen.is_empty() {
        return Value::Null;
    }
    if let Some(special) = not_finite(seen.iter().map(|row| &row.value)) {
        return Value::Float(special);
    }
    let values: BigInt = seen.iter().map(|row| weight(row) * units(&row.value)).sum();
    Value::Float(match call.name {
        "decayed_sum" => counted(&values) / 64.0,
        "decayed_avg" => ratio(&values, &(weights * 64)),
        other => panic!("no definition of {other}"),
    })
}
