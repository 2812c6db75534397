//! A window with a `resolution` whose aggregates read counts, sums and ends of numbers alone keeps of
//! settled rows one sum for each tile, and not the rows.
//!
//! The rows of a tile leave such a window together, so nobody need know them apart: when the watermark
//! has passed rows that no other window of the key sees, and there are enough of them to gain memory, what they
//! come to is put into tiles and they are let go ([`History::fold`]). The window then is its tiles from the
//! first that it still sees, added up beforehand ([`Tiles::seek`]), and the rows that the log still has. Sums are
//! exact, so that neither shows in an answer: a tile that leaves takes away what it brought, and ends, which
//! cannot be taken away, are looked for among those of the tiles that stay.
//!
//! (Li, Maier, Tufte, Papadimos, Tucker, "No Pane, No Gain", 2005: their panes are these tiles; here only what
//! can no longer change goes into them.)

use std::collections::VecDeque;
use std::ops::Range;

use tidemill_types::Micros;

use super::heap::Heap;
use super::history::History;
use super::layout::{Layout, Window};
use super::standing::{States, feed};
use crate::aggregate::numbers::Numbers;
use crate::aggregate::{Reader, Writer};

/// The tiles of one window of a key, oldest first.
pub(super) struct Tiles {
    /// When each begins. The newest may be of a time that is not over: its rows are those that are settled.
    at: VecDeque<Micros>,
    /// What each holds: its counts and its numbers but for their ends.
    sums: VecDeque<Box<[u8]>>,
    /// The least and the greatest rank of each of its numbers, where they are asked for.
    ends: VecDeque<i64>,
    /// The first one that is in the total.
    first: usize,
    total: Total,
}

/// What some tiles come to.
#[derive(Clone)]
struct Total {
    counts: Box<[u64]>,
    numbers: Box<[Numbers]>,
}

/// No end: the least of no ranks, and the greatest.
const NO_ENDS: [i64; 2] = [i64::MAX, i64::MIN];

/// Bytes of a tile beside those of its numbers, and of one column of numbers, about: what a fold is weighed by.
const TILE: usize = 56;
const COLUMN: usize = 88;

impl Tiles {
    fn new(window: &Window, states: &States) -> Tiles {
        let numbers = &states.numbers[window.numbers.clone()];
        let total = Total {
            counts: vec![0; window.counts.len()].into(),
            numbers: numbers.iter().map(|numbers| Numbers::new(numbers.asks())).collect(),
        };
        let (at, sums, ends) = Default::default();
        Tiles { at, sums, ends, first: 0, total }
    }

    fn first_from(&self, floor: Micros) -> usize {
        self.at.partition_point(|at| *at < floor)
    }

    /// Adds what the states of the window hold to the tile that begins at a time.
    fn add(&mut self, at: Micros, window: &Window, states: &States) {
        let mut held = Total {
            counts: states.counts[window.counts.clone()].into(),
            numbers: states.numbers[window.numbers.clone()].into(),
        };
        if self.first > 0 {
            (self.total, self.first) = (self.moved(0), 0);
        }
        self.total.add(&held);
        // The newest, as good as always: rows come to be settled in order.
        let place = self.first_from(at);
        let ends = 2 * held.numbers.len();
        if self.at.get(place) == Some(&at) {
            held.add(&self.tile(place));
            self.at.remove(place);
            self.sums.remove(place);
            self.ends.drain(ends * place..ends * (place + 1));
        }
        self.at.insert(place, at);
        self.sums.insert(place, held.save());
        let ranks = held.numbers.iter().flat_map(Numbers::ranks).enumerate();
        ranks.for_each(|(i, rank)| self.ends.insert(ends * place + i, rank));
    }

    /// What one holds.
    fn tile(&self, at: usize) -> Total {
        let mut tile = self.total.read(&self.sums[at]).expect("tiles were looked at as they came");
        let ends = self.ends.range(2 * at * tile.numbers.len()..);
        tile.tell(ends.copied());
        tile
    }

    /// Lets go of the tiles before a time, which no read will see again.
    fn drop_before(&mut self, floor: Micros) {
        let gone = self.first_from(floor);
        if gone == 0 {
            return;
        }
        self.seek(floor);
        let columns = self.total.numbers.len();
        self.at.drain(..gone);
        self.sums.drain(..gone);
        self.ends.drain(..2 * gone * columns);
        self.first -= gone;
        if self.at.capacity() > 4 * self.at.len().max(4) {
            self.at.shrink_to_fit();
            self.sums.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// Makes the total that of the tiles from a time on.
    #[inline]
    fn seek(&mut self, floor: Micros) {
        let is_there = |at: usize| self.at.get(at).is_none_or(|at| *at >= floor);
        let none_before = self.first == 0 || self.at[self.first - 1] < floor;
        if is_there(self.first) && none_before {
            return;
        }
        let first = self.first_from(floor);
        (self.total, self.first) = (self.moved(first), first);
    }

    /// What the tiles from this one on come to.
    fn moved(&self, first: usize) -> Total {
        let mut total = self.total.clone();
        (first..self.first).for_each(|at| total.add(&self.tile(at)));
        (self.first..first).for_each(|at| total.take(&self.tile(at)));
        if total.numbers.iter().any(Numbers::is_starved) {
            let mut ends = [NO_ENDS].repeat(total.numbers.len());
            let columns = ends.len();
            for (i, pair) in self.ends.range(2 * first * columns..).enumerate() {
                let end = &mut ends[i / 2 % columns][i % 2];
                *end = if i % 2 == 0 { *pair.min(end) } else { *pair.max(end) };
            }
            total.tell(ends.into_iter().flatten());
        }
        total
    }

    fn bytes(&self) -> usize {
        let numbers = |of: &Numbers| size_of::<Numbers>() + of.bytes();
        self.at.capacity() * size_of::<Micros>()
            + self.sums.capacity() * size_of::<Box<[u8]>>()
            + self.sums.iter().map(|sums| sums.len()).sum::<usize>()
            + self.ends.capacity() * size_of::<i64>()
            + size_of::<Tiles>()
            + size_of_val(&*self.total.counts)
            + self.total.numbers.iter().map(numbers).sum::<usize>()
    }

    /// Visits the tiles in their order: when each begins, its sums and its ends.
    pub(super) fn each(&self, mut visit: impl FnMut(Micros, &[u8], &[i64])) {
        let columns = self.total.numbers.len();
        let mut ends = Vec::with_capacity(2 * columns);
        for (i, (at, sums)) in self.at.iter().zip(&self.sums).enumerate() {
            ends.clear();
            ends.extend(self.ends.range(2 * i * columns..2 * (i + 1) * columns));
            visit(*at, sums, &ends);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Takes over a tile that was saved; nothing if it is none of this window, or does not follow the others.
    pub(super) fn hold(&mut self, at: Micros, sums: &[u8], ends: &[i64]) -> Option<()> {
        let mut held = self.total.read(sums)?;
        let follows = self.at.back().is_none_or(|last| *last < at);
        if !follows || ends.len() != 2 * held.numbers.len() {
            return None;
        }
        held.tell(ends.iter().copied());
        self.total.add(&held);
        self.at.push_back(at);
        self.sums.push_back(sums.into());
        self.ends.extend(ends);
        Some(())
    }
}

impl Total {
    fn add(&mut self, other: &Total) {
        let counts = self.counts.iter_mut().zip(&other.counts);
        counts.for_each(|(count, more)| *count = count.saturating_add(*more));
        self.numbers.iter_mut().zip(&other.numbers).for_each(|(all, more)| all.merge(more));
    }

    fn take(&mut self, other: &Total) {
        let counts = self.counts.iter_mut().zip(&other.counts);
        counts.for_each(|(count, less)| *count = count.saturating_sub(*less));
        self.numbers.iter_mut().zip(&other.numbers).for_each(|(all, less)| all.unmerge(less));
    }

    fn pour(&self, window: &Window, states: &mut States) {
        let counts = states.counts[window.counts.clone()].iter_mut().zip(&self.counts);
        counts.for_each(|(count, more)| *count = count.saturating_add(*more));
        let numbers = states.numbers[window.numbers.clone()].iter_mut().zip(&self.numbers);
        numbers.for_each(|(all, more)| all.join(more));
    }

    /// Tells the ends that are not known, two a column.
    fn tell(&mut self, mut ranks: impl Iterator<Item = i64>) {
        for numbers in &mut self.numbers {
            if let (Some(least), Some(greatest)) = (ranks.next(), ranks.next()) {
                numbers.tell_ranks([least, greatest]);
            }
        }
    }

    /// Its bytes, without the ends.
    fn save(&self) -> Box<[u8]> {
        let mut out = Writer::default();
        for count in &self.counts {
            out.count(*count);
        }
        self.numbers.iter().for_each(|numbers| numbers.save(&mut out));
        out.finish().into()
    }

    /// One of the same kind from its bytes: its ends are not known.
    fn read(&self, bytes: &[u8]) -> Option<Total> {
        let mut bytes = Reader::new(bytes);
        let counts = self.counts.iter().map(|_| bytes.count()).collect::<Option<_>>()?;
        let numbers = self.numbers.iter().map(|like| like.restore(&mut bytes));
        let numbers = numbers.collect::<Option<_>>()?;
        bytes.end(Total { counts, numbers })
    }
}

/// The tiles of all windows of a key that have some, in the order of the layout.
pub(super) struct Tiled(pub(super) Vec<Tiles>);

impl Tiled {
    pub(super) fn new(layout: &Layout, states: &States) -> Tiled {
        Tiled(layout.tiled().map(|window| Tiles::new(window, states)).collect())
    }

    /// Lets go of what no read at `watermark` or later can see; whether anything is left.
    pub(super) fn advance(&mut self, layout: &Layout, watermark: Micros) -> bool {
        let windows = layout.tiled().zip(&mut self.0);
        windows.for_each(|(window, tiles)| tiles.drop_before(floor(window, watermark)));
        self.0.iter().any(|tiles| !tiles.at.is_empty())
    }

    /// When about half of the tiles of some window will have left it.
    pub(super) fn half_life(&self, layout: &Layout) -> Option<Micros> {
        let left = |(window, tiles): (&Window, &Tiles)| {
            let middle = tiles.at.get(tiles.at.len().checked_sub(1)? / 2)?;
            window.reach.left_at(*middle).map(|left| window.reach.read_at(left))
        };
        layout.tiled().zip(&self.0).filter_map(left).min()
    }

    /// Adds to what the states hold, of each window that has tiles, what these come to as of a moment.
    #[inline]
    pub(super) fn pour(&mut self, layout: &Layout, time: Micros, states: &mut States) {
        for (window, tiles) in layout.tiled().zip(&mut self.0) {
            tiles.seek(floor(window, time));
            tiles.total.pour(window, states);
        }
    }

    /// The same for somebody who leaves no trace.
    pub(super) fn pour_aside(&self, layout: &Layout, time: Micros, states: &mut States) {
        for (window, tiles) in layout.tiled().zip(&self.0) {
            let first = tiles.first_from(floor(window, time));
            tiles.moved(first).pour(window, states);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Tiled>() + self.0.iter().map(Tiles::bytes).sum::<usize>()
    }
}

/// The first event time that a window sees of its tiles as of a read.
fn floor(window: &Window, time: Micros) -> Micros {
    window.reach.floor(window.reach.as_of(time)).unwrap_or(Micros::MIN)
}

impl History {
    /// Puts the settled rows before a position, which no window sees but those that have tiles, into these, if that
    /// takes less memory than they do; whether it did.
    pub(super) fn fold(
        &mut self,
        layout: &Layout,
        cut: usize,
        watermark: Micros,
        heap: &Heap,
        states: &mut States,
    ) -> bool {
        let log = &self.log;
        let windows: Vec<(&Window, Range<usize>)> = layout
            .tiled()
            .map(|window| {
                let start = log.first_at(log.base(), floor(window, watermark));
                (window, start.min(cut)..cut)
            })
            .collect();
        let tile = |window: &Window, at: usize| window.reach.tile_of(log.time(at));
        let mut bytes = 0;
        for (window, rows) in &windows {
            let begins =
                |at: &usize| *at == rows.start || tile(window, *at) != tile(window, at - 1);
            let tile = TILE + COLUMN * window.numbers.len();
            bytes += tile * rows.clone().filter(begins).count();
            if self.tiles.is_none() {
                bytes += size_of::<Tiles>() + window.numbers.len() * size_of::<Numbers>();
            }
        }
        let rows = cut - log.base();
        if rows * layout.width.words() * size_of::<u64>() < 2 * bytes {
            return false;
        }
        let fresh = || Box::new(Tiled::new(layout, states));
        let mut tiled = self.tiles.take().unwrap_or_else(fresh);
        for ((window, rows), tiles) in windows.into_iter().zip(&mut tiled.0) {
            let mut start = rows.start;
            while start < rows.end {
                let at = tile(window, start);
                let same = |next: &usize| tile(window, *next) == at;
                let end = start + (start..rows.end).take_while(same).count();
                states.clear(window);
                feed::<true>(log, start..end, &window.feeds, states, heap);
                tiles.add(at, window, states);
                start = end;
            }
        }
        self.tiles = Some(tiled);
        true
    }
}
