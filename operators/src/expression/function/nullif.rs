//! `nullif(x, y)` as `x = y` has it: DataFusion's tells -0.0 from 0, so that a division by
//! `nullif(round(x), 0)` was one by zero.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(NullIf { signature: Signature::comparable(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NullIf {
    signature: Signature,
}

impl ScalarUDFImpl for NullIf {
    fn name(&self) -> &'static str {
        "nullif"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let equal = match args.arg_fields[0].data_type() {
            DataType::Float64 => equal::<Float64Type>,
            DataType::Float32 => equal::<Float32Type>,
            _ => return datafusion_functions::core::nullif().invoke_with_args(args),
        };
        let left = match &args.args[0] {
            ColumnarValue::Array(array) => Arc::clone(array),
            // One row is enough where both are constants.
            ColumnarValue::Scalar(value) => value.to_array_of_size(match &args.args[1] {
                ColumnarValue::Array(_) => args.number_rows,
                ColumnarValue::Scalar(_) => 1,
            })?,
        };
        let result = nullif(&left, &equal(&left, &args.args[1])?)?;
        Ok(match args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}

/// Where both are equal, -0.0 and 0 too.
fn equal<T: ArrowPrimitiveType>(left: &ArrayRef, right: &ColumnarValue) -> Result<BooleanArray> {
    let unsigned = |x: T::Native| x.add_wrapping(T::Native::ZERO);
    let left = left.as_primitive::<T>();
    let right = match right {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    let right = right.as_primitive::<T>();
    if right.len() == left.len() {
        return Ok(BooleanArray::from_binary(left, right, |l, r| unsigned(l).is_eq(unsigned(r))));
    }
    if right.is_null(0) {
        return Ok(BooleanArray::from(vec![false; left.len()]));
    }
    let right = unsigned(right.value(0));
    Ok(BooleanArray::from_unary(left, |l| unsigned(l).is_eq(right)))
}
