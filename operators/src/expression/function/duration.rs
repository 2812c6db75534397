//! Lengths of time: `minutes(x)` from a number, `minutes_between(a, b)` and `epoch(x)` back to one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DurationMicrosecondArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tidemill_types::time::{DAY, HOUR, MINUTE, Micros, SECOND};

use super::{arity, is_number};

const DURATION: DataType = DataType::Duration(TimeUnit::Microsecond);

/// `seconds`, `minutes`, `hours`, `days`; each with `_between`; `epoch`.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [
        ("seconds", Kind::Length(SECOND)),
        ("minutes", Kind::Length(MINUTE)),
        ("hours", Kind::Length(HOUR)),
        ("days", Kind::Length(DAY)),
        ("seconds_between", Kind::Between(SECOND)),
        ("minutes_between", Kind::Between(MINUTE)),
        ("hours_between", Kind::Between(HOUR)),
        ("days_between", Kind::Between(DAY)),
        ("epoch", Kind::Epoch),
    ]
    .map(|(name, kind)| Timing {
        name,
        kind,
        signature: Signature::user_defined(Volatility::Immutable),
    })
    .map(ScalarUDF::from)
    .into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// A number of units becomes a duration, rounded to the microsecond.
    Length(Micros),
    /// From the first time to the second, in units; negative where the second is earlier.
    Between(Micros),
    /// A time since 1970, or a duration, in seconds.
    Epoch,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Timing {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for Timing {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let expected = if matches!(self.kind, Kind::Between(_)) { 2 } else { 1 };
        arity(self.name, given, expected..=expected)?;
        given.iter().map(|data_type| self.accept(data_type)).collect()
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(if matches!(self.kind, Kind::Length(_)) { DURATION } else { DataType::Float64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        debug_assert!(arrays.iter().all(|array| array.len() == rows));
        let result: ArrayRef = match self.kind {
            Kind::Length(unit) => Arc::new(micros_of(&arrays[0], unit, "the duration")?),
            Kind::Between(unit) => Arc::new(between(&arrays[0], &arrays[1], unit)?),
            Kind::Epoch => {
                let seconds: Float64Array = micros(&arrays[0])?.unary(|x| x as f64 / SECOND as f64);
                Arc::new(seconds)
            }
        };
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

impl Timing {
    fn accept(&self, given: &DataType) -> Result<DataType> {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Ok(match (self.kind, given) {
            (Kind::Length(_), t) if t.is_integer() => DataType::Int64,
            (Kind::Length(_), t) if is_number(t) => DataType::Float64,
            (Kind::Length(_), _) => return plan_err!("{} takes a number", self.name),
            (Kind::Epoch, DataType::Duration(_)) => DURATION,
            (_, DataType::Timestamp(..) | DataType::Date32 | DataType::Null) => instant,
            (Kind::Epoch, _) => return plan_err!("epoch takes a timestamp or a duration"),
            (Kind::Between(_), _) => return plan_err!("{} takes timestamps", self.name),
        })
    }
}

fn micros(array: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Whole numbers or floats of a unit in microseconds, to the nearest one; `what` they are stands in the error.
pub(super) fn micros_of(
    array: &ArrayRef,
    unit: Micros,
    what: &str,
) -> Result<DurationMicrosecondArray> {
    let too_long = || exec_datafusion_err!("{what} is out of range");
    Ok(match array.data_type() {
        DataType::Int64 => array
            .as_primitive::<Int64Type>()
            .try_unary(|x| x.checked_mul(unit).ok_or_else(too_long))?,
        _ => array.as_primitive::<Float64Type>().try_unary(|x| {
            let length = libm::rint(x * unit as f64);
            // 2^63 is the first number that an i64 cannot hold.
            let fits =
                (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&length);
            if fits { Ok(length as Micros) } else { Err(too_long()) }
        })?,
    })
}

fn between(from: &ArrayRef, to: &ArrayRef, unit: Micros) -> Result<Float64Array> {
    let (from, to) = (micros(from)?, micros(to)?);
    Ok(arrow::compute::binary(&from, &to, |from, to| {
        (i128::from(to) - i128::from(from)) as f64 / unit as f64
    })?)
}
