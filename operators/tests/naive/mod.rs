//! Aggregates by definition, over a slice, sharing no code with the product: what laws compare with.
//!
//! Finite floats are multiples of 1/64 in these tests, so that sums are exact in an i128.
#![allow(dead_code)] // Not every test asks for all of it.

mod lists;
mod nested;
mod numeric;

use tidemill_operators::aggregate::{self, AGGREGATES, Aggregate, Call, Unnest};
use tidemill_types::{DataType, Value};

/// Names of those whose result depends on the times of rows or their order; no others do.
pub const ORDERED: &[&[&str]] = &[lists::ORDERED, numeric::ORDERED];

/// Definitions that fill files of their own; each knows its aggregates and no others.
const FAMILIES: &[Family] = &[nested::evaluate, lists::evaluate, numeric::evaluate];

/// What some rows give, read at a time, if the call is one of its own.
type Family = fn(&Built, &[Given], i64) -> Option<Value>;

/// A row as a definition sees it.
#[derive(Clone, Debug)]
pub struct Given {
    pub time: i64,
    pub value: Value,
    pub second: Value,
}

/// A call and what it was built into.
pub struct Built {
    pub name: &'static str,
    pub distinct: bool,
    pub input: Option<DataType>,
    pub second: Option<DataType>,
    pub constants: Vec<Value>,
    pub unnest: Unnest,
    pub aggregate: Box<dyn Aggregate>,
}

impl Built {
    pub fn title(&self) -> String {
        format!(
            "{}({:?}, {:?}, {:?}, distinct: {}, unnest: {:?})",
            self.name, self.input, self.second, self.constants, self.distinct, self.unnest
        )
    }
}

/// Every aggregate of the list, on every input and second column, with and without DISTINCT, that it can
/// be built for; of inputs that are lists over their items too.
pub fn every_call(inputs: &[Option<DataType>]) -> Vec<Built> {
    let [short, long] = numeric::HALF_LIVES.map(|text| Value::Text(text.into()));
    let (comma, two) = (Value::Text(", ".into()), Value::Int(2));
    let joined = [comma, two];
    let constants: [&[Value]; 9] = [
        &joined,
        std::slice::from_ref(&short),
        std::slice::from_ref(&long),
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
        let seconds = || std::iter::once(None).chain(DataType::ALL.map(Some));
        let of = |list: bool| {
            let is = move |input: &DataType| {
                input.is_nested() && matches!(input, DataType::List(_)) == list
            };
            inputs.iter().flatten().copied().filter(is)
        };
        let lists = || of(true);
        let alone = inputs.iter().flat_map(|i| seconds().map(move |s| (*i, s, Unnest::No)));
        let few = || [None, Some(DataType::String)].into_iter();
        let items = lists().flat_map(|i| few().map(move |s| (Some(i), s, Unnest::First)));
        let by_item = lists().map(|i| (Some(DataType::Int64), Some(i), Unnest::Second));
        for (input, second, unnest) in alone.chain(items).chain(by_item) {
            for (distinct, constants) in constants.iter().flat_map(|c| [(false, *c), (true, *c)]) {
                let name = entry.name;
                let call = Call { name, distinct, input, second, constants, unnest };
                if let Ok(aggregate) = aggregate::build(&call) {
                    let constants = constants.to_vec();
                    let call =
                        Built { name, distinct, input, second, constants, unnest, aggregate };
                    built.push(call);
                }
            }
        }
        let of_lists = entry.name.starts_with("vector_") && of(true).next().is_none();
        let of_maps = entry.name.starts_with("map_") && of(false).next().is_none();
        let some = built.len() > before || inputs.len() == 1 || of_lists || of_maps;
        assert!(some, "{} can be built for nothing", entry.name);
    }
    built
}

/// The aggregate of `rows` (in order; NULL included) by definition, read at `now`.
pub fn evaluate(call: &Built, rows: &[Given], now: i64) -> Value {
    if let Some(value) = FAMILIES.iter().find_map(|family| family(call, rows, now)) {
        return value;
    }
    let values = rows.iter().map(|row| &row.value).filter(|value| !value.is_null());
    let values: Vec<&Value> = values.collect();
    match call.name {
        "count" if call.input.is_none() => Value::Int(rows.len() as i64),
        "count" if call.distinct => {
            let mut values = values;
            values.sort();
            values.dedup();
            Value::Int(values.len() as i64)
        }
        "count" => Value::Int(values.len() as i64),
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
        (Value::Float(got), Value::Float(want)) if name == "entropy" => (got - want).abs() <= 1e-12,
        (Value::Float(got), Value::Float(want)) if numeric::distance(name).is_some() => {
            let near = numeric::distance(name).unwrap_or(0.0) * want.abs();
            (got - want).abs() <= near || same(&Value::Float(*got), &Value::Float(*want))
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
