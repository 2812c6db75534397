//! `date_trunc(part, t)`: DataFusion's, which counts nanoseconds and so fails beyond the year 2262, for the times
//! before and after too. The calendar is the same every 400 years, weekdays as well, so that a far time is cut off
//! some of them nearer to 1970. In a time zone, whose rules are not the same, it ends where DataFusion's does.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::{binary, unary};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use tidemill_types::time::DAY;

/// Microseconds of 400 years.
const ERA: i64 = 146_097 * DAY;

/// The function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Truncation { below: datafusion_functions::datetime::date_trunc() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncation {
    below: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Truncation {
    fn name(&self) -> &str {
        self.below.name()
    }

    fn aliases(&self) -> &[String] {
        self.below.aliases()
    }

    fn signature(&self) -> &Signature {
        self.below.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.below.inner().return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.below.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(of) = args.args.get_mut(1) else { return self.below.invoke_with_args(args) };
        match of {
            ColumnarValue::Array(times) if is_plain(times.data_type()) => {
                let far = times.as_primitive::<TimestampMicrosecondType>();
                let eras: PrimitiveArray<TimestampMicrosecondType> = unary(far, eras);
                if eras.values().iter().all(|eras| *eras == 0) {
                    return self.below.invoke_with_args(args);
                }
                let zone = far.timezone().map(Arc::from);
                let moved = |times: &PrimitiveArray<TimestampMicrosecondType>,
                             by: fn(i64, i64) -> i64| {
                    let moved = binary::<_, _, _, TimestampMicrosecondType>(times, &eras, by)?;
                    Ok::<ArrayRef, datafusion_common::DataFusionError>(Arc::new(
                        moved.with_timezone_opt(zone.clone()),
                    ))
                };
                *times = moved(far, i64::wrapping_sub)?;
                let near = self.below.invoke_with_args(args)?.into_array(eras.len())?;
                moved(near.as_primitive(), i64::wrapping_add).map(ColumnarValue::Array)
            }
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(time), zone))
                if is_utc(zone.as_deref()) =>
            {
                let eras = eras(*time);
                *time -= eras;
                let mut cut = self.below.invoke_with_args(args)?;
                if let ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(time), _)) =
                    &mut cut
                {
                    *time += eras;
                }
                Ok(cut)
            }
            _ => self.below.invoke_with_args(args),
        }
    }
}

/// By how much a time is moved so that it is less than 200 years from 1970: whole eras, in microseconds.
fn eras(time: i64) -> i64 {
    match time.unsigned_abs() < (i64::MAX - ERA).unsigned_abs() {
        true => (time + ERA / 2).div_euclid(ERA) * ERA,
        // Hundreds of thousands of years away: an error.
        false => 0,
    }
}

/// Whether times of this type have days of 24 hours.
fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => is_utc(zone.as_deref()),
        _ => false,
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("UTC" | "+00:00"))
}
