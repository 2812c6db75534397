//! Rows in the order of a run, on their way into a sink.
//!
//! That order is (event time, id). Rows that differ in neither are doubles of one event; a run has them as they came.
//! Parts cannot know how rows of other parts came, so that here they stand in the order of their bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use tidemill_connectors::sink::Sink;
use tidemill_types::{Error, Micros};

use crate::engine::outputs::row_as_json;

/// Puts doubles in order and counts rows.
pub struct Ordered {
    sink: Box<dyn Sink>,
    /// The last rows, where they have one time and id: a double may follow.
    held: Option<(RecordBatch, Micros)>,
    rows: Arc<AtomicU64>,
}

impl Ordered {
    /// Before this sink; `rows` is told how many rows it was given.
    pub fn new(sink: Box<dyn Sink>, rows: Arc<AtomicU64>) -> Ordered {
        Ordered { sink, held: None, rows }
    }

    fn let_go(&mut self) -> Result<(), Error> {
        let Some((rows, time)) = self.held.take() else { return Ok(()) };
        let times = vec![time; rows.num_rows()];
        self.give(&rows, &times)
    }

    /// Hands rows on, doubles in the order of their bytes.
    fn give(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        if times.is_empty() {
            return Ok(());
        }
        let ids = Ids::of(rows);
        let double = |i: usize| times[i] == times[i - 1] && ids.same(i, &ids, i - 1);
        if !(1..times.len()).any(double) {
            return self.sink.write(rows, times);
        }
        let mut picks: Vec<u32> = (0..times.len() as u32).collect();
        let mut first = 0;
        while first < times.len() {
            let mut end = first + 1;
            while end < times.len() && double(end) {
                end += 1;
            }
            if end - first > 1 {
                picks[first..end].sort_by_cached_key(|row| row_as_json(rows, *row as usize));
            }
            first = end;
        }
        let fits = |e| Error::internal(format!("rows of a backfill: {e}"));
        let rows = take_record_batch(rows, &UInt32Array::from(picks)).map_err(fits)?;
        self.sink.write(&rows, times)
    }
}

impl Sink for Ordered {
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
        let n = times.len();
        if n == 0 {
            return Ok(());
        }
        self.rows.fetch_add(n as u64, Ordering::Relaxed);
        let ids = Ids::of(rows);
        let mut first = 0;
        if let Some((held, time)) = &mut self.held {
            let of_held = Ids::of(held);
            first = (0..n).take_while(|i| times[*i] == *time && ids.same(*i, &of_held, 0)).count();
            if first > 0 {
                let fits = |e| Error::internal(format!("rows of a backfill: {e}"));
                let parts = [&*held, &rows.slice(0, first)];
                *held = concat_batches(&rows.schema(), parts).map_err(fits)?;
            }
        }
        if first == n {
            return Ok(());
        }
        self.let_go()?;
        let mut last = n - 1;
        while last > first && times[last - 1] == times[n - 1] && ids.same(last - 1, &ids, n - 1) {
            last -= 1;
        }
        self.give(&rows.slice(first, last - first), &times[first..last])?;
        // A copy, so that it does not hold the columns of all.
        let picks = UInt32Array::from_iter_values(last as u32..n as u32);
        let fits = |e| Error::internal(format!("rows of a backfill: {e}"));
        let tail = take_record_batch(rows, &picks).map_err(fits)?;
        self.held = Some((tail, times[n - 1]));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.sink.commit()
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.let_go()?;
        self.sink.close()
    }
}

/// The ids of feature rows, which are their first column: whole numbers or texts.
enum Ids<'a> {
    Whole(&'a [i64]),
    Texts(&'a arrow::array::StringArray),
}

impl Ids<'_> {
    fn of(rows: &RecordBatch) -> Ids<'_> {
        let column = rows.column(0);
        match column.data_type() {
            DataType::Int64 => Ids::Whole(column.as_primitive::<Int64Type>().values()),
            _ => Ids::Texts(column.as_string()),
        }
    }

    fn same(&self, i: usize, other: &Ids<'_>, k: usize) -> bool {
        match (self, other) {
            (Ids::Whole(ours), Ids::Whole(theirs)) => ours[i] == theirs[k],
            (Ids::Texts(ours), Ids::Texts(theirs)) => ours.value(i) == theirs.value(k),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(Micros, i64, String)>>>);

    impl Sink for Kept {
        fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error> {
            let ids = rows.column(0).as_primitive::<Int64Type>();
            let texts = rows.column(1).as_string::<i32>();
            let row = |i: usize| (times[i], ids.value(i), texts.value(i).to_string());
            self.0.lock().unwrap().extend((0..rows.num_rows()).map(row));
            Ok(())
        }

        fn commit(&mut self) -> Result<(), Error> {
            Ok(())
        }

        fn close(self: Box<Self>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn doubles_stand_by_their_bytes_however_rows_are_batched() {
        let rows = [
            (1, 5, "d"),
            (1, 5, "b"),
            (1, 6, "a"),
            (2, 6, "z"),
            (2, 6, "y"),
            (2, 6, "x"),
            (3, 1, "q"),
        ];
        for size in 1..=rows.len() {
            let (kept, count) = (Kept::default(), Arc::new(AtomicU64::new(0)));
            let mut sink = Box::new(Ordered::new(Box::new(kept.clone()), Arc::clone(&count)));
            for piece in rows.chunks(size) {
                let ids = Int64Array::from_iter_values(piece.iter().map(|row| row.1));
                let texts = StringArray::from_iter_values(piece.iter().map(|row| row.2));
                let columns = [("id", Arc::new(ids) as _), ("x", Arc::new(texts) as _)];
                let times: Vec<Micros> = piece.iter().map(|row| row.0).collect();
                sink.write(&RecordBatch::try_from_iter(columns).unwrap(), &times).unwrap();
            }
            sink.close().unwrap();
            let texts: String = kept.0.lock().unwrap().iter().map(|row| row.2.clone()).collect();
            assert_eq!((texts.as_str(), count.load(Ordering::Relaxed)), ("bdaxyzq", 7), "{size}");
        }
    }
}
