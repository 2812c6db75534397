//! A batch of features as the models read it: numbers and categories, row after row.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Float64Type, Int64Type, Schema as ArrowSchema, TimestampMicrosecondType};
use tidemill_operators::dataflow::{Features, Wire};
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
    /// Numbers, row after row; NaN stands for NULL, and for lists and maps, which no model reads.
    pub numbers: Vec<f64>,
    /// Text features to a row.
    pub depth: usize,
    /// Hashed categories, row after row; 0 stands for NULL.
    pub categories: Vec<u64>,
    /// The typed columns, for sinks and training sets.
    pub columns: Arc<RecordBatch>,
    /// What the program keeps beside them for requests.
    pub kept: Option<RecordBatch>,
}

impl Matrix {
    /// No rows.
    pub fn empty() -> Matrix {
        let columns = Arc::new(RecordBatch::new_empty(Arc::new(ArrowSchema::empty())));
        let (times, ids, numbers, categories) = <_>::default();
        Matrix { times, ids, width: 0, numbers, depth: 0, categories, columns, kept: None }
    }

    /// The rows of several workers, by (event time, id).
    pub fn merged(parts: Vec<Features>) -> Matrix {
        Matrix::new(in_order(parts))
    }

    /// Reads features.
    pub fn new(features: Features) -> Matrix {
        let Features { times, ids, columns, kept, .. } = features;
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
                    categories[row * depth + text] = category(column.value(row));
                }
                text += 1;
            } else {
                fill(column, kind, &mut numbers, number, width);
                number += 1;
            }
        }
        let columns = Arc::new(columns);
        let kept = kept.map(|kept| kept.0);
        Matrix { times, ids, width, numbers, depth, categories, columns, kept }
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

/// Parts that follow one another by (event time, id): as they are, if they do already, else as one.
pub fn consecutive(mut parts: Vec<Features>) -> Vec<Features> {
    parts.retain(|part| !part.times.is_empty());
    let follows = |before: &Features, after: &Features| {
        (before.times.last(), before.ids.last()) <= (after.times.first(), after.ids.first())
    };
    if parts.windows(2).all(|pair| follows(&pair[0], &pair[1])) {
        return parts;
    }
    vec![in_order(parts)]
}

/// One batch of all rows by (event time, id); each part is in that order already.
fn in_order(mut parts: Vec<Features>) -> Features {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut picks: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(p, f)| (0..f.times.len()).map(move |r| (p, r)))
        .collect();
    let key = |(p, r): &(usize, usize)| (parts[*p].times[*r], &parts[*p].ids[*r]);
    picks.sort_by(|a, b| key(a).cmp(&key(b)));
    let pick = |batches: Vec<&RecordBatch>| {
        let picked = interleave_record_batch(&batches, &picks);
        Wire(picked.expect("features of one pipeline have one schema"))
    };
    let columns = pick(parts.iter().map(|f| &f.columns.0).collect());
    let kept: Option<Vec<&RecordBatch>> =
        parts.iter().map(|f| f.kept.as_ref().map(|kept| &kept.0)).collect();
    let kept = kept.map(pick);
    Features {
        last: true,
        times: picks.iter().map(|(p, r)| parts[*p].times[*r]).collect(),
        ids: picks.iter().map(|(p, r)| parts[*p].ids[*r].clone()).collect(),
        columns,
        kept,
    }
}

/// Reads a column as numbers into every `width`-th place from `at` on; NULL and text leave it as it is.
pub fn fill(
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
        Some(DataType::String | DataType::List(_) | DataType::Map(_)) | None => {}
    }
}

/// Names of the numeric and of the text features, in order.
pub fn names(schema: &Schema) -> (Vec<String>, Vec<String>) {
    let (text, number): (Vec<_>, Vec<_>) =
        schema.fields.iter().partition(|f| f.data_type == DataType::String);
    let names =
        |fields: Vec<&tidemill_types::Field>| fields.iter().map(|f| f.name.clone()).collect();
    (names(number), names(text))
}
