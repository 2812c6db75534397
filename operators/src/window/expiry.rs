//! When each key is to be looked at again: a heap of (due, place), at most one live entry a key. Keys are known by their
//! places: an entry takes a fourth of a cache line, and what it names is found without a look-up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tidemill_types::Micros;

#[derive(Default)]
pub(super) struct Expiry {
    heap: BinaryHeap<Reverse<(Micros, u32)>>,
}

impl Expiry {
    /// Enters a key, if there is something to wait for; returns what the key is to remember.
    pub(super) fn schedule(&mut self, place: u32, due: Option<Micros>) -> Option<Micros> {
        self.heap.extend(due.map(|due| Reverse((due, place))));
        due
    }

    /// Enters all keys anew, whose places have changed.
    pub(super) fn renew(&mut self, all: impl Iterator<Item = (Micros, u32)>) {
        self.heap = all.map(Reverse).collect();
    }

    /// The next key that is due at `watermark`.
    pub(super) fn pop(&mut self, watermark: Micros) -> Option<(u32, Micros)> {
        let Reverse((due, place)) = *self.heap.peek().filter(|entry| entry.0.0 <= watermark)?;
        self.heap.pop();
        if self.heap.capacity() > 4 * self.heap.len() + 64 {
            self.heap.shrink_to(2 * self.heap.len());
        }
        Some((place, due))
    }

    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(Micros, u32)>>()
    }
}
