//! `to_timestamp(x)`: a time from seconds since 1970, or from a text. DataFusion's counts nanoseconds, so that
//! it ends in the year 2262, with an error or with another time than the one that was asked for.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMicrosecondType};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tidemill_types::time::SECOND;

use super::duration::micros_of;
use super::is_number;

/// The function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Instant { signature: Signature::user_defined(Volatility::Immutable) })
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Instant {
    signature: Signature,
}

impl ScalarUDFImpl for Instant {
    fn name(&self) -> &'static str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Some((first, formats)) = given.split_first() else {
            return plan_err!("to_timestamp takes seconds since 1970, or a text");
        };
        let texts = given.iter().all(is_text);
        if !formats.is_empty() && !texts {
            return plan_err!("to_timestamp takes formats, which are texts, for a text only");
        }
        let first = match first {
            DataType::Null | DataType::Timestamp(..) | DataType::Date32 => instant(),
            whole if whole.is_integer() => DataType::Int64,
            number if is_number(number) => DataType::Float64,
            text if is_text(text) => DataType::Utf8,
            _ => return plan_err!("to_timestamp takes seconds since 1970, or a text"),
        };
        Ok(std::iter::once(first).chain(formats.iter().map(|_| DataType::Utf8)).collect())
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(instant())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args[0].data_type() {
            DataType::Int64 | DataType::Float64 => {
                let array = args.args[0].to_array(1)?;
                let times = micros_of(&array, SECOND, "the time")?;
                let times = times.reinterpret_cast::<TimestampMicrosecondType>();
                let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
                Ok(match &args.args[0] {
                    ColumnarValue::Scalar(_) => {
                        ColumnarValue::Scalar(ScalarValue::try_from_array(&times, 0)?)
                    }
                    ColumnarValue::Array(_) => ColumnarValue::Array(times),
                })
            }
            DataType::Utf8 if args.args.len() > 1 => {
                let naive = DataType::Timestamp(TimeUnit::Microsecond, None);
                let return_field = Arc::new(Field::new(self.name(), naive, true));
                let parse =
                    datafusion_functions::datetime::to_timestamp_micros(&ConfigOptions::default());
                parse
                    .invoke_with_args(ScalarFunctionArgs { return_field, ..args })?
                    .cast_to(&instant(), None)
            }
            _ => args.args[0].cast_to(&instant(), None),
        }
    }
}
