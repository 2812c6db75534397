//! A scalar expression, typed and ready to be evaluated per batch.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{
    DataType as ArrowType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use datafusion_common::ScalarValue;
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use tidemill_types::{DataType, Schema, Value};

use super::plan::{Planned, plan};
use super::{ExpressionError, guarded, parse, words};

/// A scalar SQL expression over the columns of a schema.
///
/// Cost: about 1 us a batch and 10 to 30 ns a row; so evaluate batches, never single rows.
#[derive(Clone)]
pub struct Scalar {
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    columns: Vec<usize>,
    literal: Option<Value>,
    inputs: arrow::datatypes::SchemaRef,
}

impl Scalar {
    /// Compiles a text. `timezone` is that of naive times; all times here are UTC.
    ///
    /// # Errors
    /// Whatever is no expression over these columns.
    pub fn compile(
        text: &str,
        schema: &Schema,
        _timezone: &str,
    ) -> Result<Scalar, ExpressionError> {
        let (tree, _) = parse::parse(text)?;
        Scalar::of(text, plan(tree, schema)?, schema)
    }

    /// An expression whose value a column holds.
    pub(super) fn of(
        text: &str,
        planned: Planned,
        schema: &Schema,
    ) -> Result<Scalar, ExpressionError> {
        let inputs = schema.to_arrow();
        let Planned { logical, physical } = planned;
        let found = physical.data_type(&inputs).map_err(|e| {
            ExpressionError::new("the expression has no type", words(&e), "check the types")
        })?;
        let data_type = declared(&found).or_else(|| nested(&found)).ok_or_else(|| {
            ExpressionError::new(
                format!("`{text}` is no value that a column can hold"),
                format!("its type is {found}"),
                "columns are bool, int64, float64, string or timestamp, or lists of these or maps to them; of a \
                 duration take date_part('epoch', ...)",
            )
        })?;
        let names: BTreeSet<usize> =
            logical.column_refs().iter().filter_map(|c| schema.index_of(&c.name)).collect();
        let literal = match &logical {
            Expr::Literal(value, _) => Some(constant(value, data_type)),
            _ => None,
        };
        Ok(Scalar {
            text: text.to_string(),
            physical,
            data_type,
            columns: names.into_iter().collect(),
            literal,
            inputs,
        })
    }

    /// The type of the result.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Whether it is a column as it stands, so that it cannot fail.
    pub fn is_column(&self) -> bool {
        self.physical.is::<Column>()
    }

    /// Which columns it reads, in order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The value of an expression that reads no column, where it could be computed beforehand.
    pub fn literal(&self) -> Option<&Value> {
        self.literal.as_ref()
    }

    /// The result for all rows: one array of exactly [`Scalar::data_type`].
    ///
    /// # Errors
    /// What failed on some row: an overflow, a cast, a division of whole numbers by zero.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        self.evaluate_of(batch.columns(), batch.num_rows())
    }

    /// As [`Scalar::evaluate`], with NULL where a row fails, and the rows that did with the reason.
    pub fn evaluate_rows(&self, batch: &RecordBatch) -> (ArrayRef, Vec<(usize, String)>) {
        self.evaluate_columns(batch.columns(), batch.num_rows())
    }

    /// As [`Scalar::evaluate_rows`], over columns of so many rows in the order of the schema. Columns
    /// beyond those that were known at compile time are not read. An expression that is a column is
    /// that column.
    pub fn evaluate_columns(
        &self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> (ArrayRef, Vec<(usize, String)>) {
        if let Ok(array) = self.evaluate_of(columns, rows) {
            return (array, Vec::new());
        }
        let mut failed = Vec::new();
        let mut parts: Vec<ArrayRef> = Vec::with_capacity(rows);
        for row in 0..rows {
            let one: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
            parts.push(self.evaluate_of(&one, 1).unwrap_or_else(|reason| {
                failed.push((row, reason));
                new_null_array(&self.data_type.to_arrow(), 1)
            }));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let none = || new_null_array(&self.data_type.to_arrow(), rows);
        (concat(&parts).unwrap_or_else(|_| none()), failed)
    }

    fn evaluate_of(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
        let columns = &columns[..self.inputs.fields().len()];
        let wanted = self.data_type.to_arrow();
        if let Some(column) = self.physical.downcast_ref::<Column>()
            && *columns[column.index()].data_type() == wanted
        {
            return Ok(Arc::clone(&columns[column.index()]));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let inputs = Arc::clone(&self.inputs);
        let batch = RecordBatch::try_new_with_options(inputs, columns.to_vec(), &options)
            .map_err(|e| words(&e))?;
        let evaluated = guarded(|| self.physical.evaluate(&batch).and_then(|v| v.into_array(rows)));
        let array = evaluated?.map_err(|e| words(&e))?;
        if *array.data_type() == wanted {
            return Ok(array);
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        if let Some(times) = naive_times(&array) {
            return Ok(times);
        }
        cast_with_options(&array, &wanted, &strict).map_err(|e| words(&e))
    }
}

/// Times without a zone in milliseconds or microseconds as times in UTC, which they are: the general
/// cast asks a calendar about every one of them. None for anything else, and where a time is so far
/// away (beyond 200,000 years) that the general cast has to judge it.
fn naive_times(array: &ArrayRef) -> Option<ArrayRef> {
    const FAR: i64 = 200_000 * 366 * tidemill_types::time::DAY;
    let near = |values: &[i64], unit: i64| {
        values.iter().all(|value| value.unsigned_abs() < (FAR / unit).unsigned_abs())
    };
    let micros = match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Millisecond, None) => {
            let times = array.as_primitive::<TimestampMillisecondType>();
            if !near(times.values(), 1_000) {
                return None;
            }
            times.unary::<_, TimestampMicrosecondType>(|time| time * 1_000)
        }
        ArrowType::Timestamp(TimeUnit::Microsecond, None) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            if !near(times.values(), 1) {
                return None;
            }
            times.clone()
        }
        _ => return None,
    };
    Some(Arc::new(micros.with_timezone("UTC")))
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scalar({}: {})", self.text, self.data_type)
    }
}

/// The column type that holds a result; none for what no column holds.
fn declared(found: &ArrowType) -> Option<DataType> {
    use ArrowType as A;
    Some(match found {
        A::Boolean => DataType::Bool,
        A::Int8 | A::Int16 | A::Int32 | A::Int64 => DataType::Int64,
        A::UInt8 | A::UInt16 | A::UInt32 | A::UInt64 => DataType::Int64,
        A::Float16 | A::Float32 | A::Float64 | A::Null => DataType::Float64,
        A::Decimal32(..) | A::Decimal64(..) | A::Decimal128(..) | A::Decimal256(..) => {
            DataType::Float64
        }
        A::Utf8 | A::LargeUtf8 | A::Utf8View => DataType::String,
        A::Timestamp(..) | A::Date32 | A::Date64 => DataType::Timestamp,
        _ => return None,
    })
}

/// The list or the map that holds a result; none for what is neither, of what columns hold.
fn nested(found: &ArrowType) -> Option<DataType> {
    match found {
        ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
            Some(DataType::List(declared(item.data_type())?.as_item()?))
        }
        found => DataType::from_arrow(found),
    }
}

fn constant(value: &ScalarValue, data_type: DataType) -> Value {
    let Ok(array) = value.to_array() else { return Value::Null };
    let strict = CastOptions { safe: true, ..CastOptions::default() };
    match cast_with_options(&array, &data_type.to_arrow(), &strict) {
        Ok(array) => super::values(&array).into_iter().next().unwrap_or_default(),
        Err(_) => Value::Null,
    }
}
