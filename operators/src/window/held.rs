//! What is read off a window where it stands.

use std::ops::Range;

use tidemill_types::{Micros, Value};

use super::heap::Heap;
use super::layout::{Layout, Place};
use super::log::Log;
use super::mark::Counted;
use super::row::RowRef;
use super::standing::{States, seen};
use crate::aggregate::moment::Moment;
use crate::aggregate::numbers::Numbers;
use crate::aggregate::state::State;
use crate::aggregate::{Columns, Row, Rows, View};
use crate::column::Cell;

/// What every output is answered from where the windows stand.
#[inline]
pub(super) fn answer(
    layout: &Layout,
    log: &Log,
    ranges: &[Range<usize>],
    heap: &Heap,
    states: &States,
    time: Micros,
    give: &mut impl Reply,
) {
    for &(at, window) in &layout.of_rows {
        give.count(at, ranges[window].len() as u64);
    }
    for &(at, numbers, whole) in &layout.of_numbers {
        give.numbers(at, &states.numbers[numbers], whole);
    }
    for &(at, window) in &layout.of_others {
        layout.marks[at].note(at, states, ranges[window].len() as u64, give);
    }
    for &(at, distinct) in &layout.of_distinct {
        give.count(at, count_distinct(&states.states[distinct]));
    }
    for &(w, n, Place { column, newest_first, skip }) in &layout.placed {
        let row = row_at(log, &ranges[w], newest_first, skip);
        give.cell(n, row.map_or(Cell::Null, |row| row.cell(column, heap)));
    }
    if !layout.others.is_empty() {
        answer_others(layout, log, ranges, heap, states, time, give);
    }
}

/// How many different values there are.
#[inline]
pub(super) fn count_distinct(state: &State) -> u64 {
    match state {
        State::Distinct(distinct) => distinct.len() as u64,
        _ => 0,
    }
}

/// What needs more than a moment.
#[inline(never)]
fn answer_others(
    layout: &Layout,
    log: &Log,
    ranges: &[Range<usize>],
    heap: &Heap,
    states: &States,
    time: Micros,
    give: &mut impl Reply,
) {
    static NOTHING: Moment = Moment::NOTHING;
    for &(w, n) in &layout.others {
        let (window, range) = (&layout.windows[w], ranges[w].clone());
        let rows = range.len() as u64;
        let held = Held { log, range, heap };
        let output = &layout.outputs[n];
        let of_rows;
        let moment = match output.count {
            Counted::No => &NOTHING,
            count => {
                of_rows = Moment::of_rows(states.count(count, rows));
                &of_rows
            }
        };
        let view = View {
            moment,
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
    /// Of each mark of the layout one of these three: how many values there are, where that is all that is asked;
    fn count(&mut self, mark: usize, count: u64);

    /// the numbers that tell all of it, and whether their sum is asked for as a whole number;
    fn numbers(&mut self, mark: usize, numbers: &Numbers, whole: bool);

    /// what they come to.
    fn moment(&mut self, mark: usize, moment: Moment);

    /// What an output answers that needs more than a moment.
    fn value(&mut self, output: usize, value: Value);

    /// The same, where it stands in a row.
    fn cell(&mut self, output: usize, cell: Cell<'_>);
}

/// The rows of a window. A filter is tried row by row from the asked end: the cost is the rows passed
/// over.
pub(super) struct Held<'a> {
    pub(super) log: &'a Log,
    pub(super) range: Range<usize>,
    pub(super) heap: &'a Heap,
}

/// A row of a window from either end on.
#[inline]
fn row_at<'a>(
    log: &'a Log,
    range: &Range<usize>,
    newest_first: bool,
    skip: usize,
) -> Option<RowRef<'a>> {
    let (start, end) = (range.start.max(log.base()), range.end);
    if skip >= end.saturating_sub(start) {
        return None;
    }
    Some(log.row(if newest_first { end - 1 - skip } else { start + skip }))
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
        let row = row_at(self.log, &self.range, newest_first, n);
        row.map(|row| row.value(column as usize, self.heap))
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
