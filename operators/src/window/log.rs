//! The rows of one key, once, in (event time, stream, id, values) order: a ring of rows of a few words.
//!
//! Rows are known by *position*: how many rows precede them, those let go of included, so that a
//! position stays valid while rows in front go. A row is one stretch of memory, so that taking one in
//! or out touches a cache line or two, however many columns it has.

use std::cmp::Ordering;

use tidemill_types::{Id, Micros};

use super::heap::Heap;
use super::row::{RowRef, Spot, Width};

/// Rows in order.
#[derive(Default)]
pub(super) struct Log {
    /// The position of the first row held.
    base: usize,
    /// The place of the first row in the ring.
    head: usize,
    len: usize,
    /// A power of two of rows, or nothing.
    words: Vec<u64>,
    /// Rows that the ring holds.
    room: usize,
    width: Width,
}

impl Log {
    pub(super) fn new(width: Width) -> Log {
        Log { width, ..Log::default() }
    }

    /// An empty log whose first row will stand at this position.
    pub(super) fn starting_at(width: Width, base: usize) -> Log {
        Log { base, ..Log::new(width) }
    }

    #[inline]
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// The position after the last row.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.base + self.len
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn row(&self, position: usize) -> RowRef<'_> {
        self.at(position - self.base)
    }

    #[inline]
    fn at(&self, i: usize) -> RowRef<'_> {
        let start = self.start(i);
        RowRef(&self.words[start..start + self.width.words()], self.width)
    }

    /// Where a column is in each row.
    pub(super) fn spot(&self, column: usize) -> Spot {
        self.width.spot(column)
    }

    /// Where the words of row `i` begin.
    #[inline]
    fn start(&self, i: usize) -> usize {
        (self.head.wrapping_add(i) & self.room.wrapping_sub(1)) * self.width.words()
    }

    #[inline]
    pub(super) fn time(&self, position: usize) -> Micros {
        self.time_at(position - self.base)
    }

    #[inline]
    fn time_at(&self, i: usize) -> Micros {
        self.words[self.start(i)] as Micros
    }

    /// Event times of the rows on both sides of a position: that of the last row before the one, and of the
    /// row at the other.
    pub(super) fn around(&self, before: usize, after: usize) -> (Option<Micros>, Option<Micros>) {
        let held = self.base..self.end();
        let time = |position: usize| self.time(position);
        let before = before.checked_sub(1).filter(|at| held.contains(at));
        (before.map(time), Some(after).filter(|at| held.contains(at)).map(time))
    }

    /// As [`Log::first_at`], of which it is known that it is not before `from`.
    #[inline]
    pub(super) fn first_at_from(&self, from: usize, time: Micros) -> usize {
        let mut i = from.saturating_sub(self.base);
        for _ in 0..4 {
            if i >= self.len || self.time_at(i) >= time {
                return self.base + i;
            }
            i += 1;
        }
        self.first_at(self.base + i, time)
    }

    /// As [`Log::first_at`], walking back over the rows before `from`, where there are few.
    #[inline]
    pub(super) fn first_at_back(&self, from: usize, time: Micros) -> usize {
        let mut i = from.saturating_sub(self.base).min(self.len);
        if i < self.len && self.time_at(i) < time {
            i = self.len;
        }
        while i > 0 && self.time_at(i - 1) >= time {
            i -= 1;
        }
        self.base + i
    }

    /// As [`Log::around`] one position, the ends of time where there is no row.
    #[inline]
    pub(super) fn beside(&self, position: usize) -> (Micros, Micros) {
        let i = position.wrapping_sub(self.base);
        let before = i.wrapping_sub(1);
        let time = |i: usize, otherwise| if i < self.len { self.time_at(i) } else { otherwise };
        (time(before, Micros::MIN), time(i, Micros::MAX))
    }

    /// A word of the newest row.
    #[inline]
    pub(super) fn newest(&self) -> u64 {
        let start = self.start(self.len.wrapping_sub(1));
        self.words.get(start).copied().unwrap_or(0)
    }

    /// The first position whose row is at `time` or later; `hint` is where it was last.
    #[inline]
    pub(super) fn first_at(&self, hint: usize, time: Micros) -> usize {
        self.partition(hint, |i| self.time_at(i) < time)
    }

    /// The first position whose row is after `time`.
    #[inline]
    pub(super) fn first_after(&self, hint: usize, time: Micros) -> usize {
        self.partition(hint, |i| self.time_at(i) <= time)
    }

    /// The first position whose row is after (`time`, `id`) of the last stream. Most are those of the newest row.
    #[inline]
    pub(super) fn first_after_row(&self, hint: usize, time: Micros, id: &Id, heap: &Heap) -> usize {
        if let Some(last) = self.len.checked_sub(1) {
            let newest = self.at(last);
            if newest.time() < time || newest.time() == time && newest.id_cmp(id, heap).is_le() {
                return self.end();
            }
        }
        self.far_first_after_row(hint, time, id, heap)
    }

    #[inline(never)]
    fn far_first_after_row(&self, hint: usize, time: Micros, id: &Id, heap: &Heap) -> usize {
        self.partition(hint, |i| match self.time_at(i).cmp(&time) {
            Ordering::Equal => self.at(i).id_cmp(id, heap).is_le(),
            order => order == Ordering::Less,
        })
    }

    /// The first position whose row is at (`time`, `id`) or after.
    #[inline]
    pub(super) fn first_at_row(&self, hint: usize, time: Micros, id: &Id, heap: &Heap) -> usize {
        self.partition(hint, |i| match self.time_at(i).cmp(&time) {
            Ordering::Equal => self.at(i).id_cmp(id, heap).is_lt(),
            order => order == Ordering::Less,
        })
    }

    /// Puts a row where it belongs; returns its position.
    #[inline]
    pub(super) fn insert(&mut self, row: &[u64], heap: &Heap) -> usize {
        let place = self.place(row, heap);
        if self.len == self.room {
            self.resize((2 * self.room).max(2));
        }
        let (words, i) = (self.width.words(), place - self.base);
        self.len += 1;
        // Late rows are few and belong near the end.
        for j in (i + 1..self.len).rev() {
            let (from, to) = (self.start(j - 1), self.start(j));
            self.words.copy_within(from..from + words, to);
        }
        let start = self.start(i);
        self.words[start..start + words].copy_from_slice(row);
        place
    }

    /// Where exactly this row stands.
    pub(super) fn find(&self, row: &[u64], heap: &Heap) -> Option<usize> {
        let after = self.place(row, heap);
        let i = after.checked_sub(self.base + 1)?;
        let order = self.at(i).order(RowRef(row, self.width), heap);
        (order == Ordering::Equal).then_some(after - 1)
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, position: usize, heap: &mut Heap) {
        let (words, i) = (self.width.words(), position - self.base);
        self.row(position).release(heap);
        for j in i..self.len - 1 {
            let (from, to) = (self.start(j + 1), self.start(j));
            self.words.copy_within(from..from + words, to);
        }
        self.len -= 1;
    }

    /// Lets go of the rows before a position, and of the room they took.
    pub(super) fn drop_before(&mut self, position: usize, heap: &mut Heap) {
        let n = position - self.base;
        if heap.holds_anything() {
            (0..n).for_each(|i| self.at(i).release(heap));
        }
        self.head = (self.head + n) & self.room.wrapping_sub(1);
        self.len -= n;
        self.base = position;
        if self.room > 4 * self.len.max(1) {
            self.resize((2 * self.len).next_power_of_two());
        }
    }

    fn resize(&mut self, room: usize) {
        let words = self.width.words();
        let room = if self.len == 0 && room < 2 { 0 } else { room };
        let mut fresh = Vec::with_capacity(room * words);
        // Up to the end of the ring, and on from its beginning.
        let first = self.len.min(self.room - self.head);
        fresh.extend_from_slice(&self.words[self.head * words..(self.head + first) * words]);
        fresh.extend_from_slice(&self.words[..(self.len - first) * words]);
        fresh.resize(room * words, 0);
        (self.words, self.head, self.room) = (fresh, 0, room);
    }

    /// Lets go of all rows.
    pub(super) fn release(&mut self, heap: &mut Heap) {
        self.drop_before(self.end(), heap);
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The position after all rows that do not order after this one.
    #[inline]
    fn place(&self, row: &[u64], heap: &Heap) -> usize {
        let row = RowRef(row, self.width);
        if self.len == 0 || self.time_at(self.len - 1) < row.time() {
            return self.end();
        }
        self.partition(self.end(), |i| self.at(i).order(row, heap).is_le())
    }

    /// The first position that is not `before`, tried near `hint` first: requests come in order.
    #[inline]
    fn partition(&self, hint: usize, before: impl Fn(usize) -> bool) -> usize {
        let mut i = hint.saturating_sub(self.base).min(self.len);
        if i == 0 || before(i - 1) {
            for _ in 0..4 {
                if i == self.len || !before(i) {
                    return self.base + i;
                }
                i += 1;
            }
        }
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) { low = middle + 1 } else { high = middle }
        }
        self.base + low
    }
}
