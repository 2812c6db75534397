//! What many reads of a store answer, a column an output.

use arrow::array::ArrayRef;
use tidemill_types::{DataType, Value};

use super::held::Reply;
use super::layout::Layout;
use crate::aggregate::View;
use crate::aggregate::moment::Moment;
use crate::column::{Builder, Cell};

/// How many reads are answered together: what is noted of them fits the nearest cache.
const TOGETHER: usize = 64;

/// Answers in the making: what [`super::Store::read_at`] fills and [`super::Store::finish`] closes.
#[derive(Default)]
pub struct Answers {
    columns: Vec<Builder>,
    /// For each mark of the layout [`TOGETHER`], one for each read that is not answered yet.
    moments: Vec<Moment>,
    /// How many reads these are, and how many were answered.
    waiting: usize,
    rows: usize,
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
        self.moments = vec![Moment::NOTHING; TOGETHER * layout.marks.len()];
    }

    /// Answers the reads that wait.
    fn settle(&mut self, layout: &Layout) {
        for (mark, moments) in layout.marks.iter().zip(self.moments.chunks_exact(TOGETHER)) {
            for &n in &mark.readers {
                let aggregate = &layout.outputs[n].aggregate;
                aggregate.finish_all(&moments[..self.waiting], &mut self.columns[n]);
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
    /// What a read over no rows finds.
    pub(super) fn nothing(&mut self) {
        let moments = self.moments.iter_mut().skip(self.waiting - 1).step_by(TOGETHER);
        moments.for_each(|moment| *moment = Moment::NOTHING);
    }
}

impl Reply for Answers {
    #[inline]
    fn count(&mut self, mark: usize, count: u64) {
        // Nothing else is ever set of this mark.
        self.moments[mark * TOGETHER + self.waiting - 1].count = count;
    }

    #[inline]
    fn moment(&mut self, mark: usize, moment: Moment) {
        self.moments[mark * TOGETHER + self.waiting - 1] = moment;
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
