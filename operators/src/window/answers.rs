//! What many reads of a store answer, a column an output.

use arrow::array::ArrayRef;
use tidemill_types::{DataType, Value};

use super::held::Reply;
use super::layout::Layout;
use crate::aggregate::View;
use crate::aggregate::moment::{Moment, Noted};
use crate::aggregate::numbers::Numbers;
use crate::column::{Builder, Cell};

/// How many reads are answered together: what is noted of them fits the nearest cache.
const TOGETHER: usize = 64;

/// Answers in the making: what [`super::Store::read_at`] fills and [`super::Store::finish`] closes.
#[derive(Default)]
pub struct Answers {
    columns: Vec<Builder>,
    /// For each mark of the layout [`TOGETHER`], one for each read that is not answered yet.
    noted: Vec<Noted>,
    /// How many reads these are, and how many were answered.
    waiting: usize,
    rows: usize,
    moments: Vec<Moment>,
    /// Those of which nothing but the count is ever set.
    counts: Vec<Moment>,
}

impl Answers {
    /// To one more read.
    #[inline]
    pub(super) fn begin(&mut self, layout: &Layout, expected: usize) {
        if self.columns.is_empty() {
            self.open(layout, expected);
        }
        if self.waiting == TOGETHER {
            self.settle(layout);
        }
        self.waiting += 1;
    }

    #[cold]
    fn open(&mut self, layout: &Layout, expected: usize) {
        let column = |data_type: DataType| Builder::new(data_type, expected);
        self.columns =
            layout.outputs.iter().map(|output| column(output.aggregate.output())).collect();
        self.noted = vec![Noted::default(); TOGETHER * layout.marks.len()];
    }

    /// Answers the reads that wait.
    fn settle(&mut self, layout: &Layout) {
        for (mark, noted) in layout.marks.iter().zip(self.noted.chunks_exact_mut(TOGETHER)) {
            let noted = &mut noted[..self.waiting];
            if mark.counts() {
                self.counts.resize(TOGETHER, Moment::NOTHING);
                let counts = noted.iter().zip(&mut self.counts);
                counts.for_each(|(noted, moment)| moment.count = noted.count);
                for &n in &mark.readers {
                    let counts = &self.counts[..self.waiting];
                    layout.outputs[n].aggregate.finish_all(counts, &mut self.columns[n]);
                }
                continue;
            }
            mark.moments(noted, &mut self.moments);
            for &n in &mark.readers {
                layout.outputs[n].aggregate.finish_all(&self.moments, &mut self.columns[n]);
            }
        }
        self.rows += std::mem::take(&mut self.waiting);
    }

    /// How many reads were asked.
    pub(super) fn rows(&self) -> usize {
        self.rows + self.waiting
    }

    pub(super) fn finish(mut self, layout: &Layout) -> Vec<ArrayRef> {
        self.settle(layout);
        self.columns.into_iter().map(Builder::finish).collect()
    }
}

impl Answers {
    /// What a read over no rows notes.
    pub(super) fn note_nothing(&mut self, layout: &Layout) {
        let noted = self.noted.iter_mut().skip(self.waiting - 1).step_by(TOGETHER);
        for (noted, mark) in noted.zip(&layout.marks) {
            match mark.counts() {
                true => noted.count = 0,
                false => noted.set(Moment::NOTHING),
            }
        }
    }
}

impl Reply for Answers {
    #[inline]
    fn count(&mut self, mark: usize, count: u64) {
        self.noted[mark * TOGETHER + self.waiting - 1].count = count;
    }

    #[inline]
    fn numbers(&mut self, mark: usize, numbers: &Numbers) {
        self.noted[mark * TOGETHER + self.waiting - 1].numbers(numbers);
    }

    fn moment(&mut self, mark: usize, moment: Moment) {
        self.noted[mark * TOGETHER + self.waiting - 1].set(moment);
    }

    #[inline]
    fn value(&mut self, output: usize, value: Value) {
        self.columns[output].push(&value);
    }

    #[inline]
    fn cell(&mut self, output: usize, cell: Cell<'_>) {
        self.columns[output].push_cell(cell);
    }
}

/// The answers to one read.
pub(super) struct One<'a> {
    pub(super) layout: &'a Layout,
    pub(super) values: &'a mut [Value],
}

impl Reply for One<'_> {
    fn count(&mut self, mark: usize, count: u64) {
        self.moment(mark, Moment::of_rows(count));
    }

    fn numbers(&mut self, mark: usize, numbers: &Numbers) {
        self.moment(mark, Moment::of(numbers, self.layout.marks[mark].whole));
    }

    fn moment(&mut self, mark: usize, moment: Moment) {
        for &n in &self.layout.marks[mark].readers {
            self.values[n] = self.layout.outputs[n].aggregate.finish(&View::at(&moment));
        }
    }

    fn value(&mut self, output: usize, value: Value) {
        self.values[output] = value;
    }

    fn cell(&mut self, output: usize, cell: Cell<'_>) {
        self.values[output] = cell.to_value();
    }
}
