//! What is kept of one key: its rows, where each window stands in them, and the windows' primitives.
//!
//! Invariant: the states of a window are its primitives over exactly the rows `start..end` of the
//! log (`end` is common to all windows; over all rows up to `end`, those let go of included, where
//! the frame is `lifetime`). Every request keeps it; none depends on how a state came about.

use std::ops::Range;

use tidemill_config::plan::Frame;
use tidemill_types::{Id, Micros, Value};

use super::layout::{Answer, Layout, Slot};
use super::log::Log;
use crate::aggregate::state::State;
use crate::aggregate::{Row, Rows, View};

/// What stands for a row where no column is read: anything that is not NULL.
static ROW: Value = Value::Bool(true);

pub(super) struct History {
    log: Log,
    end: usize,
    /// By window; 0 for `lifetime`.
    starts: Box<[usize]>,
    states: Box<[State]>,
    /// Rows that only `lifetime` windows still hold.
    folded: u64,
    /// When this key is to be looked at again.
    pub(super) due: Option<Micros>,
}

impl History {
    pub(super) fn new(layout: &Layout) -> History {
        History {
            log: Log::new(layout.columns.len()),
            end: 0,
            starts: vec![0; layout.windows.len()].into(),
            states: layout.states(),
            folded: 0,
            due: None,
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.log.len() == 0 && self.folded == 0
    }

    pub(super) fn rows(&self) -> usize {
        self.log.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.log.bytes()
            + size_of_val(&*self.starts)
            + size_of_val(&*self.states)
            + self.states.iter().map(State::bytes).sum::<usize>()
    }

    /// Takes a row in. Behind the cursors it waits for a read; before, it joins the windows it is in.
    pub(super) fn insert(&mut self, layout: &Layout, time: Micros, id: &Id, values: &[Value]) {
        let position = self.log.insert(time, id, values, &layout.columns);
        if position >= self.end {
            return;
        }
        self.end += 1;
        for (window, start) in layout.windows.iter().zip(&mut self.starts) {
            if position >= *start {
                let slots = window.slots.clone();
                feed(
                    &self.log,
                    position..position + 1,
                    &layout.slots[slots.clone()],
                    &mut self.states[slots],
                    State::insert,
                );
            } else {
                *start += 1;
            }
        }
    }

    /// Takes a row out; false if it is not held.
    pub(super) fn retract(
        &mut self,
        layout: &Layout,
        time: Micros,
        id: &Id,
        values: &[Value],
    ) -> bool {
        let Some(position) = self.log.find(time, id, values, &layout.columns) else { return false };
        if position < self.end {
            self.end -= 1;
            for (window, start) in layout.windows.iter().zip(&mut self.starts) {
                if position >= *start {
                    let slots = window.slots.clone();
                    feed(
                        &self.log,
                        position..position + 1,
                        &layout.slots[slots.clone()],
                        &mut self.states[slots],
                        State::remove,
                    );
                } else {
                    *start -= 1;
                }
            }
        }
        self.log.remove(position);
        true
    }

    /// Takes a row out of the `lifetime` windows alone, the log having let go of it.
    pub(super) fn retract_folded(
        &mut self,
        layout: &Layout,
        time: Micros,
        values: &[Value],
    ) -> bool {
        if self.folded == 0 {
            return false;
        }
        self.folded -= 1;
        let value = |column: usize| values.get(layout.columns[column]).unwrap_or(&Value::Null);
        for window in layout.windows.iter().filter(|w| w.frame == Frame::Lifetime) {
            let slots = window.slots.clone();
            for (slot, state) in layout.slots[slots.clone()].iter().zip(&mut self.states[slots]) {
                if slot.filter.is_none_or(|filter| is_true(value(filter))) {
                    state.remove(&row(time, slot.column, slot.second, value));
                }
            }
        }
        true
    }

    /// Moves every window to where a read at (`time`, `id`) stands.
    pub(super) fn seek(&mut self, layout: &Layout, time: Micros, id: &Id) {
        let end = match layout.own_stream {
            true => self.log.first_after_row(self.end, time, id),
            false => self.log.first_after(self.end, time),
        };
        self.move_to(layout, end, |log, frame, hint| match frame {
            Frame::Last(span) => log.first_at(hint, time.saturating_sub(span)).min(end),
            Frame::Rows(n) => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                end.saturating_sub(n).max(log.base())
            }
            Frame::Lifetime => 0,
        });
    }

    /// Appends what every output reads where the windows stand.
    pub(super) fn answer(&self, layout: &Layout, time: Micros, out: &mut Vec<Value>) {
        out.extend(layout.outputs.iter().map(|output| {
            let range = self.starts[output.window].max(self.log.base())..self.end;
            let rows = Filtered { log: &self.log, range, output };
            output.aggregate.finish(&View {
                states: &self.states,
                places: &output.places,
                rows: &rows,
                time,
            })
        }));
    }

    /// Lets go of the rows that no read at `watermark` or later can see; `lifetime` windows take
    /// them in first.
    pub(super) fn trim(&mut self, layout: &Layout, watermark: Micros) {
        let base = self.log.base();
        let before = |time| self.log.first_at(base, time) - base;
        let unseen = layout.unseen(self.log.len(), before(watermark), |span| {
            before(watermark.saturating_sub(span))
        });
        if unseen == 0 {
            return;
        }
        let cut = base + unseen;
        self.move_to(layout, self.end.max(cut), |_, frame, start| match frame {
            Frame::Lifetime => 0,
            _ => start.max(cut),
        });
        self.log.drop_before(cut);
        if layout.lifetime {
            self.folded += unseen as u64;
        }
    }

    /// When [`History::trim`] will next find about half of the rows unseen.
    pub(super) fn next_due(&self, layout: &Layout) -> Option<Micros> {
        let base = self.log.base();
        layout.half_life(self.log.len(), |i| self.log.time(base + i))
    }

    /// Moves every window to `start_of(log, frame, start)..end`, by the shorter way: over the rows
    /// that differ or, where the old and the new window share none, from nothing.
    fn move_to(
        &mut self,
        layout: &Layout,
        end: usize,
        start_of: impl Fn(&Log, Frame, usize) -> usize,
    ) {
        let History { log, starts, states, .. } = self;
        for (window, start) in layout.windows.iter().zip(starts) {
            let (old, new) = (*start..self.end, start_of(log, window.frame, *start)..end);
            *start = new.start;
            let slots = &layout.slots[window.slots.clone()];
            let states = &mut states[window.slots.clone()];
            if new.start >= old.end || new.end <= old.start {
                states.iter_mut().for_each(State::clear);
                feed(log, new, slots, states, State::insert);
                continue;
            }
            feed(log, old.end..new.end, slots, states, State::insert);
            feed(log, new.end..old.end, slots, states, State::remove);
            feed(log, new.start..old.start, slots, states, State::insert);
            feed(log, old.start..new.start, slots, states, State::remove);
            refill(log, new, slots, states);
        }
        self.end = end;
    }
}

/// Puts rows into the states of a window or takes them out.
#[inline]
fn feed(
    log: &Log,
    rows: Range<usize>,
    slots: &[Slot],
    states: &mut [State],
    step: impl Fn(&mut State, &Row<'_>),
) {
    for at in rows {
        let value = |column: usize| log.value(at, column);
        for (slot, state) in slots.iter().zip(states.iter_mut()) {
            if slot.filter.is_none_or(|filter| is_true(value(filter))) {
                step(state, &row(log.time(at), slot.column, slot.second, value));
            }
        }
    }
}

/// A row as states see it.
#[inline]
fn row<'a>(
    time: Micros,
    column: Option<usize>,
    second: Option<usize>,
    value: impl Fn(usize) -> &'a Value,
) -> Row<'a> {
    Row { time, value: column.map_or(&ROW, &value), second: second.map_or(&Value::Null, &value) }
}

/// Tells extremes that have lost all they knew of what is in the window.
#[inline]
fn refill(log: &Log, rows: Range<usize>, slots: &[Slot], states: &mut [State]) {
    for (slot, state) in slots.iter().zip(states) {
        if let (State::Extreme(extreme), Some(column)) = (state, slot.column)
            && extreme.is_starved()
        {
            let passes =
                |row: &usize| slot.filter.is_none_or(|filter| is_true(log.value(*row, filter)));
            extreme.refill(rows.clone().filter(passes).map(|row| log.value(row, column)));
        }
    }
}

fn is_true(value: &Value) -> bool {
    matches!(value, Value::Bool(true))
}

/// The rows of an output's window that pass its filter. A filter is tried row by row from the asked
/// end: the cost is the rows passed over.
struct Filtered<'a> {
    log: &'a Log,
    range: Range<usize>,
    output: &'a Answer,
}

impl Filtered<'_> {
    fn passes(&self, row: usize) -> bool {
        self.output.filter.is_none_or(|filter| is_true(self.log.value(row, filter)))
    }

    /// Visits rows until told to stop.
    fn visit(&self, mut rows: impl Iterator<Item = usize>, visit: &mut dyn FnMut(Row<'_>) -> bool) {
        let Answer { column, second, .. } = *self.output;
        let seen = |at: usize| row(self.log.time(at), column, second, |c| self.log.value(at, c));
        let _ = rows.all(|at| visit(seen(at)));
    }
}

impl Rows for Filtered<'_> {
    fn walk(&self, newest_first: bool, skip: usize, visit: &mut dyn FnMut(Row<'_>) -> bool) {
        let range = self.range.clone();
        // Passing over rows of a range is one step, of those that pass a filter one each.
        match (newest_first, self.output.filter) {
            (false, None) => self.visit(range.skip(skip), visit),
            (true, None) => self.visit(range.rev().skip(skip), visit),
            (false, _) => self.visit(range.filter(|row| self.passes(*row)).skip(skip), visit),
            (true, _) => self.visit(range.rev().filter(|row| self.passes(*row)).skip(skip), visit),
        }
    }
}
