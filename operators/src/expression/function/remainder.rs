//! `mod(x, y)`: another way to write `x % y`, with the sign of x, as in PostgreSQL.

use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{arity, is_number};

/// The function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(Remainder { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Remainder {
    signature: Signature,
}

impl ScalarUDFImpl for Remainder {
    fn name(&self) -> &'static str {
        "mod"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        arity("mod", given, 2..=2)?;
        if !given.iter().all(is_number) {
            return plan_err!("mod takes numbers");
        }
        let whole = given.iter().all(|data_type| data_type.is_integer() || data_type.is_null());
        Ok(vec![if whole { DataType::Int64 } else { DataType::Float64 }; 2])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result = rem(&arrays[0], &arrays[1])?;
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?),
            false => ColumnarValue::Array(result),
        })
    }
}
