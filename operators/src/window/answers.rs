//! What many reads of a store answer, a column an output.

use arrow::array::ArrayRef;
use tidemill_types::{DataType, Value};

use super::held::Reply;
use super::layout::Layout;
use crate::aggregate::View;
use crate::aggregate::moment::Moment;
use crate::aggregate::moments::{Moments, TOGETHER};
use crate::aggregate::numbers::Numbers;
use crate::column::{Builder, Cell};

/// Answers in the making: what [`super::Store::read_at`] fills and [`super::Store::finish`] closes.
#[derive(Default)]
pub struct Answers {
    columns: Vec<Builder>,
    /// Those of values of any length.
    long: Vec<usize>,
    /// Reads that room is made for at first.
    room: usize,
    /// Of each mark of the layout one for each read that is not answered yet.
    moments: Vec<Moments>,
    /// How many reads these are.
    waiting: usize,
}

impl Answers {
    /// To about so many reads.
    pub fn to(reads: usize) -> Answers {
        Answers { room: reads, ..Answers::default() }
    }

    /// To one more read.
    #[inline]
    pub(super) fn begin(&mut self, layout: &Layout) {
        if self.columns.is_empty() {
            self.open(layout);
        }
        if self.waiting == TOGETHER {
            self.settle(layout);
        }
        self.waiting += 1;
    }

    #[cold]
    fn open(&mut self, layout: &Layout) {
        let column = |data_type: DataType| Builder::new(data_type, self.room);
        self.columns =
            layout.outputs.iter().map(|output| column(output.aggregate.output())).collect();
        let long = |column: &usize| {
            let output = layout.outputs[*column].aggregate.output();
            matches!(output, DataType::String | DataType::List(_) | DataType::Map(_))
        };
        self.long = (0..self.columns.len()).filter(long).collect();
        self.moments = layout.marks.iter().map(|_| Moments::default()).collect();
    }

    /// Answers the reads that wait.
    fn settle(&mut self, layout: &Layout) {
        for (mark, moments) in layout.marks.iter().zip(&mut self.moments) {
            for &n in &mark.readers {
                layout.outputs[n].aggregate.finish_all(moments, &mut self.columns[n]);
            }
            moments.clear();
        }
        self.waiting = 0;
    }

    /// Bytes of the texts, lists and maps in them.
    #[inline]
    pub fn long_bytes(&self) -> u64 {
        self.long.iter().map(|column| self.columns[*column].long_bytes()).sum()
    }

    pub(super) fn finish(mut self, layout: &Layout) -> Vec<ArrayRef> {
        self.settle(layout);
        self.columns.into_iter().map(Builder::finish).collect()
    }
}

impl Answers {
    /// What a read over no rows finds.
    pub(super) fn nothing(&mut self) {
        self.moments.iter_mut().for_each(|moments| moments.push(Moment::NOTHING));
    }
}

impl Reply for Answers {
    #[inline]
    fn count(&mut self, mark: usize, count: u64) {
        self.moments[mark].push_count(count);
    }

    #[inline]
    fn numbers(&mut self, mark: usize, numbers: &Numbers, whole: bool) {
        self.moments[mark].push_numbers(numbers, whole);
    }

    #[inline]
    fn moment(&mut self, mark: usize, moment: Moment) {
        self.moments[mark].push(moment);
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

    fn numbers(&mut self, mark: usize, numbers: &Numbers, whole: bool) {
        self.moment(mark, Moment::of(numbers, whole));
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
