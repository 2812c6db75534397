//! What is kept of one key: its rows and, once there are more than a few of them, where each window
//! stands in them and the windows' primitives.
//!
//! Invariant: the states of a window are its primitives over exactly the rows `start..end` of the
//! log (those let go of included where no row ever leaves the window). Every request keeps it; none
//! depends on how a state came about.
//!
//! A key of few rows keeps no states: they would take more memory than the rows, and a read puts the
//! rows of each window into states that all such keys share.

use std::ops::Range;

use tidemill_types::{Id, Micros, Value};

use super::frame::Bound;
use super::heap::Heap;
use super::held::{Reply, answer};
use super::layout::{Layout, Window};
use super::leaving::open_session;
use super::log::Log;
use super::moving::move_to;
use super::row::RowRef;
use super::session::Sessions;
use super::snapshot::{Kept, Whole};
use super::standing::{Cursor, ROW, Standing, States, feed, fill, refill, shift};
use super::tiles::Tiled;
use crate::aggregate::Row;
use crate::aggregate::numbers::Numbers;
use crate::aggregate::state::State;
use crate::column::Cell;

/// A key with more rows than this keeps states, and gives them up again at a fourth of it.
const FEW: usize = 6;

#[derive(Default)]
pub(super) struct History {
    pub(super) log: Log,
    pub(super) standing: Option<Box<Standing>>,
    /// By gap.
    pub(super) sessions: Box<[Sessions]>,
    /// What stands in for rows that were let go, in windows that have tiles.
    pub(super) tiles: Option<Box<Tiled>>,
    /// Rows that only windows hold that no row ever leaves.
    folded: u64,
    /// When this key is to be looked at again.
    pub(super) due: Option<Micros>,
    /// How many rows it had when that was found.
    rows_then: usize,
}

/// What all keys of a store share while one is read.
pub(super) struct Scratch {
    /// States for keys that keep none.
    pub(super) states: States,
    /// Where the windows move.
    pub(super) ranges: Box<[Range<usize>]>,
}

/// The moment that a read is as of.
#[derive(Clone, Copy)]
pub(super) struct AsOf<'a> {
    pub(super) time: Micros,
    pub(super) id: &'a Id,
}

impl History {
    pub(super) fn new(layout: &Layout) -> History {
        History {
            log: Log::new(layout.width),
            sessions: layout.gaps.iter().map(|gap| Sessions::new(*gap)).collect(),
            ..History::default()
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.log.len() == 0 && self.folded == 0 && self.tiles.is_none()
    }

    pub(super) fn rows(&self) -> usize {
        self.log.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let standing = self.standing.as_ref().map_or(0, |standing| {
            size_of::<Standing>() + size_of_val(&*standing.cursors) + standing.states.bytes()
        });
        let sessions = self.sessions.iter().map(Sessions::bytes).sum::<usize>();
        let tiles = self.tiles.as_ref().map_or(0, |tiles| tiles.bytes());
        self.log.bytes() + standing + size_of_val(&*self.sessions) + sessions + tiles
    }

    /// Reads what the next request will touch, so that the memory of several keys is on its way at once.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        let standing = self.standing.as_ref().map_or(0, |standing| {
            let ends = standing.cursors.iter().fold(0, |all, cursor| all ^ cursor.first as u64);
            standing.states.numbers.iter().fold(ends, |all, numbers| all ^ numbers.touch())
        });
        self.log.newest() ^ standing
    }

    /// Takes a row in. Behind the cursors it waits for a read; before, it joins the windows it is in.
    #[inline]
    pub(super) fn insert(&mut self, layout: &Layout, row: &[u64], heap: &Heap) {
        let position = self.log.insert(row, heap);
        if !self.sessions.is_empty() {
            let time = self.log.time(position);
            let (before, after) = self.log.around(position, position + 1);
            self.sessions.iter_mut().for_each(|sessions| sessions.insert(before, time, after));
        }
        let Some(standing) = &mut self.standing else {
            if self.log.len() > FEW || layout.lifetime {
                self.standing = Some(Box::new(Standing::new(layout, &self.log)));
            }
            return;
        };
        let Standing { cursors, states } = &mut **standing;
        for (window, cursor) in layout.windows.iter().zip(cursors) {
            if position > cursor.start && position >= cursor.end {
                continue;
            }
            if position < cursor.start {
                *cursor = Cursor::new(cursor.start + 1..cursor.end + 1, &self.log);
            } else {
                // At an end of its rows: where it belongs shows when the window is moved.
                let joins = position < cursor.end;
                *cursor = Cursor::new(cursor.start..cursor.end + usize::from(joins), &self.log);
                if joins {
                    let at = position..position + 1;
                    feed::<true>(&self.log, at, &window.feeds, states, heap);
                }
            }
        }
    }

    /// Takes a row out; false if it is not held.
    pub(super) fn retract(&mut self, layout: &Layout, row: &[u64], heap: &mut Heap) -> bool {
        let Some(position) = self.log.find(row, heap) else { return false };
        let time = self.log.time(position);
        if let Some(standing) = &mut self.standing {
            let Standing { cursors, states } = &mut **standing;
            for (window, cursor) in layout.windows.iter().zip(cursors.iter_mut()) {
                if position < cursor.start {
                    cursor.start -= 1;
                    cursor.end -= 1;
                } else if position < cursor.end {
                    cursor.end -= 1;
                    let at = position..position + 1;
                    feed::<false>(&self.log, at, &window.feeds, states, heap);
                }
            }
        }
        self.log.remove(position, heap);
        if !self.sessions.is_empty() {
            let (before, after) = self.log.around(position, position);
            self.sessions.iter_mut().for_each(|sessions| sessions.remove(before, time, after));
        }
        if let Some(standing) = &mut self.standing {
            let Standing { cursors, states } = &mut **standing;
            for (window, cursor) in layout.windows.iter().zip(cursors) {
                let range = cursor.start..cursor.end;
                *cursor = Cursor::new(range.clone(), &self.log);
                refill(&self.log, range, window, states);
            }
        }
        true
    }

    /// Takes a row out of the windows alone that no row ever leaves, the log having let go of it.
    pub(super) fn retract_folded<'a>(
        &mut self,
        layout: &Layout,
        time: Micros,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> bool {
        if self.folded == 0 {
            return false;
        }
        self.folded -= 1;
        let Some(standing) = &mut self.standing else { return false };
        for window in layout.windows.iter().filter(|w| w.reach.holds_all()) {
            for feed in &window.feeds {
                let is_true = |filter| matches!(cell(filter), Cell::Bool(true));
                if feed.filter.is_none_or(is_true) {
                    let value = feed.column.map_or(ROW.clone(), |c| cell(c).to_value());
                    let second = feed.second.map_or(Value::Null, |c| cell(c).to_value());
                    let row = Row { time, value: &value, second: &second };
                    standing.states.step::<false>(feed, &row);
                }
            }
        }
        true
    }

    /// Gives what every output is answered from at a moment. `scratch` is the states of keys that have none.
    #[inline]
    pub(super) fn read(
        &mut self,
        layout: &Layout,
        at: AsOf<'_>,
        heap: &Heap,
        scratch: &mut Scratch,
        give: &mut impl Reply,
    ) {
        let History { log, standing, sessions, tiles, .. } = self;
        let ranges = &mut scratch.ranges;
        match standing {
            Some(standing) => {
                move_to(log, sessions, layout, at, standing, ranges, heap);
                let states = &mut standing.states;
                // What tiles hold stands beside the states only for as long as it is read.
                let change = |states: &mut States, beside: &mut States| {
                    layout.tiled().for_each(|window| states.swap(window, beside));
                };
                let beside = &mut scratch.states;
                if let Some(tiles) = tiles {
                    layout.tiled().for_each(|window| beside.copy(window, states));
                    tiles.pour(layout, at.time, beside);
                    change(states, beside);
                }
                answer(layout, log, ranges, heap, states, at.time, give);
                if tiles.is_some() {
                    change(states, beside);
                }
            }
            None => {
                let mut last = log.end();
                match &layout.spans {
                    Some((spans, since)) if at.time >= *since => {
                        let end = log.first_after_row(last, at.time, at.id, heap);
                        for (span, range) in spans.iter().zip(&mut **ranges) {
                            last = match span.last {
                                Some(reach) => log.first_at_back(last, at.time - reach),
                                None => log.base(),
                            };
                            last = last.max(end.saturating_sub(span.rows)).min(end);
                            *range = last..end;
                        }
                    }
                    _ => {
                        let mut end = 0;
                        for (window, range) in layout.windows.iter().zip(&mut **ranges) {
                            let as_of = window.reach.as_of(at.time);
                            if !window.ends_alike {
                                let bound = window.reach.bound(as_of);
                                end = end_of(log, bound, log.end(), at, heap);
                            }
                            let first_at = |floor| log.first_at_back(last, floor);
                            last = start_of(log, sessions, window, end, as_of, first_at);
                            *range = last..end;
                        }
                    }
                }
                let states = &mut scratch.states;
                fill(log, layout, ranges, states, heap);
                if let Some(tiles) = tiles {
                    tiles.pour(layout, at.time, states);
                }
                answer(layout, log, ranges, heap, states, at.time, give);
            }
        }
    }

    /// Lets go of the rows that no read at `watermark` or later can see; windows that no row ever
    /// leaves take them in first, and tiles those that are worth it. `scratch` is states of nobody.
    pub(super) fn trim(
        &mut self,
        layout: &Layout,
        watermark: Micros,
        heap: &mut Heap,
        scratch: &mut States,
    ) {
        if self.tiles.as_mut().is_some_and(|tiles| !tiles.advance(layout, watermark)) {
            self.tiles = None;
        }
        let mut cut = layout.cut(&self.log, &self.sessions, watermark, false);
        if layout.has_tiles() {
            let further = layout.cut(&self.log, &self.sessions, watermark, true);
            if further > cut && self.fold(layout, further, watermark, heap, scratch) {
                cut = further;
            }
        }
        let unseen = cut - self.log.base();
        if unseen == 0 {
            return;
        }
        if let Some(standing) = &mut self.standing {
            let Standing { cursors, states } = &mut **standing;
            for (window, cursor) in layout.windows.iter().zip(cursors.iter_mut()) {
                let start = if window.reach.holds_all() { 0 } else { cursor.start.max(cut) };
                let range = start..cursor.end.max(cut);
                shift(&self.log, window, cursor, range, states, heap);
            }
        }
        self.log.drop_before(cut, heap);
        let first = self.log.around(cut, cut).1;
        self.sessions.iter_mut().for_each(|sessions| sessions.drop_before(first));
        if layout.lifetime {
            self.folded += unseen as u64;
        } else if self.log.len() <= FEW / 4 {
            self.standing = None;
        }
    }

    /// Whether when it is due is to be found anew: rows that came since may have made others unseen.
    #[inline]
    pub(super) fn is_outgrown(&self) -> bool {
        self.due.is_none() || self.log.len() > 2 * self.rows_then + 32
    }

    /// When [`History::trim`] will next find about half of the rows or tiles unseen; of a key that has `grown`, as
    /// if rows were folded into tiles as soon as they can be.
    pub(super) fn next_due(&mut self, layout: &Layout, grown: bool) -> Option<Micros> {
        self.rows_then = self.log.len();
        let tiles = self.tiles.as_ref().and_then(|tiles| tiles.half_life(layout));
        let rows = layout.half_life(&self.log, &self.sessions, grown);
        rows.into_iter().chain(tiles).min()
    }

    /// Lets go of everything.
    pub(super) fn release(mut self, heap: &mut Heap) {
        self.log.release(heap);
    }
}

/// Where a window ends as of a moment; `hint` is where it ended last.
#[inline]
pub(super) fn end_of(log: &Log, bound: Bound, hint: usize, at: AsOf<'_>, heap: &Heap) -> usize {
    match bound {
        Bound::ThroughRow => log.first_after_row(hint, at.time, at.id, heap),
        Bound::BeforeRow => log.first_at_row(hint, at.time, at.id, heap),
        Bound::Through(last) => log.first_after(hint, last),
        Bound::Before(next) => log.first_at(hint, next),
    }
}

/// Where it begins, given how to find the first row at a time or later.
#[inline(always)]
pub(super) fn start_of(
    log: &Log,
    sessions: &[Sessions],
    window: &Window,
    end: usize,
    as_of: Micros,
    first_at: impl FnOnce(Micros) -> usize,
) -> usize {
    let reach = &window.reach;
    if reach.holds_all() {
        return 0;
    }
    let mut start = log.base();
    if let Some(floor) = reach.floor(as_of) {
        start = start.max(first_at(floor));
    }
    if let Some(rows) = reach.rows() {
        start = start.max(end.saturating_sub(rows));
    }
    if let Some(gap) = window.gap {
        start = start.max(open_session(log, &sessions[gap], end, as_of));
    }
    start.min(end)
}

/// What a snapshot sees of a key: `snapshot.rs`.
impl History {
    /// Visits the rows in their order.
    pub(super) fn each_row(&self, visit: impl FnMut(RowRef<'_>)) {
        (self.log.base()..self.log.end()).map(|at| self.log.row(at)).for_each(visit);
    }

    /// What windows that no row ever leaves hold; nothing where there is none.
    pub(super) fn kept(&self, layout: &Layout) -> Option<Kept> {
        let standing = self.standing.as_ref().filter(|_| layout.lifetime)?;
        let base = self.log.base();
        let whole = |(window, cursor): (&Window, &Cursor)| Whole {
            rows: cursor.end.saturating_sub(base) as u64,
            counts: standing.states.counts[window.counts.clone()].to_vec(),
            states: standing.states.numbers[window.numbers.clone()]
                .iter()
                .map(|numbers| State::Numbers(Box::new(numbers.clone())).save())
                .chain(standing.states.states[window.states.clone()].iter().map(State::save))
                .collect(),
        };
        let windows = layout.windows.iter().zip(standing.cursors.iter());
        let windows = windows.filter(|(window, _)| window.reach.holds_all()).map(whole);
        Some(Kept { base: base as u64, folded: self.folded, windows: windows.collect() })
    }

    /// The position of the first row that will be inserted, of a key without any yet.
    pub(super) fn begin_at(&mut self, layout: &Layout, base: usize) {
        self.log = Log::starting_at(layout.width, base);
    }

    /// Takes over what windows that no row ever leaves held, the rows being there; nothing if this cannot
    /// have been saved of these rows.
    pub(super) fn hold(&mut self, layout: &Layout, kept: &Kept) -> Option<()> {
        self.folded = kept.folded;
        let (log, base) = (&self.log, self.log.base());
        let standing = self.standing.get_or_insert_with(|| Box::new(Standing::new(layout, log)));
        let Standing { cursors, states } = &mut **standing;
        let windows = layout.windows.iter().zip(cursors.iter_mut());
        let mut windows = windows.filter(|(window, _)| window.reach.holds_all());
        for whole in &kept.windows {
            let (window, cursor) = windows.next()?;
            let end = base.checked_add(usize::try_from(whole.rows).ok()?)?;
            let (counts, kept) = (&mut states.counts[window.counts.clone()], &whole.counts);
            let numbers = &mut states.numbers[window.numbers.clone()];
            let into = &mut states.states[window.states.clone()];
            let saved = numbers.len() + into.len();
            if end > log.end() || counts.len() != kept.len() || saved != whole.states.len() {
                return None;
            }
            *cursor = Cursor::new(0..end, log);
            counts.copy_from_slice(kept);
            let (of_numbers, of_states) = whole.states.split_at(numbers.len());
            for (numbers, saved) in numbers.iter_mut().zip(of_numbers) {
                let fresh = State::Numbers(Box::new(Numbers::new(numbers.asks())));
                let State::Numbers(restored) = fresh.restore(saved)? else { return None };
                *numbers = *restored;
            }
            for (state, saved) in into.iter_mut().zip(of_states) {
                *state = state.restore(saved)?;
            }
        }
        windows.next().is_none().then_some(())
    }
}
