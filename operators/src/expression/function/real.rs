//! Real functions over the crate `libm`, so that a result has the same bits on every platform: the
//! standard library asks the platform's own.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{arity, is_number};

type One = fn(f64) -> f64;
type Two = fn(f64, f64) -> f64;

const ONE: &[(&str, One)] = &[
    ("acos", libm::acos),
    ("acosh", libm::acosh),
    ("asin", libm::asin),
    ("asinh", libm::asinh),
    ("atan", libm::atan),
    ("atanh", libm::atanh),
    ("cbrt", libm::cbrt),
    ("cos", libm::cos),
    ("cosh", libm::cosh),
    ("cot", |x| 1.0 / libm::tan(x)),
    ("exp", libm::exp),
    ("ln", libm::log),
    ("log10", libm::log10),
    ("log2", libm::log2),
    ("sin", libm::sin),
    ("sinh", libm::sinh),
    ("tan", libm::tan),
    ("tanh", libm::tanh),
];

const TWO: &[(&str, &[&str], Two)] = &[("atan2", &[], libm::atan2), ("power", &["pow"], libm::pow)];

/// All of them. `log(x)` is to base 10 and `log(base, x)` to any, as in PostgreSQL.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let one = ONE.iter().map(|(name, f)| Real::new(name, &[], Some(*f), None));
    let two = TWO.iter().map(|(name, aliases, f)| Real::new(name, aliases, None, Some(*f)));
    one.chain(two)
        .chain([Real::new("log", &[], Some(libm::log10), Some(logarithm))])
        .map(ScalarUDF::from)
        .collect()
}

/// Bases 2 and 10 are exact where the result is whole.
fn logarithm(base: f64, x: f64) -> f64 {
    if base == 2.0 {
        libm::log2(x)
    } else if base == 10.0 {
        libm::log10(x)
    } else {
        libm::log(x) / libm::log(base)
    }
}

#[derive(Debug)]
struct Real {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    one: Option<One>,
    two: Option<Two>,
}

impl Real {
    fn new(name: &'static str, aliases: &[&str], one: Option<One>, two: Option<Two>) -> Real {
        Real {
            name,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
            one,
            two,
        }
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Real {}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Real {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let low = if self.one.is_some() { 1 } else { 2 };
        let high = if self.two.is_some() { 2 } else { 1 };
        arity(self.name, given, low..=high)?;
        if !given.iter().all(is_number) {
            return plan_err!("{} takes numbers", self.name);
        }
        Ok(vec![DataType::Float64; given.len()])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (args.args.as_slice(), self.one, self.two) {
            ([x], Some(f), _) => apply_one(x, f),
            ([x, y], _, Some(f)) => apply_two(x, y, f, args.number_rows),
            _ => internal_err!("{} with {} arguments", self.name, args.args.len()),
        }
    }
}

fn apply_one(x: &ColumnarValue, f: One) -> Result<ColumnarValue> {
    Ok(match x {
        ColumnarValue::Array(x) => {
            let result: Float64Array = x.as_primitive::<Float64Type>().unary(f);
            ColumnarValue::Array(Arc::new(result))
        }
        ColumnarValue::Scalar(ScalarValue::Float64(x)) => {
            ColumnarValue::Scalar(ScalarValue::Float64(x.map(f)))
        }
        ColumnarValue::Scalar(other) => return internal_err!("a number was not cast: {other}"),
    })
}

fn apply_two(x: &ColumnarValue, y: &ColumnarValue, f: Two, rows: usize) -> Result<ColumnarValue> {
    if let (
        ColumnarValue::Scalar(ScalarValue::Float64(x)),
        ColumnarValue::Scalar(ScalarValue::Float64(y)),
    ) = (x, y)
    {
        let result = x.zip(*y).map(|(x, y)| f(x, y));
        return Ok(ColumnarValue::Scalar(ScalarValue::Float64(result)));
    }
    let (x, y): (ArrayRef, ArrayRef) = (x.to_array(rows)?, y.to_array(rows)?);
    let result: Float64Array = arrow::compute::binary(
        x.as_primitive::<Float64Type>(),
        y.as_primitive::<Float64Type>(),
        f,
    )?;
    Ok(ColumnarValue::Array(Arc::new(result)))
}
