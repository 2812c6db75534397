//! The rows of one key, once, in (event time, id, values) order: a ring of rows of a few words.
//!
//! Rows are known by *position*: how many rows precede them, those let go of included, so that a
//! position stays valid while rows in front go. A row is one stretch of memory, so that taking one in
//! or out touches a cache line or two, however many columns it has.

use std::cmp::Ordering;

use tidemill_types::{Id, Micros, Value};

use super::heap::Heap;
use crate::aggregate::state::Number;
use crate::column::Cell;

/// Columns whose kinds one word tells, at three bits each; the rest is the kind of the id.
const KINDS_A_WORD: usize = 20;
const ID_KIND: u32 = 60;

const NULL: u64 = 0;
const BOOL: u64 = 1;
const INT: u64 = 2;
const FLOAT: u64 = 3;
const TEXT: u64 = 4;

/// The words of a row: time, id, kinds, then a word a column.
#[derive(Clone, Copy)]
pub(super) struct RowRef<'a>(&'a [u64]);

impl<'a> RowRef<'a> {
    #[inline]
    pub(super) fn time(self) -> Micros {
        self.0[0] as Micros
    }

    #[inline]
    fn kind(self, column: usize) -> u64 {
        self.0[2 + column / KINDS_A_WORD] >> (3 * (column % KINDS_A_WORD)) & 7
    }

    /// Whether a column holds true.
    #[inline]
    pub(super) fn is_true(self, column: usize, width: Width) -> bool {
        self.kind(column) == BOOL && self.0[width.head + column] == 1
    }

    /// A column's value.
    #[inline]
    pub(super) fn value(self, column: usize, width: Width, heap: &Heap) -> Value {
        let word = self.0[width.head + column];
        match self.kind(column) {
            NULL => Value::Null,
            BOOL => Value::Bool(word == 1),
            INT => Value::Int(word as i64),
            FLOAT => Value::Float(f64::from_bits(word)),
            _ => heap.text(word),
        }
    }

    /// A column's value where it is a finite number.
    #[inline]
    pub(super) fn number(self, column: usize, width: Width) -> Seen {
        let word = self.0[width.head + column];
        match self.kind(column) {
            NULL => Seen::Null,
            FLOAT => Number::of_float(f64::from_bits(word)).map_or(Seen::Other, Seen::Number),
            INT => Seen::Number(Number::of_int(word as i64)),
            _ => Seen::Other,
        }
    }

    /// How this row orders against another. Values break ties of id, so that rows with one id stand
    /// in one order whatever the order they came in.
    #[inline]
    fn order(self, other: RowRef<'_>, width: Width, heap: &Heap) -> Ordering {
        self.time().cmp(&other.time()).then_with(|| {
            self.id_order(other, heap).then_with(|| {
                let both = |column| {
                    by_bits(&self.value(column, width, heap), &other.value(column, width, heap))
                };
                (0..width.columns).map(both).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            })
        })
    }

    #[inline]
    fn id_order(self, other: RowRef<'_>, heap: &Heap) -> Ordering {
        match (self.0[2] >> ID_KIND, other.0[2] >> ID_KIND) {
            (0, 0) => (self.0[1] as i64).cmp(&(other.0[1] as i64)),
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            _ => heap.id(self.0[1]).cmp(heap.id(other.0[1])),
        }
    }

    /// How this row's id orders against another.
    #[inline]
    fn id_cmp(self, id: &Id, heap: &Heap) -> Ordering {
        match (self.0[2] >> ID_KIND, id) {
            (0, Id::Int(id)) => (self.0[1] as i64).cmp(id),
            (0, _) => Ordering::Less,
            (_, id) => heap.id(self.0[1]).cmp(id),
        }
    }

    /// Lets go of what it holds on the heap.
    fn release(self, width: Width, heap: &mut Heap) {
        if self.0[2] >> ID_KIND != 0 {
            heap.release_id(self.0[1]);
        }
        for column in (0..width.columns).filter(|column| self.kind(*column) == TEXT) {
            heap.release_text(self.0[width.head + column]);
        }
    }
}

/// What stands in a column of numbers.
pub(super) enum Seen {
    Number(Number),
    Null,
    /// Something that is to be looked at as a value.
    Other,
}

/// How many words a row has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) columns: usize,
    /// Words before the columns.
    head: usize,
}

impl Width {
    pub(super) fn new(columns: usize) -> Width {
        Width { columns, head: 2 + columns.div_ceil(KINDS_A_WORD).max(1) }
    }

    fn words(self) -> usize {
        self.head + self.columns
    }

    /// Writes a row; `cell` gives its columns. What it holds on the heap is the caller's to release.
    #[inline]
    pub(super) fn encode<'a>(
        self,
        time: Micros,
        id: &Id,
        cell: impl Fn(usize) -> Cell<'a>,
        heap: &mut Heap,
        row: &mut Vec<u64>,
    ) {
        row.clear();
        row.resize(self.words(), 0);
        row[0] = time as u64;
        match id {
            Id::Int(id) => row[1] = *id as u64,
            other => {
                row[1] = heap.hold_id(other);
                row[2] = 1 << ID_KIND;
            }
        }
        for column in 0..self.columns {
            let (kind, word) = match cell(column) {
                Cell::Null => continue,
                Cell::Bool(b) => (BOOL, u64::from(b)),
                Cell::Int(i) => (INT, i as u64),
                Cell::Float(x) => (FLOAT, x.to_bits()),
                Cell::Text(text) => (TEXT, heap.hold_text(text)),
            };
            row[2 + column / KINDS_A_WORD] |= kind << (3 * (column % KINDS_A_WORD));
            row[self.head + column] = word;
        }
    }

    /// Takes back what [`Width::encode`] held for a row that is not kept.
    pub(super) fn forget(self, row: &[u64], heap: &mut Heap) {
        RowRef(row).release(self, heap);
    }
}

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
}

impl Log {
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
    pub(super) fn row(&self, position: usize, width: Width) -> RowRef<'_> {
        RowRef(self.at(position - self.base, width.words()))
    }

    #[inline]
    fn at(&self, i: usize, words: usize) -> &[u64] {
        let start = (self.head + i & self.room.wrapping_sub(1)) * words;
        &self.words[start..start + words]
    }

    #[inline]
    pub(super) fn time(&self, position: usize, width: Width) -> Micros {
        self.time_at(position - self.base, width)
    }

    #[inline]
    fn time_at(&self, i: usize, width: Width) -> Micros {
        self.words[(self.head + i & self.room.wrapping_sub(1)) * width.words()] as Micros
    }

    /// The first position whose row is at `time` or later; `hint` is where it was last.
    #[inline]
    pub(super) fn first_at(&self, hint: usize, time: Micros, width: Width) -> usize {
        self.partition(hint, |i| self.time_at(i, width) < time)
    }

    /// The first position whose row is after `time`.
    #[inline]
    pub(super) fn first_after(&self, hint: usize, time: Micros, width: Width) -> usize {
        self.partition(hint, |i| self.time_at(i, width) <= time)
    }

    /// The first position whose row is after (`time`, `id`).
    #[inline]
    pub(super) fn first_after_row(
        &self,
        hint: usize,
        time: Micros,
        id: &Id,
        width: Width,
        heap: &Heap,
    ) -> usize {
        self.partition(hint, |i| match self.time_at(i, width).cmp(&time) {
            Ordering::Equal => RowRef(self.at(i, width.words())).id_cmp(id, heap).is_le(),
            order => order == Ordering::Less,
        })
    }

    /// Puts a row where it belongs; returns its position.
    #[inline]
    pub(super) fn insert(&mut self, row: &[u64], width: Width, heap: &Heap) -> usize {
        let place = self.place(row, width, heap);
        if self.len == self.room {
            self.resize((2 * self.room).max(2), width);
        }
        let (words, i) = (width.words(), place - self.base);
        self.len += 1;
        // Late rows are few and belong near the end.
        for j in (i + 1..self.len).rev() {
            let (from, to) = (self.start(j - 1, words), self.start(j, words));
            self.words.copy_within(from..from + words, to);
        }
        let start = self.start(i, words);
        self.words[start..start + words].copy_from_slice(row);
        place
    }

    #[inline]
    fn start(&self, i: usize, words: usize) -> usize {
        (self.head + i & self.room.wrapping_sub(1)) * words
    }

    /// Where exactly this row stands.
    pub(super) fn find(&self, row: &[u64], width: Width, heap: &Heap) -> Option<usize> {
        let after = self.place(row, width, heap);
        let i = after.checked_sub(self.base + 1)?;
        let found = RowRef(self.at(i, width.words()));
        (found.order(RowRef(row), width, heap) == Ordering::Equal).then_some(after - 1)
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, position: usize, width: Width, heap: &mut Heap) {
        let (words, i) = (width.words(), position - self.base);
        self.row(position, width).release(width, heap);
        for j in i..self.len - 1 {
            let (from, to) = (self.start(j + 1, words), self.start(j, words));
            self.words.copy_within(from..from + words, to);
        }
        self.len -= 1;
    }

    /// Lets go of the rows before a position, and of the room they took.
    pub(super) fn drop_before(&mut self, position: usize, width: Width, heap: &mut Heap) {
        let n = position - self.base;
        if heap.holds_anything() {
            (0..n).for_each(|i| RowRef(self.at(i, width.words())).release(width, heap));
        }
        self.head = self.head + n & self.room.wrapping_sub(1);
        self.len -= n;
        self.base = position;
        if self.room > 4 * self.len.max(1) {
            self.resize((2 * self.len).next_power_of_two(), width);
        }
    }

    fn resize(&mut self, room: usize, width: Width) {
        let words = width.words();
        let mut fresh =
            Vec::with_capacity(if self.len == 0 && room < 2 { 0 } else { room * words });
        (0..self.len).for_each(|i| fresh.extend_from_slice(self.at(i, words)));
        fresh.resize(fresh.capacity() / words * words, 0);
        self.room = fresh.len() / words;
        debug_assert!(self.room == 0 || self.room.is_power_of_two());
        (self.words, self.head) = (fresh, 0);
    }

    /// Lets go of all rows.
    pub(super) fn release(&mut self, width: Width, heap: &mut Heap) {
        self.drop_before(self.end(), width, heap);
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The position after all rows that do not order after this one.
    #[inline]
    fn place(&self, row: &[u64], width: Width, heap: &Heap) -> usize {
        let row = RowRef(row);
        self.partition(self.end(), |i| {
            RowRef(self.at(i, width.words())).order(row, width, heap).is_le()
        })
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

/// The order of values, with the forms that it holds equal (zeros, NaNs) apart.
fn by_bits(a: &Value, b: &Value) -> Ordering {
    a.cmp(b).then_with(|| match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits().cmp(&b.to_bits()),
        _ => Ordering::Equal,
    })
}
