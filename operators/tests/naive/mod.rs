//! Aggregates by definition, over a slice, sharing no code with the product: what laws compare with.
//!
//! Finite floats are multiples of 1/64 in these tests, so that sums are exact in an i128.

use tidemill_operators::aggregate::{AGGREGATES, Aggregate, Call};
use tidemill_types::{DataType, Value};

/// A call and what it was built into.
pub struct Built {
    pub name: &'static str,
    pub distinct: bool,
    pub input: Option<DataType>,
    pub constants: Vec<Value>,
    pub aggregate: Box<dyn Aggregate>,
}

impl Built {
    pub fn title(&self) -> String {
        format!(
            "{}({:?}, {:?}, distinct: {})",
            self.name, self.input, self.constants, self.distinct
        )
    }
}

/// Every aggregate of the list, on every input, with and without DISTINCT, that it can be built for.
pub fn every_call(inputs: &[Option<DataType>]) -> Vec<Built> {
    let constants: [&[Value]; 6] = [
        &[],
        &[Value::Int(0)],
        &[Value::Int(2)],
        &[Value::Float(0.9)],
        &[Value::Float(0.25)],
        &[Value::Int(1)],
    ];
    let mut built = Vec::new();
    for entry in AGGREGATES {
        let before = built.len();
        for &input in inputs {
            for distinct in [false, true] {
                for constants in constants {
                    let call = Call { name: entry.name, distinct, input, second: None, constants };
                    if let Ok(aggregate) = (entry.build)(&call) {
                        let (name, constants) = (entry.name, constants.to_vec());
                        built.push(Built { name, distinct, input, constants, aggregate });
                    }
                }
            }
        }
        assert!(built.len() > before, "{} can be built for nothing", entry.name);
    }
    built
}

/// The aggregate of `rows` (in order; NULL included) by definition.
pub fn evaluate(call: &Built, rows: &[Value]) -> Value {
    let values: Vec<&Value> = rows.iter().filter(|v| !v.is_null()).collect();
    match call.name {
        "count" if call.input.is_none() => Value::Int(rows.len() as i64),
        "count" if call.distinct => {
            let mut values = values;
            values.sort();
            values.dedup();
            Value::Int(values.len() as i64)
        }
        "count" => Value::Int(values.len() as i64),
        "first_value" => rows.first().cloned().unwrap_or_default(),
        "last_value" => rows.last().cloned().unwrap_or_default(),
        "lag" => {
            let back = call.constants.first().and_then(Value::as_i64).unwrap_or(1) as usize;
            rows.iter().rev().nth(back).cloned().unwrap_or_default()
        }
        "min" => values.into_iter().min().cloned().unwrap_or_default(),
        "max" => values.into_iter().max().cloned().unwrap_or_default(),
        "quantile" => quantile(&values, call.constants[0].as_f64().unwrap()),
        "median" => quantile(&values, 0.5),
        _ if values.is_empty() => Value::Null,
        name => match special(&values) {
            Some(x) if ["sum", "avg"].contains(&name) => Value::Float(x),
            Some(_) if values.len() == 1 && name.ends_with("_samp") => Value::Null,
            Some(_) => Value::Float(f64::NAN),
            None => moments(name, call.input == Some(DataType::Float64), &values),
        },
    }
}

/// NaN or an infinity, as IEEE addition makes it.
fn special(values: &[&Value]) -> Option<f64> {
    let sum: f64 = values.iter().filter_map(|v| v.as_f64()).filter(|x| !x.is_finite()).sum();
    (sum != 0.0).then_some(sum)
}

fn moments(name: &str, float: bool, values: &[&Value]) -> Value {
    let unit = if float { 64.0 } else { 1.0 };
    let units = values.iter().map(|v| match v {
        Value::Float(x) => (x * 64.0) as i128,
        other => i128::from(other.as_i64().unwrap()),
    });
    let units: Vec<i128> = units.collect();
    let (n, sum) = (units.len(), units.iter().sum::<i128>());
    // Over all pairs: no cancellation, hence no need for more than f64.
    let variance = |divisor: usize| {
        let pairs = units
            .iter()
            .enumerate()
            .flat_map(|(i, x)| units[..i].iter().map(move |y| (x - y).unsigned_abs()));
        let squares: f64 = pairs.map(|difference| (difference * difference) as f64).sum();
        (divisor > 0).then(|| squares / (n * divisor) as f64 / (unit * unit))
    };
    let result = match name {
        "sum" if !float => return i64::try_from(sum).map_or(Value::Null, Value::Int),
        "sum" => Some(sum as f64 / unit),
        "avg" => Some(sum as f64 / n as f64 / unit),
        "var_samp" => variance(n - 1),
        "var_pop" => variance(n),
        "stddev_samp" => variance(n - 1).map(f64::sqrt),
        "stddev_pop" => variance(n).map(f64::sqrt),
        other => panic!("no definition of {other}: add one here"),
    };
    result.map_or(Value::Null, Value::Float)
}

fn quantile(values: &[&Value], q: f64) -> Value {
    let mut sorted: Vec<&Value> = values.to_vec();
    sorted.sort();
    let Some(last) = sorted.len().checked_sub(1) else { return Value::Null };
    let rank = q * last as f64;
    let at = |i: f64| sorted[i as usize].as_f64().unwrap();
    let (low, high, share) = (at(rank.floor()), at(rank.ceil()), rank - rank.floor());
    Value::Float(match share == 0.0 || low == high {
        true => low,
        false if low.is_finite() && high.is_finite() => low + (high - low) * share,
        false => low * (1.0 - share) + high * share,
    })
}

/// Whether `got` is what `want` says by definition: exactly, but for the rounding of variances.
pub fn agrees(name: &str, got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Float(got), Value::Float(want))
            if name.starts_with("var") || name.starts_with("stddev") =>
        {
            (got - want).abs() <= 1e-12 * want || got.is_nan() && want.is_nan()
        }
        _ => same(got, want),
    }
}

/// Bit for bit, all NaNs being one; and a zero's sign too.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a == b,
    }
}
