//! What is read off a window where it stands.

use std::ops::Range;

use tidemill_types::{Micros, Value};

use super::heap::Heap;
use super::layout::{Layout, Mark, Window};
use super::log::Log;
use super::standing::{States, seen};
use crate::aggregate::moment::{Found, Moment};
use crate::aggregate::{Columns, Row, Rows, View};

/// What every output of a window is answered from where it stands.
#[inline]
pub(super) fn answer(
    layout: &Layout,
    window: &Window,
    held: Held<'_>,
    states: &States,
    time: Micros,
    give: &mut impl Reply,
) {
    let rows = held.range.len() as u64;
    for at in window.marks.clone() {
        let mark = &layout.marks[at];
        give.note(at, mark, mark.find(states, rows));
    }
    for &n in &window.outputs {
        let output = &layout.outputs[n];
        let view = View {
            moment: &Moment::of_rows(states.count(output.count, rows)),
            numbers: output.numbers.map(|numbers| &states.numbers[numbers]),
            states: &states.states,
            places: &output.places,
            columns: output.columns,
            rows: &held,
            time: window.reach.as_of(time),
        };
        give.value(n, output.aggregate.finish(&view));
    }
}

/// Who is told what a read finds.
pub(super) trait Reply {
    /// What numbers come to: once for each mark of the layout.
    fn note(&mut self, at: usize, mark: &Mark, found: Found<'_>);

    /// What an output answers that needs more than a moment.
    fn value(&mut self, output: usize, value: Value);
}

/// The rows of a window. A filter is tried row by row from the asked end: the cost is the rows passed
/// over.
pub(super) struct Held<'a> {
    pub(super) log: &'a Log,
    pub(super) range: Range<usize>,
    pub(super) heap: &'a Heap,
}

impl Held<'_> {
    /// Visits rows until told to stop.
    fn visit(
        &self,
        mut rows: impl Iterator<Item = usize>,
        columns: Columns,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) {
        let [column, second] = [columns.column, columns.second].map(|c| c.map(|c| c as usize));
        let shown = |at: usize| {
            let row = self.log.row(at);
            seen(row, column, second, self.heap, |row| visit(*row))
        };
        let _ = rows.all(shown);
    }
}

impl Rows for Held<'_> {
    fn nth(&self, columns: Columns, newest_first: bool, n: usize) -> Option<Value> {
        let Columns { column: Some(column), filter: None, .. } = columns else {
            let mut found = None;
            self.walk(columns, newest_first, n, &mut |row| {
                found = Some(row.value.clone());
                false
            });
            return found;
        };
        let (start, end) = (self.range.start.max(self.log.base()), self.range.end);
        if n >= end - start.min(end) {
            return None;
        }
        let at = if newest_first { end - 1 - n } else { start + n };
        Some(self.log.row(at).value(column as usize, self.heap))
    }

    fn walk(
        &self,
        columns: Columns,
        newest_first: bool,
        skip: usize,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    ) {
        // Of a window that no row ever leaves the log holds the newest ones alone.
        let range = self.range.start.max(self.log.base())..self.range.end;
        let passes = |at: &usize| {
            let is_true = |f| self.log.row(*at).is_true(f as usize);
            columns.filter.is_none_or(is_true)
        };
        // Passing over rows of a range is one step, of those that pass a filter one each.
        match (newest_first, columns.filter) {
            (false, None) => self.visit(range.skip(skip), columns, visit),
            (true, None) => self.visit(range.rev().skip(skip), columns, visit),
            (false, _) => self.visit(range.filter(passes).skip(skip), columns, visit),
            (true, _) => self.visit(range.rev().filter(passes).skip(skip), columns, visit),
        }
    }
}
