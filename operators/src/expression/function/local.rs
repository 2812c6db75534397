//! `local(ts, zone)`: the same instant, seen by calendar functions in a time zone.
//!
//! `local(ts)` takes the zone of the pipeline; `ts at time zone 'Europe/Berlin'` is another way to
//! write it. As a result it is the instant again: nothing shifts.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::arity;

/// The function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Local { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Local {
    signature: Signature,
}

impl ScalarUDFImpl for Local {
    fn name(&self) -> &str {
        "local"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        arity("local", given, 2..=2)?;
        match &given[0] {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Null => {}
            _ => return plan_err!("local takes a timestamp"),
        }
        Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), DataType::Utf8])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the zone")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let zone = match args.scalar_arguments {
            [_, Some(zone)] => zone.try_as_str().flatten(),
            _ => None,
        };
        let Some(zone) = zone else {
            return plan_err!("the time zone must be a constant text");
        };
        if zone.parse::<Tz>().is_err() {
            return plan_err!("unknown time zone '{zone}'");
        }
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Timestamp(_, zone) = args.return_field.data_type() else {
            return internal_err!("local gives timestamps");
        };
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => {
                let times = array.as_primitive::<TimestampMicrosecondType>().clone();
                let times: ArrayRef = Arc::new(times.with_timezone_opt(zone.clone()));
                ColumnarValue::Array(times)
            }
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(time, _)) => {
                ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(*time, zone.clone()))
            }
            ColumnarValue::Scalar(other) => return internal_err!("a time was not cast: {other}"),
        })
    }
}
