//! How much memory the values of rows take whose size is not that of their type: texts, bytes, lists and maps.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;

/// Of such values a batch that is put together holds so many bytes at most, or one row: it is held in memory as a
/// whole, and Arrow counts the bytes of a column of texts, and the items of one of lists, in 31 bits.
pub const MOST_BYTES: u64 = 64 << 20;

/// Bytes of such values in some rows of these columns.
pub fn long_bytes(columns: &[ArrayRef], rows: Range<usize>) -> u64 {
    columns.iter().map(|column| long(column, rows.clone())).sum()
}

fn long(column: &ArrayRef, rows: Range<usize>) -> u64 {
    let between = |ends: &[i32]| ends[rows.start] as usize..ends[rows.end] as usize;
    let below = |items: &ArrayRef, of: Range<usize>| {
        let width = items.data_type().primitive_width().unwrap_or(1);
        (of.len() * width) as u64 + long(items, of)
    };
    match column.data_type() {
        Arrow::Utf8 => between(column.as_string::<i32>().value_offsets()).len() as u64,
        Arrow::Binary => between(column.as_binary::<i32>().value_offsets()).len() as u64,
        Arrow::List(_) => {
            let lists = column.as_list::<i32>();
            below(lists.values(), between(lists.value_offsets()))
        }
        Arrow::Map(_, _) => {
            let maps = column.as_map();
            let of = between(maps.value_offsets());
            below(maps.keys(), of.clone()) + below(maps.values(), of)
        }
        _ => 0,
    }
}

/// Cuts rows into batches of a number of rows or of [`MOST_BYTES`]: where one ends depends on the rows alone, and not on
/// how they came.
pub struct Cut {
    most: usize,
    rows: usize,
    bytes: u64,
}

impl Cut {
    /// Of so many rows at most.
    pub fn new(most: usize) -> Cut {
        Cut { most, rows: 0, bytes: 0 }
    }

    /// Takes rows into the batch under way: how many of these belong to it. The one that reaches [`MOST_BYTES`] is its
    /// last.
    pub fn take(&mut self, columns: &[ArrayRef], rows: usize) -> usize {
        let most = rows.min(self.most - self.rows);
        let bytes = long_bytes(columns, 0..most);
        if self.bytes + bytes < MOST_BYTES {
            (self.rows, self.bytes) = (self.rows + most, self.bytes + bytes);
            return most;
        }
        let mut n = 0;
        while n < most && self.bytes < MOST_BYTES {
            self.bytes += long_bytes(columns, n..n + 1);
            n += 1;
        }
        self.rows += n;
        n
    }

    /// Whether the batch under way holds no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether it holds all that it may; then another one begins.
    pub fn ends(&mut self) -> bool {
        let full = self.rows == self.most || self.bytes >= MOST_BYTES;
        if full {
            (self.rows, self.bytes) = (0, 0);
        }
        full
    }
}
