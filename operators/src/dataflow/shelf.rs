//! Where the stores of all workers stand, so that others than their workers can look into them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidemill_types::{Key, Micros, Value};

use crate::window::Store;

/// The window stores of every worker: by worker, by group of the program.
///
/// A worker holds its own for as long as it takes a round in, so that whoever looks sees a worker's
/// windows as of the end of a round. They stay when the dataflow has ended.
pub struct Shelf(Vec<Mutex<Vec<Store>>>);

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The worker has not begun.
    NotYet,
    /// The watermark has passed the time: what could be seen then may have been let go.
    Before(Micros),
}

impl Shelf {
    /// Of so many workers, none of which has begun.
    pub fn new(workers: usize) -> Shelf {
        Shelf((0..workers).map(|_| Mutex::default()).collect())
    }

    /// The stores of a worker, which are its own until this is dropped.
    pub(super) fn of(&self, worker: usize) -> MutexGuard<'_, Vec<Store>> {
        // A look changes nothing that a later request depends on, so that one which panicked did no harm.
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`Store::peek`] into a group of windows. Waits while the worker that owns the key takes a round in, and
    /// makes it wait as long as the look lasts.
    ///
    /// # Errors
    /// Times that the watermark has passed; a worker that has not begun.
    pub fn peek(
        &self,
        group: usize,
        key: Option<Key>,
        time: Micros,
        out: &mut Vec<Value>,
    ) -> Result<(), Unseen> {
        let worker = key.map_or(0, |key| key.worker(self.0.len()));
        let mut stores = self.of(worker);
        let store = stores.get_mut(group).ok_or(Unseen::NotYet)?;
        store.peek(key, time, out).map_err(Unseen::Before)
    }
}
