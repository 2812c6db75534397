//! What is kept of one key: its rows, where each window stands in them, and the windows' primitives.
//!
//! Invariant: the states of a window are its primitives over exactly the rows `start..end` of the
//! log (those let go of included where no row ever leaves the window). Every request keeps it; none depends on how a state came about.

use std::ops::Range;

use tidemill_types::{Id, Micros, Value};

use super::frame::Bound;
use super::layout::{Answer, Layout, Slot, Window, open_session};
use super::log::Log;
use super::session::Sessions;
use crate::aggregate::state::State;
use crate::aggregate::{Row, Rows, View};

/// What stands for a row where no column is read: anything that is not NULL.
static ROW: Value = Value::Bool(true);

pub(super) struct History {
    log: Log,
    /// By window: the positions that it is over, from 0 where no row ever leaves it.
    ranges: Box<[Range<usize>]>,
    /// By gap.
    sessions: Box<[Sessions]>,
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
            ranges: vec![0..0; layout.windows.len()].into(),
            sessions: layout.gaps.iter().map(|gap| Sessions::new(*gap)).collect(),
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
            + size_of_val(&*self.ranges)
            + size_of_val(&*self.sessions)
            + self.sessions.iter().map(Sessions::bytes).sum::<usize>()
            + size_of_val(&*self.states)
            + self.states.iter().map(State::bytes).sum::<usize>()
    }

    /// Takes a row in. Behind the cursors it waits for a read; before, it joins the windows it is in.
    pub(super) fn insert(&mut self, layout: &Layout, time: Micros, id: &Id, values: &[Value]) {
        let position = self.log.insert(time, id, values, &layout.columns);
        if !self.sessions.is_empty() {
            let (before, after) = self.log.around(position, position + 1);
            self.sessions.iter_mut().for_each(|sessions| sessions.insert(before, time, after));
        }
        for (window, range) in layout.windows.iter().zip(&mut self.ranges) {
            if position >= range.end {
                continue;
            }
            range.end += 1;
            if position >= range.start {
                let slots = window.slots.clone();
                feed(
                    &self.log,
                    position..position + 1,
                    &layout.slots[slots.clone()],
                    &mut self.states[slots],
                    State::insert,
                );
            } else {
                range.start += 1;
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
        for (window, range) in layout.windows.iter().zip(&mut self.ranges) {
            if position >= range.end {
                continue;
            }
            range.end -= 1;
            if position >= range.start {
                let slots = window.slots.clone();
                feed(
                    &self.log,
                    position..position + 1,
                    &layout.slots[slots.clone()],
                    &mut self.states[slots],
                    State::remove,
                );
            } else {
                range.start -= 1;
            }
        }
        self.log.remove(position);
        if !self.sessions.is_empty() {
            let (before, after) = self.log.around(position, position);
            self.sessions.iter_mut().for_each(|sessions| sessions.remove(before, time, after));
        }
        true
    }

    /// Takes a row out of the windows that no row ever leaves alone, the log having let go of it.
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
        for window in layout.windows.iter().filter(|w| w.reach.holds_all()) {
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
        // Most windows end at one place: it is looked for once.
        let mut found: Option<(Bound, usize)> = None;
        self.move_to(layout, |log, sessions, window, old| {
            let as_of = window.reach.as_of(time);
            let bound = window.reach.bound(as_of);
            let end = match found {
                Some((same, end)) if same == bound => end,
                _ => match bound {
                    Bound::ThroughRow => log.first_after_row(old.end, time, id),
                    Bound::BeforeRow => log.first_at_row(old.end, time, id),
                    Bound::Through(last) => log.first_after(old.end, last),
                    Bound::Before(next) => log.first_at(old.end, next),
                },
            };
            found = Some((bound, end));
            if window.reach.holds_all() {
                return 0..end;
            }
            let mut start = log.base();
            if let Some(floor) = window.reach.floor(as_of) {
                start = start.max(log.first_at(old.start, floor));
            }
            if let Some(rows) = window.reach.rows() {
                start = start.max(end.saturating_sub(rows));
            }
            if let Some(gap) = window.gap {
                start = start.max(open_session(log, &sessions[gap], end, as_of));
            }
            start.min(end)..end
        });
    }

    /// Appends what every output reads where the windows stand.
    pub(super) fn answer(&self, layout: &Layout, time: Micros, out: &mut Vec<Value>) {
        out.extend(layout.outputs.iter().map(|output| {
            let Range { start, end } = self.ranges[output.window];
            let range = start.max(self.log.base())..end;
            let rows = Filtered { log: &self.log, range, output };
            output.aggregate.finish(&View {
                states: &self.states,
                places: &output.places,
                rows: &rows,
                time: layout.windows[output.window].reach.as_of(time),
            })
        }));
    }

    /// Lets go of the rows that no read at `watermark` or later can see; windows that no row ever
    /// leaves take them in first.
    pub(super) fn trim(&mut self, layout: &Layout, watermark: Micros) {
        let cut = layout.cut(&self.log, &self.sessions, watermark);
        let unseen = cut - self.log.base();
        if unseen == 0 {
            return;
        }
        self.move_to(layout, |_, _, window, old| match window.reach.holds_all() {
            true => 0..old.end.max(cut),
            false => old.start.max(cut)..old.end.max(cut),
        });
        self.log.drop_before(cut);
        let first = self.log.around(cut, cut).1;
        self.sessions.iter_mut().for_each(|sessions| sessions.drop_before(first));
        if layout.lifetime {
            self.folded += unseen as u64;
        }
    }

    /// When [`History::trim`] will next find about half of the rows unseen.
    pub(super) fn next_due(&self, layout: &Layout) -> Option<Micros> {
        layout.half_life(&self.log, &self.sessions)
    }

    /// Moves every window to where `place` puts it, by the shorter way: over the rows that differ or,
    /// where the old and the new window share none, from nothing.
    fn move_to(
        &mut self,
        layout: &Layout,
        mut place: impl FnMut(&Log, &[Sessions], &Window, &Range<usize>) -> Range<usize>,
    ) {
        let History { log, ranges, sessions, states, .. } = self;
        for (window, range) in layout.windows.iter().zip(ranges) {
            let new = place(log, sessions, window, range);
            let old = std::mem::replace(range, new.clone());
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
