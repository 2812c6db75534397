//! When each key is to be looked at again: a heap of (due, key), at most one live entry a key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tidemill_types::{Key, Micros};

#[derive(Default)]
pub(super) struct Expiry {
    heap: BinaryHeap<Reverse<(Micros, Key)>>,
}

impl Expiry {
    /// Enters a key, if there is something to wait for; returns what the key is to remember.
    pub(super) fn schedule(&mut self, key: Key, due: Option<Micros>) -> Option<Micros> {
        self.heap.extend(due.map(|due| Reverse((due, key))));
        due
    }

    /// The next key that is due at `watermark`.
    pub(super) fn pop(&mut self, watermark: Micros) -> Option<(Key, Micros)> {
        let Reverse((due, key)) = *self.heap.peek().filter(|entry| entry.0.0 <= watermark)?;
        self.heap.pop();
        if self.heap.capacity() > 4 * self.heap.len() + 64 {
            self.heap.shrink_to(2 * self.heap.len());
        }
        Some((key, due))
    }

    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(Micros, Key)>>()
    }
}
