//! A batch of features as the models read it: numbers and categories, row after row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use tidemill_operators::batches;
use tidemill_operators::dataflow::{Features, Wire};
use tidemill_types::key::category;
use tidemill_types::long::long_bytes;
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
    /// The rows as they came: several batches, one after the other, where they are long.
    pub batches: Vec<Batch>,
}

/// Some rows of a matrix.
pub struct Batch {
    /// Which of all.
    pub rows: Range<usize>,
    /// The typed columns, for sinks and training sets.
    pub columns: Arc<RecordBatch>,
    /// What the program keeps beside them for requests.
    pub kept: Option<RecordBatch>,
}

impl Matrix {
    /// No rows.
    pub fn empty() -> Matrix {
        Matrix::new(Vec::new())
    }

    /// The rows of several workers, by (event time, id).
    pub fn merged(parts: Vec<Features>, most: u64) -> Matrix {
        Matrix::new(in_order(parts, most))
    }

    /// Reads features that follow one another.
    pub fn new(parts: Vec<Features>) -> Matrix {
        let kinds: Vec<Option<DataType>> = parts.first().map_or(Vec::new(), |part| {
            let columns = part.columns.0.columns().iter();
            columns.map(|column| DataType::from_arrow(column.data_type())).collect()
        });
        let rows = parts.iter().map(|part| part.times.len()).sum::<usize>();
        let depth = kinds.iter().filter(|k| **k == Some(DataType::String)).count();
        let width = kinds.len() - depth;
        let (mut times, mut ids) = (Vec::new(), Vec::new());
        let mut numbers = vec![f64::NAN; rows * width];
        let mut categories = vec![0; rows * depth];
        let mut batches = Vec::with_capacity(parts.len());
        for part in parts {
            let Features { times: own_times, ids: own_ids, columns: Wire(columns), kept, .. } =
                part;
            let own = times.len()..times.len() + own_times.len();
            match times.is_empty() {
                true => (times, ids) = (own_times, own_ids),
                false => {
                    times.extend(own_times);
                    ids.extend(own_ids);
                }
            }
            let (mut number, mut text) = (0, 0);
            for (column, kind) in columns.columns().iter().zip(&kinds) {
                if *kind == Some(DataType::String) {
                    let column = column.as_string::<i32>();
                    for row in (0..own.len()).filter(|row| column.is_valid(*row)) {
                        categories[(own.start + row) * depth + text] = category(column.value(row));
                    }
                    text += 1;
                } else {
                    fill(column, *kind, &mut numbers[own.start * width..], number, width);
                    number += 1;
                }
            }
            let (columns, kept) = (Arc::new(columns), kept.map(|kept| kept.0));
            batches.push(Batch { rows: own, columns, kept });
        }
        Matrix { times, ids, width, numbers, depth, categories, batches }
    }

    /// The batch that a row stands in, and its place there.
    pub fn place(&self, row: usize) -> (&Batch, usize) {
        let batch = self.batches.partition_point(|batch| batch.rows.end <= row);
        let batch = &self.batches[batch];
        (batch, row - batch.rows.start)
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

/// Parts that follow one another by (event time, id): as they are, if they do already, else put in order.
pub fn consecutive(mut parts: Vec<Features>, most: u64) -> Vec<Features> {
    parts.retain(|part| !part.times.is_empty());
    if follow(&parts) { parts } else { in_order(parts, most) }
}

fn follow(parts: &[Features]) -> bool {
    let follows = |before: &Features, after: &Features| {
        (before.times.last(), before.ids.last()) <= (after.times.first(), after.ids.first())
    };
    parts.windows(2).all(|pair| follows(&pair[0], &pair[1]))
}

/// All rows by (event time, id), of parts that are in that order each: one batch, if it holds no more than `most`
/// bytes of texts, lists and maps.
fn in_order(mut parts: Vec<Features>, most: u64) -> Vec<Features> {
    if parts.len() <= 1 {
        return parts;
    }
    let long = |batch: &RecordBatch| long_bytes(batch.columns(), 0..batch.num_rows());
    let kept = |part: &Features| part.kept.as_ref().map_or(0, |kept| long(&kept.0));
    let total: u64 = parts.iter().map(|part| long(&part.columns.0) + kept(part)).sum();
    if total > most {
        parts.retain(|part| !part.times.is_empty());
        if follow(&parts) {
            return parts;
        }
    }
    let mut picks: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(p, f)| (0..f.times.len()).map(move |r| (p, r)))
        .collect();
    let key = |(p, r): &(usize, usize)| (parts[*p].times[*r], &parts[*p].ids[*r]);
    picks.sort_by(|a, b| key(a).cmp(&key(b)));
    let length = |row: usize| {
        let (p, r) = picks[row];
        let of = |batch: &RecordBatch| long_bytes(batch.columns(), r..r + 1);
        of(&parts[p].columns.0) + parts[p].kept.as_ref().map_or(0, |kept| of(&kept.0))
    };
    let columns: Vec<&RecordBatch> = parts.iter().map(|f| &f.columns.0).collect();
    let kept: Option<Vec<&RecordBatch>> =
        parts.iter().map(|f| f.kept.as_ref().map(|kept| &kept.0)).collect();
    let part = |rows: Range<usize>| {
        let picks = &picks[rows];
        let pick = |batches: &Vec<&RecordBatch>| {
            let picked = interleave_record_batch(batches, picks);
            Wire(picked.expect("features of one pipeline have one schema"))
        };
        Features {
            last: true,
            times: picks.iter().map(|(p, r)| parts[*p].times[*r]).collect(),
            ids: picks.iter().map(|(p, r)| parts[*p].ids[*r].clone()).collect(),
            columns: pick(&columns),
            kept: kept.as_ref().map(pick),
        }
    };
    batches::parts(picks.len(), total, most, length).into_iter().map(part).collect()
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    /// Rows of these times, whose number is the time and whose text is as long; texts are kept too.
    fn part(times: &[Micros]) -> Features {
        let texts = times.iter().map(|time| "x".repeat(*time as usize));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let numbers: ArrayRef = Arc::new(Int64Array::from(times.to_vec()));
        let kept = RecordBatch::try_from_iter([("0", Arc::clone(&texts))]).expect("a column");
        let columns = RecordBatch::try_from_iter([("number", numbers), ("text", texts)]);
        Features {
            last: true,
            times: times.to_vec(),
            ids: times.iter().map(|time| Id::Int(-time)).collect(),
            columns: Wire(columns.expect("columns are equally long")),
            kept: Some(Wire(kept)),
        }
    }

    fn text(batch: &RecordBatch, column: usize, row: usize) -> usize {
        batch.column(column).as_string::<i32>().value(row).len()
    }

    #[test]
    fn rows_of_several_batches_are_one_matrix() {
        let parts = || vec![part(&[1, 4, 6]), part(&[]), part(&[2, 3, 5])];
        // Twice 21 bytes.
        for (most, batches) in [(42, 1), (20, 3), (0, 6)] {
            let matrix = Matrix::merged(parts(), most);
            assert_eq!(matrix.batches.len(), batches, "of at most {most} bytes");
            assert_eq!(matrix.times, [1, 2, 3, 4, 5, 6]);
            for row in 0..6 {
                let time = matrix.times[row];
                assert_eq!(matrix.ids[row], Id::Int(-time));
                assert_eq!(matrix.numbers(row), [time as f64]);
                assert_eq!(matrix.categories(row), [category(&"x".repeat(time as usize))]);
                let (batch, place) = matrix.place(row);
                assert_eq!(text(&batch.columns, 1, place), time as usize);
                let kept = batch.kept.as_ref().expect("it was kept");
                assert_eq!(text(kept, 0, place), time as usize);
            }
        }
    }

    #[test]
    fn long_parts_that_follow_one_another_stay_as_they_are() {
        let parts = || vec![part(&[1, 2]), part(&[]), part(&[2, 7]), part(&[8])];
        assert_eq!(Matrix::merged(parts(), 100).batches.len(), 1);
        let rows: Vec<_> = Matrix::merged(parts(), 1).batches.into_iter().map(|b| b.rows).collect();
        assert_eq!(rows, [0..2, 2..4, 4..5]);
        assert_eq!(consecutive(parts(), 1).len(), 3);
        assert_eq!(consecutive(vec![part(&[1, 9]), part(&[2])], 100).len(), 1);
        assert!(consecutive(vec![part(&[])], 1).is_empty());
    }
}
