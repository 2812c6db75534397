//! A batch of features as the models read it: numbers and categories, row after row.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use tidemill_operators::dataflow::Features;
use tidemill_types::key::category;
use tidemill_types::{DataType, Id, Micros, Schema};

/// Rows in (event time, id) order.
pub struct Matrix {
    /// Event time of each row.
    pub times: Vec<Micros>,
    /// Id of each row.
    pub ids: Vec<Id>,
    /// Numeric features to a row.
    pub width: usize,
    /// Numbers, row after row; NaN stands for NULL.
    pub numbers: Vec<f64>,
    /// Text features to a row.
    pub depth: usize,
    /// Hashed categories, row after row; 0 stands for NULL.
    pub categories: Vec<u64>,
    /// The typed columns, for the sink of features.
    pub columns: RecordBatch,
}

impl Matrix {
    /// Reads features; texts not seen before are remembered in `names`.
    pub fn new(features: Features, names: &mut HashMap<u64, String>) -> Matrix {
        let Features { times, ids, columns, .. } = features;
        let columns = columns.0;
        let rows = times.len();
        let kinds: Vec<Option<DataType>> =
            columns.columns().iter().map(|c| DataType::from_arrow(c.data_type())).collect();
        let depth = kinds.iter().filter(|k| **k == Some(DataType::String)).count();
        let width = kinds.len() - depth;
        let mut numbers = vec![f64::NAN; rows * width];
        let mut categories = vec![0; rows * depth];
        let (mut number, mut text) = (0, 0);
        for (column, kind) in columns.columns().iter().zip(kinds) {
            if kind == Some(DataType::String) {
                let column = column.as_string::<i32>();
                for row in (0..rows).filter(|row| column.is_valid(*row)) {
                    let value = column.value(row);
                    let hash = category(value);
                    categories[row * depth + text] = hash;
                    names.entry(hash).or_insert_with(|| value.to_string());
                }
                text += 1;
            } else {
                fill(column, kind, &mut numbers, number, width);
                number += 1;
            }
        }
        Matrix { times, ids, width, numbers, depth, categories, columns }
    }

    /// The numbers of a row.
    pub fn numbers(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.width..(row + 1) * self.width]
    }

    /// The categories of a row.
    pub fn categories(&self, row: usize) -> &[u64] {
        &self.categories[row * self.depth..(row + 1) * self.depth]
    }
}

fn fill(
    column: &arrow::array::ArrayRef,
    kind: Option<DataType>,
    numbers: &mut [f64],
    at: usize,
    width: usize,
) {
    let mut set = |row: usize, value: f64| numbers[row * width + at] = value;
    let rows = (0..column.len()).filter(|row| column.is_valid(*row));
    match kind {
        Some(DataType::Bool) => {
            let column = column.as_boolean();
            rows.for_each(|row| set(row, f64::from(u8::from(column.value(row)))));
        }
        Some(DataType::Int64) => {
            let column = column.as_primitive::<Int64Type>();
            rows.for_each(|row| set(row, column.value(row) as f64));
        }
        Some(DataType::Timestamp) => {
            let column = column.as_primitive::<TimestampMicrosecondType>();
            rows.for_each(|row| set(row, column.value(row) as f64));
        }
        Some(DataType::Float64) => {
            let column = column.as_primitive::<Float64Type>();
            rows.for_each(|row| set(row, column.value(row)));
        }
        Some(DataType::String) | None => {}
    }
}

/// Names of the numeric and of the text features, in order.
pub fn names(schema: &Schema) -> (Vec<String>, Vec<String>) {
    let (text, number): (Vec<_>, Vec<_>) =
        schema.fields.iter().partition(|f| f.data_type == DataType::String);
    let names = |fields: Vec<&tidemill_types::Field>| fields.iter().map(|f| f.name.clone()).collect();
    (names(number), names(text))
}
