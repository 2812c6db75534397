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
use super::layout::{Counted, Feed, Layout, Window, open_session};
use super::log::{Log, RowRef, Seen};
use super::session::Sessions;
use super::snapshot::{Kept, Whole};
use crate::aggregate::moment::{Moment, Noted};
use crate::aggregate::numbers::Numbers;
use crate::aggregate::state::State;
use crate::aggregate::{Columns, Row, Rows, View};
use crate::column::Cell;

/// What stands for a row where no column is read: anything that is not NULL.
static ROW: Value = Value::Bool(true);

/// A key with more rows than this keeps states, and gives them up again at a fourth of it.
const FEW: usize = 12;

#[derive(Default)]
pub(super) struct History {
    log: Log,
    standing: Option<Box<Standing>>,
    /// By gap.
    sessions: Box<[Sessions]>,
    /// Rows that only windows hold that no row ever leaves.
    folded: u64,
    /// When this key is to be looked at again.
    pub(super) due: Option<Micros>,
    /// How many rows it had when that was found.
    rows_then: usize,
}

/// Where the windows of a key stand, and what they hold.
struct Standing {
    cursors: Box<[Cursor]>,
    states: States,
}

/// The primitives of all windows.
pub(super) struct States {
    pub(super) counts: Box<[u64]>,
    pub(super) numbers: Box<[Numbers]>,
    pub(super) states: Box<[State]>,
}

/// What all keys of a store share while one is read.
pub(super) struct Scratch {
    /// States for keys that keep none.
    pub(super) states: States,
    /// Where the windows move.
    pub(super) ranges: Vec<Range<usize>>,
}

/// The rows that a window holds.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// 0 where no row ever leaves the window.
    start: usize,
    end: usize,
    /// The times of the rows before and at `start`, so that the old rows of a key are touched only when one
    /// of them leaves.
    before: Micros,
    first: Micros,
}

impl Cursor {
    fn new(range: Range<usize>, log: &Log) -> Cursor {
        let (before, first) = log.beside(range.start);
        Cursor { start: range.start, end: range.end, before, first }
    }
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
        self.log.len() == 0 && self.folded == 0
    }

    pub(super) fn rows(&self) -> usize {
        self.log.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let standing = self.standing.as_ref().map_or(0, |standing| {
            size_of::<Standing>() + size_of_val(&*standing.cursors) + standing.states.bytes()
        });
        let sessions = self.sessions.iter().map(Sessions::bytes).sum::<usize>();
        self.log.bytes() + standing + size_of_val(&*self.sessions) + sessions
    }

    /// Reads what the next request will touch, so that the memory of several keys is on its way at once.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        let standing = self.standing.as_ref().map_or(0, |standing| {
            let cursors = standing.cursors.first().map_or(0, |cursor| cursor.end as u64);
            let counts = |numbers: &Numbers| numbers.count();
            cursors ^ standing.states.numbers.iter().map(counts).fold(0, |all, count| all ^ count)
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
                refill(&self.log, range, window, states, heap);
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
        let History { log, standing, sessions, .. } = self;
        // Most windows end at one place: it is looked for once.
        let mut found: Option<(Bound, usize)> = None;
        let mut place = |window: &Window, old: &Cursor, log: &Log| -> Range<usize> {
            let reach = &window.reach;
            let as_of = reach.as_of(at.time);
            let bound = reach.bound(as_of);
            let end = match found {
                Some((same, end)) if same == bound => end,
                _ => match bound {
                    Bound::ThroughRow => log.first_after_row(old.end, at.time, at.id, heap),
                    Bound::BeforeRow => log.first_at_row(old.end, at.time, at.id, heap),
                    Bound::Through(last) => log.first_after(old.end, last),
                    Bound::Before(next) => log.first_at(old.end, next),
                },
            };
            found = Some((bound, end));
            if reach.holds_all() {
                return 0..end;
            }
            let mut start = log.base();
            if let Some(floor) = reach.floor(as_of) {
                start = start.max(match (old.before < floor, floor <= old.first) {
                    (true, true) => old.start,
                    (true, false) => log.first_at_from(old.start, floor),
                    (false, _) => log.first_at(old.start, floor),
                });
            }
            if let Some(rows) = reach.rows() {
                start = start.max(end.saturating_sub(rows));
            }
            if let Some(gap) = window.gap {
                start = start.max(open_session(log, &sessions[gap], end, as_of));
            }
            start.min(end)..end
        };
        match standing {
            Some(standing) => {
                let Standing { cursors, states } = &mut **standing;
                let ranges = &mut scratch.ranges;
                ranges.clear();
                let cursors = &mut cursors[..layout.windows.len()];
                let places = layout.windows.iter().zip(cursors.iter());
                ranges.extend(places.map(|(window, cursor)| place(window, cursor, log)));
                enter(log, layout, cursors, ranges, states, heap);
                for ((window, cursor), range) in layout.windows.iter().zip(cursors).zip(ranges) {
                    shift(log, window, cursor, range.clone(), states, heap);
                    let range = range.clone();
                    answer(layout, window, Held { log, range, heap }, states, at.time, give);
                }
            }
            None => {
                let scratch = &mut scratch.states;
                let (end, before, first) = (log.end(), Micros::MAX, Micros::MIN);
                let nowhere = Cursor { start: log.base(), end, before, first };
                for window in &layout.windows {
                    let range = place(window, &nowhere, log);
                    scratch.clear(window);
                    feed::<true>(log, range.clone(), &window.feeds, scratch, heap);
                    answer(layout, window, Held { log, range, heap }, scratch, at.time, give);
                }
            }
        }
    }

    /// Lets go of the rows that no read at `watermark` or later can see; windows that no row ever
    /// leaves take them in first.
    pub(super) fn trim(&mut self, layout: &Layout, watermark: Micros, heap: &mut Heap) {
        let cut = layout.cut(&self.log, &self.sessions, watermark);
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

    /// When [`History::trim`] will next find about half of the rows unseen.
    pub(super) fn next_due(&mut self, layout: &Layout) -> Option<Micros> {
        self.rows_then = self.log.len();
        layout.half_life(&self.log, &self.sessions)
    }

    /// Lets go of everything.
    pub(super) fn release(mut self, heap: &mut Heap) {
        self.log.release(heap);
    }
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

impl Standing {
    /// Windows over no rows yet: a read moves them to where they belong.
    fn new(layout: &Layout, log: &Log) -> Standing {
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

    fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
            + size_of_val(&*self.numbers)
            + self.numbers.iter().map(Numbers::bytes).sum::<usize>()
            + size_of_val(&*self.states)
            + self.states.iter().map(State::bytes).sum::<usize>()
    }

    fn clear(&mut self, window: &Window) {
        self.counts[window.counts.clone()].fill(0);
        self.numbers[window.numbers.clone()].iter_mut().for_each(Numbers::clear);
        self.states[window.states.clone()].iter_mut().for_each(State::clear);
    }

    /// Takes a row that passes the filter in or out of what one column feeds.
    #[inline]
    fn step<const IN: bool>(&mut self, feed: &Feed, row: &Row<'_>) {
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
fn enter(
    log: &Log,
    layout: &Layout,
    cursors: &mut [Cursor],
    ranges: &[Range<usize>],
    states: &mut States,
    heap: &Heap,
) {
    let Some(next) = cursors.first().map(|cursor| cursor.end) else { return };
    let holds = |range: &Range<usize>| range.start <= next && range.end == next + 1;
    if !ranges.iter().all(holds) || !cursors.iter().all(|cursor| cursor.end == next) {
        return;
    }
    for ((window, cursor), range) in layout.windows.iter().zip(&mut *cursors).zip(ranges) {
        if range.start == next {
            states.clear(window);
            *cursor = Cursor::new(next..next, log);
        }
        cursor.end = next + 1;
    }
    let row = log.row(next);
    for lane in &layout.entry.lanes {
        if lane.filter.is_some_and(|filter| !row.is_true(filter)) {
            continue;
        }
        match row.number(lane.spot) {
            Seen::Number(number) => {
                for &numbers in &lane.numbers {
                    states.numbers[numbers].step::<true>(&number);
                }
            }
            Seen::Special(x) => {
                for &numbers in &lane.numbers {
                    states.numbers[numbers].step_special::<true>(x);
                }
            }
            Seen::Nothing => {}
        }
    }
    for &(window, feed) in &layout.entry.others {
        let feed = &layout.windows[window].feeds[feed];
        if feed.filter.is_none_or(|filter| row.is_true(filter)) {
            seen(row, feed.column, feed.second, heap, |row| states.step::<true>(feed, row));
        }
    }
}

/// Moves a window to a range, by the shorter way: over the rows that differ or, where the old and the
/// new range share none, from nothing.
#[inline]
fn shift(
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
    refill(log, new, window, states, heap);
}

/// Puts rows into the states of a window or takes them out.
fn feed<const IN: bool>(
    log: &Log,
    rows: Range<usize>,
    feeds: &[Feed],
    states: &mut States,
    heap: &Heap,
) {
    for at in rows {
        let row = log.row(at);
        for feed in feeds {
            if feed.filter.is_some_and(|filter| !row.is_true(filter)) {
                continue;
            }
            match feed.only {
                Some((spot, numbers)) => {
                    let numbers = &mut states.numbers[numbers];
                    match row.number(spot) {
                        Seen::Number(number) => numbers.step::<IN>(&number),
                        Seen::Special(x) => numbers.step_special::<IN>(x),
                        Seen::Nothing => {}
                    }
                }
                None => seen(row, feed.column, feed.second, heap, |row| {
                    states.step::<IN>(feed, row);
                }),
            }
        }
    }
}

/// Shows a row as states see it.
#[inline]
fn seen<T>(
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
fn refill(log: &Log, rows: Range<usize>, window: &Window, states: &mut States, heap: &Heap) {
    if !window.extremes {
        return;
    }
    for feed in &window.feeds {
        if let (Some(numbers), Some(column)) = (feed.numbers, feed.column)
            && states.numbers[numbers].is_starved()
        {
            let passes = |row: &RowRef<'_>| feed.filter.is_none_or(|filter| row.is_true(filter));
            let rows = || rows.clone().map(|at| log.row(at)).filter(passes);
            states.numbers[numbers].refill(|| rows().map(|row| row.value(column, heap)));
        }
    }
}

/// What every output of a window is answered from where it stands.
#[inline]
fn answer(
    layout: &Layout,
    window: &Window,
    held: Held<'_>,
    states: &States,
    time: Micros,
    give: &mut impl Reply,
) {
    let rows = held.range.len() as u64;
    for at in window.marks.clone() {
        give.note(at, layout.marks[at].note(states, rows));
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
    fn note(&mut self, mark: usize, noted: Noted);

    /// What an output answers that needs more than a moment.
    fn value(&mut self, output: usize, value: Value);
}

/// The rows of a window. A filter is tried row by row from the asked end: the cost is the rows passed
/// over.
struct Held<'a> {
    log: &'a Log,
    range: Range<usize>,
    heap: &'a Heap,
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
