//! Rows that wait until the watermark has passed them.

use std::mem::take;

use tidemill_types::Micros;
use tidemill_types::long::{MOST_BYTES, long_bytes};

use crate::engine::rows::OrderedRows;

/// Rows of a partition on their way into event-time order: runs that are in order each, in the order in which they came.
///
/// Two runs become one where the earlier is at most twice as long as the later. So there are few, and a row is copied a
/// few times however many chunks it waits for. Long texts are copied once, when they go on.
#[derive(Default)]
pub(super) struct Waiting {
    runs: Vec<Run>,
}

struct Run {
    rows: OrderedRows,
    /// Those before it have gone on.
    from: usize,
}

/// Runs with more bytes of texts, lists and maps together do not become one.
const RUN_BYTES: u64 = 8 << 20;

impl Run {
    fn len(&self) -> usize {
        self.rows.times.len() - self.from
    }

    /// How many of its rows are before a time.
    fn before(&self, time: Micros) -> usize {
        self.rows.times[self.from..].partition_point(|t| *t < time)
    }

    /// Bytes of texts, lists and maps of the rows behind the first so many.
    fn long_bytes(&self, behind: usize) -> u64 {
        long_bytes(self.rows.batch.columns(), self.from + behind..self.rows.times.len())
    }

    fn rest(self) -> OrderedRows {
        match self.from {
            0 => self.rows,
            from => self.rows.slice(from, self.rows.times.len() - from),
        }
    }
}

impl Waiting {
    /// Has rows wait.
    pub(super) fn push(&mut self, rows: OrderedRows) {
        if !rows.times.is_empty() {
            self.runs.push(Run { rows: rows.sorted(), from: 0 });
        }
    }

    /// How many rows are not before a time, and the bytes of their texts, lists and maps.
    pub(super) fn left(&self, time: Micros) -> (usize, u64) {
        let of = |run: &Run| {
            let before = run.before(time);
            (run.len() - before, run.long_bytes(before))
        };
        self.runs.iter().map(of).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// Takes the rows before a time out, in order.
    pub(super) fn release(&mut self, before: Micros) -> Vec<OrderedRows> {
        let mut ready = Vec::new();
        for mut run in take(&mut self.runs) {
            let n = run.before(before);
            if n == run.len() {
                ready.push(run.rest());
                continue;
            }
            if n > 0 {
                ready.push(run.rows.slice(run.from, n));
                run.from += n;
            }
            self.runs.push(run);
        }
        self.join_runs();
        OrderedRows::merged(ready, MOST_BYTES)
    }

    fn join_runs(&mut self) {
        while let [.., before, last] = &self.runs[..]
            && before.len() <= 2 * last.len()
            && before.long_bytes(0) + last.long_bytes(0) <= RUN_BYTES
        {
            let both = self.runs.drain(self.runs.len() - 2..).map(Run::rest).collect();
            let joined = OrderedRows::merged(both, u64::MAX).into_iter();
            self.runs.extend(joined.map(|rows| Run { rows, from: 0 }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
    use proptest::prelude::*;
    use tidemill_types::Id;

    use super::*;

    /// Rows of these times and ids, whose texts are their offsets.
    fn rows(of: &[(Micros, i64)], first: u64) -> OrderedRows {
        let offsets: Vec<u64> = (first..).take(of.len()).collect();
        let texts = offsets.iter().map(|offset| offset.to_string());
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        OrderedRows {
            times: of.iter().map(|row| row.0).collect(),
            ids: of.iter().map(|row| Id::Int(row.1)).collect(),
            offsets,
            batch: RecordBatch::try_from_iter([("text", texts)]).expect("one column"),
        }
    }

    /// What was released, as (time, id, offset); each row with its own text.
    fn told(released: Vec<OrderedRows>) -> Vec<(Micros, Id, u64)> {
        let mut told = Vec::new();
        for rows in released {
            let texts = rows.batch.column(0).as_string::<i32>();
            assert_eq!(texts.len(), rows.times.len());
            for (i, offset) in rows.offsets.iter().enumerate() {
                assert_eq!(texts.value(i), offset.to_string());
                told.push((rows.times[i], rows.ids[i].clone(), *offset));
            }
        }
        told
    }

    #[test]
    fn rows_that_wait_long_are_seldom_copied() {
        let mut waiting = Waiting::default();
        for first in 0..10_000 {
            waiting.push(rows(&[(first as Micros, 1)], first));
            assert!(waiting.release(0).is_empty());
            // Each is more than twice as long as the next.
            assert!(waiting.runs.len() <= 14, "{} runs", waiting.runs.len());
        }
        assert_eq!(waiting.left(4_000), (6_000, (4_000..10_000).map(|_| 4).sum()));
        assert_eq!(told(waiting.release(4_000)).len(), 4_000);
        assert_eq!(waiting.left(Micros::MIN).0, 6_000);
    }

    #[test]
    fn long_rows_go_on_in_several_batches() {
        let runs =
            || vec![rows(&[(1, 1), (3, 1), (5, 1)], 10), rows(&[(2, 1), (3, 1), (4, 1)], 20)];
        let whole = told(OrderedRows::merged(runs(), 12));
        let offsets: Vec<u64> = whole.iter().map(|row| row.2).collect();
        assert_eq!(offsets, [10, 20, 11, 21, 22, 12]);
        for (most, batches) in [(12, 1), (4, 3), (3, 6), (0, 6)] {
            let merged = OrderedRows::merged(runs(), most);
            assert_eq!(merged.len(), batches, "of at most {most} bytes");
            assert_eq!(told(merged), whole);
        }
        let follow = vec![rows(&[(1, 1), (3, 1)], 10), rows(&[(3, 2), (4, 1)], 20)];
        let merged = OrderedRows::merged(follow, 4);
        assert_eq!(merged.len(), 2);
        assert_eq!(told(merged).len(), 4);
    }

    proptest! {
        /// However rows come, what is released is all that is before the time, in order, once.
        #[test]
        fn what_is_released_is_a_stable_sort(
            chunks in prop::collection::vec(
                (prop::collection::vec((0..50_i64, 0..3_i64), 0..20), 0..60_i64),
                0..30,
            ),
        ) {
            let (mut waiting, mut model, mut next) = (Waiting::default(), Vec::new(), 0);
            for (chunk, before) in chunks {
                waiting.push(rows(&chunk, next));
                for (time, id) in chunk {
                    model.push((time, Id::Int(id), next));
                    next += 1;
                }
                let (mut wanted, rest): (Vec<_>, Vec<_>) =
                    model.into_iter().partition(|row| row.0 < before);
                wanted.sort();
                model = rest;
                prop_assert_eq!(waiting.left(before).0, model.len());
                prop_assert_eq!(told(waiting.release(before)), wanted);
            }
            model.sort();
            prop_assert_eq!(told(waiting.release(Micros::MAX)), model);
        }
    }
}
