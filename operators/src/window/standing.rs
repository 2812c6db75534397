//! Where the windows of a key stand, what they hold, and how rows come into them and go.

use std::ops::Range;

use tidemill_types::{Micros, Value};

use super::entry::Lane;
use super::heap::Heap;
use super::layout::{Feed, Layout, Only, Window};
use super::log::Log;
use super::mark::Counted;
use super::row::{RowRef, Seen, Spot};
use crate::aggregate::Row;
use crate::aggregate::distinct::Distinct;
use crate::aggregate::numbers::Numbers;
use crate::aggregate::state::State;

/// What stands for a row where no column is read: anything that is not NULL.
pub(super) static ROW: Value = Value::Bool(true);
/// Where the windows of a key stand, and what they hold.
pub(super) struct Standing {
    pub(super) cursors: Box<[Cursor]>,
    pub(super) states: States,
}

/// The primitives of all windows.
pub(super) struct States {
    pub(super) counts: Box<[u64]>,
    pub(super) numbers: Box<[Numbers]>,
    pub(super) states: Box<[State]>,
}

/// The rows that a window holds.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    /// 0 where no row ever leaves the window.
    pub(super) start: usize,
    pub(super) end: usize,
    /// The times of the rows before and at `start`, so that the old rows of a key are touched only when one
    /// of them leaves.
    pub(super) before: Micros,
    pub(super) first: Micros,
}

impl Cursor {
    pub(super) fn new(range: Range<usize>, log: &Log) -> Cursor {
        let (before, first) = log.beside(range.start);
        Cursor { start: range.start, end: range.end, before, first }
    }
}

impl Standing {
    /// Windows over no rows yet: a read moves them to where they belong.
    pub(super) fn new(layout: &Layout, log: &Log) -> Standing {
        let nowhere = |window: &Window| {
            let start = if window.reach.holds_all() { 0 } else { log.base() };
            Cursor::new(start..log.base(), log)
        };
        Standing { cursors: layout.windows.iter().map(nowhere).collect(), states: layout.states() }
    }
}

impl States {
    #[inline]
    pub(super) fn count(&self, of: Counted, rows: u64) -> u64 {
        match of {
            Counted::No => 0,
            Counted::Rows => rows,
            Counted::At(count) => self.counts[count],
            Counted::Numbers(numbers) => self.numbers[numbers].count(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
            + size_of_val(&*self.numbers)
            + self.numbers.iter().map(Numbers::bytes).sum::<usize>()
            + size_of_val(&*self.states)
            + self.states.iter().map(State::bytes).sum::<usize>()
    }

    /// Holds for a window what others hold for it.
    pub(super) fn copy(&mut self, window: &Window, from: &States) {
        self.counts[window.counts.clone()].copy_from_slice(&from.counts[window.counts.clone()]);
        self.numbers[window.numbers.clone()]
            .clone_from_slice(&from.numbers[window.numbers.clone()]);
        for at in window.states.clone() {
            self.states[at].clear();
            self.states[at].merge(&from.states[at]);
        }
    }

    /// Takes what others hold for a window of numbers alone, which get what these hold.
    pub(super) fn swap(&mut self, window: &Window, other: &mut States) {
        let (counts, numbers) = (window.counts.clone(), window.numbers.clone());
        self.counts[counts.clone()].swap_with_slice(&mut other.counts[counts]);
        self.numbers[numbers.clone()].swap_with_slice(&mut other.numbers[numbers]);
    }

    pub(super) fn clear(&mut self, window: &Window) {
        self.counts[window.counts.clone()].iter_mut().for_each(|count| *count = 0);
        self.numbers[window.numbers.clone()].iter_mut().for_each(Numbers::clear);
        self.states[window.states.clone()].iter_mut().for_each(State::clear);
    }

    /// Takes a row that passes the filter in or out of what one column feeds.
    #[inline]
    pub(super) fn step<const IN: bool>(&mut self, feed: &Feed, row: &Row<'_>) {
        if let Some(numbers) = feed.numbers {
            self.numbers[numbers].step_value::<IN>(row.value);
        }
        if let Some(count) = feed.count {
            let n = u64::from(!row.value.is_null());
            let count = &mut self.counts[count];
            *count = if IN { *count + n } else { count.saturating_sub(n) };
        }
        for state in &mut self.states[feed.states.clone()] {
            if IN { state.insert(row) } else { state.remove(row) }
        }
    }
}

/// Takes in the row that comes next in all windows, where that is what happens, looking at it once.
#[inline]
pub(super) fn enter(
    log: &Log,
    layout: &Layout,
    cursors: &mut [Cursor],
    ranges: &[Range<usize>],
    states: &mut States,
    heap: &Heap,
) {
    let Some(next) = cursors.first().map(|cursor| cursor.end) else { return };
    let (cursors, ranges) = (&mut cursors[..layout.windows.len()], &ranges[..layout.windows.len()]);
    let mut all = true;
    for (cursor, range) in cursors.iter().zip(ranges) {
        all &= cursor.end == next && range.end == next + 1 && range.start <= next;
    }
    if !all {
        return;
    }
    for at in 0..layout.windows.len() {
        if ranges[at].start == next {
            states.clear(&layout.windows[at]);
            cursors[at] = Cursor::new(next..next, log);
        }
        cursors[at].end = next + 1;
    }
    take_in(log, layout, next, states, heap);
}

/// Takes a row into all windows.
#[inline]
pub(super) fn take_in(
    log: &Log,
    layout: &Layout,
    position: usize,
    states: &mut States,
    heap: &Heap,
) {
    let row = log.row(position);
    for lane in &layout.entry.lanes {
        if lane.filter.is_some_and(|filter| !row.is_true_at(filter)) {
            continue;
        }
        let into = lane.numbers.iter().map(|(_, numbers)| *numbers);
        match row.sees(lane.spot) {
            Seen::Number => {
                let number = row.number(lane.spot);
                into.for_each(|n| states.numbers[n].step::<true>(&number));
            }
            Seen::Special(x) => into.for_each(|n| states.numbers[n].step_special::<true>(x)),
            Seen::Nothing => {}
        }
    }
    for &(window, n) in &layout.entry.others {
        step_feed::<true>(log, position, &layout.windows[window].feeds[n], states, heap);
    }
}

/// Fills the states of all windows.
pub(super) fn fill(
    log: &Log,
    layout: &Layout,
    ranges: &[Range<usize>],
    states: &mut States,
    heap: &Heap,
) {
    states.counts.iter_mut().for_each(|count| *count = 0);
    states.states.iter_mut().for_each(State::clear);
    for numbers in &layout.entry.apart {
        states.numbers[*numbers].clear();
    }
    for lane in &layout.entry.lanes {
        fill_lane(log, lane, ranges, &mut states.numbers);
    }
    for &(window, n) in &layout.entry.others {
        let feeds = &layout.windows[window].feeds[n..n + 1];
        feed::<true>(log, held(log, &ranges[window]), feeds, states, heap);
    }
}

/// The rows of a range that are there.
#[inline]
fn held(log: &Log, range: &Range<usize>) -> Range<usize> {
    range.start.max(log.base())..range.end
}

/// Fills the numbers of one column. Of windows that end alike a longer one holds what a shorter one holds and more, so
/// that a row is put in once.
fn fill_lane(log: &Log, lane: &Lane, ranges: &[Range<usize>], all: &mut [Numbers]) {
    let mut before: Option<(Range<usize>, usize)> = None;
    for &(window, numbers) in &lane.numbers {
        let mut rows = held(log, &ranges[window]);
        match before.take() {
            Some((shorter, same))
                if shorter.end == rows.end
                    && rows.start <= shorter.start
                    && all[same].asks() == all[numbers].asks() =>
            {
                all[numbers] = all[same].clone();
                before = Some((rows.clone(), numbers));
                rows.end = shorter.start;
            }
            _ => {
                all[numbers].clear();
                before = Some((rows.clone(), numbers));
            }
        }
        feed_numbers::<true>(log, rows, lane.spot, lane.filter, &mut all[numbers]);
    }
}

/// Moves a window to a range, by the shorter way: over the rows that differ or, where the old and the
/// new range share none, from nothing.
#[inline]
pub(super) fn shift(
    log: &Log,
    window: &Window,
    cursor: &mut Cursor,
    new: Range<usize>,
    states: &mut States,
    heap: &Heap,
) {
    let old = cursor.start..cursor.end;
    if old == new {
        return;
    }
    let feeds = &window.feeds;
    if feeds.is_empty() {
        if window.reach.is_timeless() {
            (cursor.start, cursor.end) = (new.start, new.end);
        } else {
            *cursor = Cursor::new(new, log);
        }
        return;
    }
    // Most often some rows have grown too old.
    if new.end == old.end && old.start < new.start && new.start < old.end {
        (cursor.start, (cursor.before, cursor.first)) = (new.start, log.beside(new.start));
        feed::<false>(log, old.start..new.start, feeds, states, heap);
        return refill(log, new, window, states);
    }
    if new.start != old.start || cursor.first == Micros::MAX {
        *cursor = Cursor::new(new.clone(), log);
    } else {
        cursor.end = new.end;
    }
    if new.start >= old.end || new.end <= old.start {
        states.clear(window);
        feed::<true>(log, new, feeds, states, heap);
        return;
    }
    let mut enter = |rows: Range<usize>| {
        if !rows.is_empty() {
            feed::<true>(log, rows, feeds, states, heap);
        }
    };
    enter(old.end..new.end);
    enter(new.start..old.start);
    let mut leave = |rows: Range<usize>| {
        if !rows.is_empty() {
            feed::<false>(log, rows, feeds, states, heap);
        }
    };
    leave(new.end..old.end);
    leave(old.start..new.start);
    refill(log, new, window, states);
}

/// Puts rows into the states of a window or takes them out.
#[inline]
pub(super) fn feed<const IN: bool>(
    log: &Log,
    rows: Range<usize>,
    feeds: &[Feed],
    states: &mut States,
    heap: &Heap,
) {
    for feed in feeds {
        if let Some(Only { spot, filter, numbers }) = feed.only {
            let numbers = &mut states.numbers[numbers];
            feed_numbers::<IN>(log, rows.clone(), spot, filter, numbers);
        } else if let Some((spot, state)) = feed.distinct
            && feed.filter.is_none()
            && let State::Distinct(distinct) = &mut states.states[state]
        {
            feed_distinct::<IN>(log, rows.clone(), spot, feed.column, heap, distinct);
        } else {
            feed_other::<IN>(log, rows.clone(), feed, states, heap);
        }
    }
}

/// Puts one row into what a column feeds or takes it out.
#[inline]
pub(super) fn step_feed<const IN: bool>(
    log: &Log,
    position: usize,
    feed: &Feed,
    states: &mut States,
    heap: &Heap,
) {
    if let Some(Only { spot, filter, numbers }) = feed.only {
        step_numbers::<IN>(log.row(position), spot, filter, &mut states.numbers[numbers]);
    } else if let Some((spot, state)) = feed.distinct
        && feed.filter.is_none()
        && let State::Distinct(distinct) = &mut states.states[state]
    {
        step_distinct::<IN>(log.row(position), spot, feed.column, heap, distinct);
    } else {
        feed_other::<IN>(log, position..position + 1, feed, states, heap);
    }
}

/// Puts the values of one column into a multiset or takes them out.
#[inline(never)]
fn feed_distinct<const IN: bool>(
    log: &Log,
    rows: Range<usize>,
    spot: Spot,
    column: Option<usize>,
    heap: &Heap,
    distinct: &mut Distinct,
) {
    for at in rows {
        step_distinct::<IN>(log.row(at), spot, column, heap, distinct);
    }
}

#[inline]
fn step_distinct<const IN: bool>(
    row: RowRef<'_>,
    spot: Spot,
    column: Option<usize>,
    heap: &Heap,
    distinct: &mut Distinct,
) {
    match (row.int(spot), IN) {
        (Some(i), true) => distinct.insert_int(i),
        (Some(i), false) => drop(distinct.remove_int(i)),
        (None, _) => change_distinct::<IN>(row, column, heap, distinct),
    }
}

#[inline(never)]
fn change_distinct<const IN: bool>(
    row: RowRef<'_>,
    column: Option<usize>,
    heap: &Heap,
    distinct: &mut Distinct,
) {
    let value = column.map_or(Value::Null, |column| row.value(column, heap));
    match IN {
        true => distinct.insert(&value),
        false => drop(distinct.remove(&value)),
    }
}

#[inline(never)]
fn feed_other<const IN: bool>(
    log: &Log,
    rows: Range<usize>,
    feed: &Feed,
    states: &mut States,
    heap: &Heap,
) {
    for at in rows {
        let row = log.row(at);
        if feed.filter.is_none_or(|filter| row.is_true(filter)) {
            step::<IN>(row, feed, states, heap);
        }
    }
}

/// Puts the numbers of one column into their state or takes them out.
#[inline(never)]
fn feed_numbers<const IN: bool>(
    log: &Log,
    rows: Range<usize>,
    spot: Spot,
    filter: Option<Spot>,
    numbers: &mut Numbers,
) {
    for at in rows {
        step_numbers::<IN>(log.row(at), spot, filter, numbers);
    }
}

#[inline(always)]
fn step_numbers<const IN: bool>(
    row: RowRef<'_>,
    spot: Spot,
    filter: Option<Spot>,
    numbers: &mut Numbers,
) {
    if filter.is_some_and(|filter| !row.is_true_at(filter)) {
        return;
    }
    match row.sees(spot) {
        Seen::Number => numbers.step::<IN>(&row.number(spot)),
        Seen::Special(x) => numbers.step_special::<IN>(x),
        Seen::Nothing => {}
    }
}

/// Takes a row in or out of what one column feeds.
fn step<const IN: bool>(row: RowRef<'_>, feed: &Feed, states: &mut States, heap: &Heap) {
    seen(row, feed.column, feed.second, heap, |row| states.step::<IN>(feed, row));
}

/// Shows a row as states see it.
#[inline]
pub(super) fn seen<T>(
    row: RowRef<'_>,
    column: Option<usize>,
    second: Option<usize>,
    heap: &Heap,
    see: impl FnOnce(&Row<'_>) -> T,
) -> T {
    let value = column.map(|column| row.value(column, heap));
    let second = second.map(|column| row.value(column, heap));
    let value = value.as_ref().unwrap_or(&ROW);
    see(&Row { time: row.time(), value, second: second.as_ref().unwrap_or(&Value::Null) })
}

/// Tells extremes that have lost all they knew of what is in the window.
#[inline]
pub(super) fn refill(log: &Log, rows: Range<usize>, window: &Window, states: &mut States) {
    if !window.extremes {
        return;
    }
    for feed in &window.feeds {
        if let (Some(numbers), Some(column)) = (feed.numbers, feed.column)
            && states.numbers[numbers].is_starved()
        {
            refill_numbers(log, rows.clone(), column, feed.filter, &mut states.numbers[numbers]);
        }
    }
}

#[inline(never)]
fn refill_numbers(
    log: &Log,
    rows: Range<usize>,
    column: usize,
    filter: Option<usize>,
    numbers: &mut Numbers,
) {
    let spot = log.spot(column);
    match filter.map(|filter| log.spot(filter)) {
        None => numbers.refill(|| rows.clone().filter_map(|at| log.row(at).rank(spot))),
        Some(filter) => numbers.refill(|| {
            let passes = |row: &RowRef<'_>| row.is_true_at(filter);
            rows.clone().map(|at| log.row(at)).filter(passes).filter_map(|row| row.rank(spot))
        }),
    }
}
