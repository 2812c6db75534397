//! Rows that are put together anew go on in several batches where their texts, lists and maps are long.
//!
//! A round, a tick or what waits for labels may hold more of them than one column can
//! ([`MOST_BYTES`](tidemill_types::long::MOST_BYTES)).

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use tidemill_types::long::long_bytes;

/// Parts of so many rows, one after the other: no more than `most` bytes each, or one row. `total` is no less than all
/// rows have, so that nothing is asked of single rows where all of them fit.
pub fn parts(
    rows: usize,
    total: u64,
    most: u64,
    length: impl Fn(usize) -> u64,
) -> Vec<Range<usize>> {
    if total <= most || rows <= 1 {
        return std::iter::once(0..rows).collect();
    }
    let mut parts = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for row in 0..rows {
        let own = length(row);
        if row > first && bytes + own > most {
            parts.push(first..row);
            (first, bytes) = (row, 0);
        }
        bytes += own;
    }
    parts.push(first..rows);
    parts
}

/// The rows picked, `(batch, row)`, in their order, in batches of at most `most` bytes of long values.
///
/// # Errors
/// Batches of different schemas.
pub fn interleaved(
    batches: &[&RecordBatch],
    picks: &[(usize, usize)],
    most: u64,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let total = batches.iter().map(|batch| long_bytes(batch.columns(), 0..batch.num_rows())).sum();
    let length = |i: usize| {
        let (batch, row) = picks[i];
        long_bytes(batches[batch].columns(), row..row + 1)
    };
    let parts = parts(picks.len(), total, most, length).into_iter();
    parts.map(|part| interleave_record_batch(batches, &picks[part])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(texts: &[&str]) -> RecordBatch {
        let items = texts.iter().map(|text| Some(text.bytes().map(|b| Some(i64::from(b)))));
        let columns: [(&str, ArrayRef); 3] = [
            ("text", Arc::new(StringArray::from(texts.to_vec()))),
            ("number", Arc::new(Int64Array::from_iter_values(0..texts.len() as i64))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(items))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns are equally long")
    }

    fn texts(batches: &[RecordBatch]) -> Vec<Vec<String>> {
        let of = |batch: &RecordBatch| {
            batch.column(0).as_string::<i32>().iter().flatten().map(str::to_string).collect()
        };
        batches.iter().map(of).collect()
    }

    #[test]
    fn a_part_holds_no_more_than_it_may_or_one_row() {
        let lengths = [3, 3, 9, 0, 0, 4, 1, 5, 6];
        let of = |most| parts(lengths.len(), lengths.iter().sum(), most, |row| lengths[row]);
        assert_eq!(of(31), std::slice::from_ref(&(0..9)));
        assert_eq!(of(6), [0..2, 2..3, 3..7, 7..8, 8..9]);
        assert_eq!(of(0), [0..1, 1..2, 2..3, 3..5, 5..6, 6..7, 7..8, 8..9]);
        assert_eq!(parts(0, 9, 0, |_| 9), std::slice::from_ref(&(0..0)));
    }

    #[test]
    fn picks_keep_their_order_in_batches_of_any_size() {
        let (a, b) = (batch(&["a", "bbbb", ""]), batch(&["cc", "d"]));
        let whole = b.slice(0, 2);
        let picks = [(1, 1), (0, 1), (0, 0), (1, 0), (0, 2)];
        let one = interleaved(&[&a, &whole], &picks, 1 << 20).expect("one schema");
        assert_eq!(texts(&one), [["d", "bbbb", "a", "cc", ""]]);
        // A letter is a byte, and one of eight in the list.
        let some = interleaved(&[&a, &whole], &picks, 36).expect("one schema");
        assert_eq!(texts(&some), [vec!["d"], vec!["bbbb"], vec!["a", "cc", ""]]);
        let parts: Vec<&RecordBatch> = some.iter().collect();
        let joined = arrow::compute::concat_batches(&one[0].schema(), parts).expect("one schema");
        assert_eq!(joined, one[0]);
    }
}
