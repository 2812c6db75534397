//! The rows of one key, once, in (event time, id, values) order, by column.
//!
//! Rows are known by *position*: how many rows precede them, those let go of included, so that a
//! position stays valid while rows in front go.

use std::cmp::Ordering;
use std::collections::VecDeque;

use tidemill_types::{Id, Micros, Value};

pub(super) struct Log {
    /// The position of the first row held.
    base: usize,
    times: VecDeque<Micros>,
    ids: VecDeque<Id>,
    /// `width` to a row.
    values: VecDeque<Value>,
    width: usize,
    /// Bytes of ids and texts on the heap.
    text: usize,
}

impl Log {
    pub(super) fn new(width: usize) -> Log {
        let (times, ids, values) = Default::default();
        Log { base: 0, times, ids, values, width, text: 0 }
    }

    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// The position after the last row.
    pub(super) fn end(&self) -> usize {
        self.base + self.times.len()
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    #[inline]
    pub(super) fn time(&self, position: usize) -> Micros {
        self.times[position - self.base]
    }

    /// Kept column `column` of a row.
    #[inline]
    pub(super) fn value(&self, position: usize, column: usize) -> &Value {
        &self.values[(position - self.base) * self.width + column]
    }

    /// The first position whose row is at `time` or later; `hint` is where it was last.
    #[inline]
    pub(super) fn first_at(&self, hint: usize, time: Micros) -> usize {
        self.partition(hint, |i| self.times[i] < time)
    }

    /// The first position whose row is after `time`.
    #[inline]
    pub(super) fn first_after(&self, hint: usize, time: Micros) -> usize {
        self.partition(hint, |i| self.times[i] <= time)
    }

    /// The first position whose row is after (`time`, `id`).
    #[inline]
    pub(super) fn first_after_row(&self, hint: usize, time: Micros, id: &Id) -> usize {
        self.partition(hint, |i| match self.times[i].cmp(&time) {
            Ordering::Equal => self.ids[i] <= *id,
            order => order == Ordering::Less,
        })
    }

    /// The first position whose row is at (`time`, `id`) or after.
    #[inline]
    pub(super) fn first_at_row(&self, hint: usize, time: Micros, id: &Id) -> usize {
        self.partition(hint, |i| match self.times[i].cmp(&time) {
            Ordering::Equal => self.ids[i] < *id,
            order => order == Ordering::Less,
        })
    }

    /// Event times of the rows on both sides of a position.
    pub(super) fn around(&self, before: usize, after: usize) -> (Option<Micros>, Option<Micros>) {
        let before = before.checked_sub(self.base + 1).and_then(|i| self.times.get(i));
        (before.copied(), self.times.get(after - self.base).copied())
    }

    /// Puts a row where it belongs; returns its position.
    pub(super) fn insert(
        &mut self,
        time: Micros,
        id: &Id,
        values: &[Value],
        columns: &[usize],
    ) -> usize {
        let position = self.place(time, id, values, columns);
        let i = position - self.base;
        let row = columns.iter().map(|&c| values.get(c).cloned().unwrap_or_default());
        self.text += heap(id);
        if i == self.times.len() {
            self.values.extend(row);
        } else {
            for (c, value) in row.enumerate() {
                self.values.insert(i * self.width + c, value);
            }
        }
        self.text += self.row(i).map(text).sum::<usize>();
        self.times.insert(i, time);
        self.ids.insert(i, id.clone());
        position
    }

    /// Where exactly this row stands.
    pub(super) fn find(
        &self,
        time: Micros,
        id: &Id,
        values: &[Value],
        columns: &[usize],
    ) -> Option<usize> {
        let after = self.place(time, id, values, columns);
        let i = after.checked_sub(self.base + 1)?;
        (self.order(i, time, id, values, columns) == Ordering::Equal).then_some(after - 1)
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, position: usize) {
        let i = position - self.base;
        self.text -= self.ids.get(i).map_or(0, heap) + self.row(i).map(text).sum::<usize>();
        self.times.remove(i);
        self.ids.remove(i);
        self.values.drain(i * self.width..(i + 1) * self.width);
    }

    /// Lets go of the rows before a position, and of the room they took.
    pub(super) fn drop_before(&mut self, position: usize) {
        let n = position - self.base;
        let freed: usize = self.ids.drain(..n).map(|id| heap(&id)).sum();
        self.text -= freed + self.values.drain(..n * self.width).map(|v| text(&v)).sum::<usize>();
        self.times.drain(..n);
        self.base = position;
        if self.times.capacity() > 4 * self.times.len() + 16 {
            let room = 2 * self.times.len();
            self.times.shrink_to(room);
            self.ids.shrink_to(room);
            self.values.shrink_to(room * self.width);
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<Micros>()
            + self.ids.capacity() * size_of::<Id>()
            + self.values.capacity() * size_of::<Value>()
            + self.text
    }

    fn row(&self, i: usize) -> impl Iterator<Item = &Value> {
        self.values.range(i * self.width..(i + 1) * self.width)
    }

    /// The position after all rows that do not order after this one.
    fn place(&self, time: Micros, id: &Id, values: &[Value], columns: &[usize]) -> usize {
        self.partition(self.end(), |i| self.order(i, time, id, values, columns).is_le())
    }

    /// How row `i` orders against another. Values break ties of id, so that rows with one id stand
    /// in one order whatever the order they came in.
    fn order(
        &self,
        i: usize,
        time: Micros,
        id: &Id,
        values: &[Value],
        columns: &[usize],
    ) -> Ordering {
        let other = columns.iter().map(|&c| values.get(c).unwrap_or(&Value::Null));
        let by_values =
            || self.row(i).zip(other).map(|(a, b)| by_bits(a, b)).find(|order| order.is_ne());
        self.times[i]
            .cmp(&time)
            .then_with(|| self.ids[i].cmp(id))
            .then_with(|| by_values().unwrap_or(Ordering::Equal))
    }

    /// The first position that is not `before`, tried near `hint` first: requests come in order.
    #[inline]
    fn partition(&self, hint: usize, before: impl Fn(usize) -> bool) -> usize {
        let len = self.times.len();
        let mut i = hint.saturating_sub(self.base).min(len);
        if i == 0 || before(i - 1) {
            for _ in 0..4 {
                if i == len || !before(i) {
                    return self.base + i;
                }
                i += 1;
            }
        }
        let (mut low, mut high) = (0, len);
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

fn heap(id: &Id) -> usize {
    match id {
        Id::Int(_) => 0,
        Id::Text(text) => text.len(),
        Id::Row(bytes) => bytes.len(),
    }
}

fn text(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}
