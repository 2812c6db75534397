//! Windows: which rows of a key an aggregate sees, kept incrementally and exactly.
//!
//! A [`Store`] keeps the rows of every key of one *group*, the windows over one source by the same
//! key, once and in (event time, id) order; a window is a cursor into them plus its primitives.
//!
//! A read moves the cursors to where it stands, forward or back, taking rows in and out of the
//! primitives on the way. Primitives are exact, so the way never shows in the answer: late rows,
//! retractions and reads out of order give the bits that a recomputation from all rows would give.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use tidemill_config::plan::{Edge, Frame};
use tidemill_types::{Id, Key, Micros, Value};

use crate::aggregate::Aggregate;

mod expiry;
mod frame;
mod history;
mod layout;
mod log;
mod session;

use expiry::Expiry;
use history::History;
use layout::Layout;

/// One aggregate over one window of a group.
#[derive(Clone)]
pub struct Output {
    /// The frame of its window.
    pub frame: Frame,
    /// What of the present its window leaves out.
    pub edge: Edge,
    /// The column it reads: index into a row's values; none for `count(*)`.
    pub column: Option<usize>,
    /// The second column that it reads.
    pub second: Option<usize>,
    /// `FILTER (WHERE ...)`: index of a column of truth values.
    pub filter: Option<usize>,
    /// The aggregate.
    pub aggregate: Arc<dyn Aggregate>,
}

/// What a group keeps and answers.
#[derive(Clone)]
pub struct Group {
    /// Whether reads come from the stream that is inserted: then a read at (t, id) sees the rows at
    /// or before (t, id), itself included; else every row with time <= t. A window with an offset sees
    /// every row with time <= t - offset, whatever the stream.
    pub own_stream: bool,
    /// What each read answers, in order.
    pub outputs: Vec<Output>,
}

/// The rows and windows of one group.
///
/// Cost of a request in time order: a hash look-up and, per window, one step of each primitive for
/// every row that enters or leaves it. A late row costs a binary search and a move of the rows
/// behind it; a read out of order, the rows between.
pub struct Store {
    layout: Layout,
    keys: HashMap<Key, History, BuildHasherDefault<KeyHasher>>,
    /// What a read over no rows answers.
    empty: Vec<Value>,
    expiry: Expiry,
    watermark: Micros,
}

impl Store {
    /// An empty store.
    pub fn new(group: Group) -> Store {
        let layout = Layout::new(group);
        let mut empty = Vec::with_capacity(layout.outputs.len());
        History::new(&layout).answer(&layout, Micros::MIN, &mut empty);
        Store {
            layout,
            keys: HashMap::default(),
            empty,
            expiry: Expiry::default(),
            watermark: Micros::MIN,
        }
    }

    /// Takes a row in, wherever it belongs in time; `values` are the columns that outputs name (one
    /// that is missing is NULL).
    pub fn insert(&mut self, key: Key, time: Micros, id: &Id, values: &[Value]) {
        let layout = &self.layout;
        let history = self.keys.entry(key).or_insert_with(|| History::new(layout));
        history.insert(layout, time, id, values);
        if history.due.is_none() {
            history.due = self.expiry.schedule(key, history.next_due(layout));
        }
    }

    /// Takes back a row that was inserted with exactly these arguments; false if it is not there.
    ///
    /// Of a row that [`Store::advance`] let go of, `lifetime` windows hold no more than its part in
    /// their sums: it is taken back on trust. A window of the newest n rows then shows fewer than n
    /// until new ones come, for the row that would move up is gone.
    pub fn retract(&mut self, key: Key, time: Micros, id: &Id, values: &[Value]) -> bool {
        let Some(history) = self.keys.get_mut(&key) else { return false };
        let found = history.retract(&self.layout, time, id, values)
            || time < self.watermark && history.retract_folded(&self.layout, time, values);
        if history.is_empty() {
            self.keys.remove(&key);
        }
        found
    }

    /// Answers every output as of (time, id), appended to `out`. For each key, reads come in
    /// (time, id) order for full speed; a read before an earlier one is right too, but takes as many
    /// steps as there are rows between. Reads before the watermark see what is still held.
    pub fn read(&mut self, key: Option<Key>, time: Micros, id: &Id, out: &mut Vec<Value>) {
        match key.and_then(|key| self.keys.get_mut(&key)) {
            Some(history) => {
                history.seek(&self.layout, time, id);
                history.answer(&self.layout, time, out);
            }
            None => out.extend_from_slice(&self.empty),
        }
    }

    /// Lets go of what no read at `watermark` or later can see, in all keys. A key is looked at only
    /// when half of its rows have expired, so the cost is constant per row; until then the others
    /// stay.
    pub fn advance(&mut self, watermark: Micros) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        while let Some((key, due)) = self.expiry.pop(watermark) {
            // An entry that the key no longer names is left from an earlier life of it.
            let Some(history) = self.keys.get_mut(&key).filter(|h| h.due == Some(due)) else {
                continue;
            };
            history.trim(&self.layout, watermark);
            if history.is_empty() {
                self.keys.remove(&key);
            } else {
                let next = history.next_due(&self.layout).filter(|due| *due > watermark);
                history.due = self.expiry.schedule(key, next);
            }
        }
        if self.keys.capacity() > 4 * self.keys.len() + 64 {
            self.keys.shrink_to(2 * self.keys.len());
        }
    }

    /// Keys, rows and bytes held, estimated. Walks over all keys.
    pub fn size(&self) -> (usize, usize, usize) {
        let rows = self.keys.values().map(History::rows).sum();
        let bytes: usize = self.keys.values().map(History::bytes).sum();
        (self.keys.len(), rows, bytes + self.keys.allocation_size() + self.expiry.bytes())
    }
}

/// A key is a hash already: its low bits index the table (the high ones name its group).
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
