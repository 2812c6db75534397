//! Windows: which rows of a key an aggregate sees, kept incrementally and exactly.
//!
//! A [`Store`] keeps the rows of every key of one *group*, the windows over the same sources by the same
//! key, once and in (event time, id) order; a window is a cursor into them plus its primitives. Of rows of one
//! time, those of another source stand before or after all of this one ([`Rank`]).
//!
//! A read moves the cursors to where it stands, forward or back, taking rows in and out of the
//! primitives on the way. Primitives are exact, so the way never shows in the answer: late rows,
//! retractions and reads out of order give the bits that a recomputation from all rows would give.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use hashbrown::HashMap;
use tidemill_config::plan::{Edge, Frame};
use tidemill_types::{Id, Key, Micros, Value};

use crate::aggregate::Aggregate;
use crate::column::Cell;

mod answers;
mod cut;
mod entry;
mod expiry;
mod frame;
mod heap;
mod held;
mod history;
mod layout;
mod leaving;
mod log;
mod mark;
mod members;
mod moving;
mod peek;
mod rank;
mod row;
mod session;
mod snapshot;
mod standing;
mod tiles;

pub use answers::Answers;
pub use members::members;
pub use rank::{Name, Rank};

use answers::One;
use cut::Cut;
use expiry::Expiry;
use heap::Heap;
use held::Reply;
use history::{AsOf, History, Scratch};
use layout::Layout;
pub use snapshot::{Pieces, RANGES};

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
    /// Whether reads come from a stream that is inserted, the last of them ([`Rank::LAST`]): then a read at
    /// (t, id) sees the rows at or before (t, id), itself included, and of other streams every row with time
    /// <= t; else it sees every row with time <= t of all. A window with an offset sees every row with time
    /// <= t - offset, whatever the stream.
    pub own_stream: bool,
    /// What each read answers, in order.
    pub outputs: Vec<Output>,
}

/// The rows and windows of one group.
///
/// Cost of a request in time order: a hash look-up and, per window, one step of each primitive for
/// every row that enters or leaves it; of a key of few rows, one step for every row in the window. A
/// late row costs a binary search and a move of the rows behind it; a read out of order, the rows between.
pub struct Store {
    layout: Layout,
    places: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    keys: Vec<History>,
    /// Whose history each place has.
    named: Vec<Key>,
    free: Vec<u32>,
    heap: Heap,
    /// What is being saved.
    cut: Option<Box<Cut>>,
    scratch: Scratch,
    /// A row on its way in.
    row: Vec<u64>,
    /// What a read over no rows answers.
    empty: Vec<Value>,
    expiry: Expiry,
    watermark: Micros,
}

impl Store {
    /// An empty store.
    pub fn new(group: Group) -> Store {
        let layout = Layout::new(group);
        let mut empty = vec![Value::Null; layout.outputs.len()];
        let (heap, mut scratch) = (Heap::default(), layout.scratch());
        let at = AsOf { time: Micros::MIN, id: &Id::Int(0) };
        let mut one = One { layout: &layout, values: &mut empty };
        History::new(&layout).read(&layout, at, &heap, &mut scratch, &mut one);
        Store {
            layout,
            places: HashMap::default(),
            keys: Vec::new(),
            named: Vec::new(),
            free: Vec::new(),
            heap,
            cut: None,
            scratch,
            row: Vec::new(),
            empty,
            expiry: Expiry::default(),
            watermark: Micros::MIN,
        }
    }

    /// Takes a row in, wherever it belongs in time; `values` are the columns that outputs name (one
    /// that is missing is NULL).
    pub fn insert<'n>(
        &mut self,
        key: Key,
        time: Micros,
        name: impl Into<Name<'n>>,
        values: &[Value],
    ) {
        let place = self.place(key);
        self.insert_at(place, key, time, name, |c| values.get(c).map_or(Cell::Null, Cell::from));
    }

    /// Where a key's rows are, or will be. It stands until rows are let go of: [`Store::retract`],
    /// [`Store::advance`].
    #[inline]
    pub fn place(&mut self, key: Key) -> u32 {
        let Store { layout, places, keys, named, free, .. } = self;
        *places.entry(key).or_insert_with(|| {
            let fresh = History::new(layout);
            match free.pop() {
                Some(place) => {
                    keys[place as usize] = fresh;
                    named[place as usize] = key;
                    place
                }
                None => {
                    keys.push(fresh);
                    named.push(key);
                    keys.len() as u32 - 1
                }
            }
        })
    }

    /// Reads what requests to these places will touch, so that the memory of several keys is on its
    /// way at once. It changes nothing; what it returns means nothing.
    pub fn touch(&self, places: impl Iterator<Item = u32>) -> u64 {
        let touch = |place: u32| self.keys[place as usize].touch();
        places.fold(0, |sum, place| sum ^ touch(place))
    }

    /// [`Store::insert`] at the place of the key; `cell` gives the columns.
    #[inline]
    pub fn insert_at<'a, 'n>(
        &mut self,
        place: u32,
        key: Key,
        time: Micros,
        name: impl Into<Name<'n>>,
        cell: impl Fn(usize) -> Cell<'a>,
    ) {
        let Store { layout, keys, heap, row, expiry, cut, .. } = self;
        let history = &mut keys[place as usize];
        if let Some(cut) = cut {
            cut.before_change(place, key, history, layout, heap);
        }
        layout.width.encode(time, name.into(), |kept| cell(layout.columns[kept]), heap, row);
        history.insert(layout, row, heap);
        if history.is_outgrown() {
            let next = history.next_due(layout, true);
            let sooner = next.filter(|due| history.due.is_none_or(|known| *due < known));
            history.due = expiry.schedule(place, sooner).or(history.due);
        }
    }

    /// Finds anew when a key is to be looked at.
    fn look_again(&mut self, place: u32) {
        let history = &mut self.keys[place as usize];
        let next = history.next_due(&self.layout, false);
        history.due = self.expiry.schedule(place, next);
    }

    /// Takes back a row that was inserted with exactly these arguments; false if it is not there, or has been put
    /// into a tile.
    ///
    /// Of a row that [`Store::advance`] let go of, `lifetime` windows hold no more than its part in
    /// their sums: it is taken back on trust. A window of the newest n rows then shows fewer than n
    /// until new ones come, for the row that would move up is gone.
    pub fn retract<'n>(
        &mut self,
        key: Key,
        time: Micros,
        name: impl Into<Name<'n>>,
        values: &[Value],
    ) -> bool {
        let Store { layout, places, keys, heap, row, watermark, cut, .. } = self;
        let Some(&place) = places.get(&key) else { return false };
        if let Some(cut) = cut {
            cut.before_change(place, key, &keys[place as usize], layout, heap);
        }
        let cell = |kept: usize| values.get(layout.columns[kept]).map_or(Cell::Null, Cell::from);
        layout.width.encode(time, name.into(), cell, heap, row);
        let history = &mut keys[place as usize];
        let found = history.retract(layout, row, heap)
            || time < *watermark && history.retract_folded(layout, time, cell);
        layout.width.forget(row, heap);
        if history.is_empty() {
            self.remove(key, place);
        }
        found
    }

    fn remove(&mut self, key: Key, place: u32) {
        self.places.remove(&key);
        std::mem::take(&mut self.keys[place as usize]).release(&mut self.heap);
        self.free.push(place);
    }

    /// Answers every output as of (time, id), the id that of a row of the last stream, appended to `out`. For
    /// each key, reads come in (time, id) order for full speed; a read before an earlier one is right too, but
    /// takes as many steps as there are rows between. Reads before the watermark see what is still held.
    pub fn read(&mut self, key: Option<Key>, time: Micros, id: &Id, out: &mut Vec<Value>) {
        let first = out.len();
        out.resize(first + self.empty.len(), Value::Null);
        let Store { layout, keys, heap, scratch, empty, cut, .. } = self;
        match key.and_then(|key| self.places.get(&key)) {
            Some(&place) => {
                if let Some(cut) = cut {
                    cut.before_read(place, &self.named, keys, layout, heap);
                }
                let mut one = One { layout, values: &mut out[first..] };
                keys[place as usize].read(layout, AsOf { time, id }, heap, scratch, &mut one);
            }
            None => out[first..].clone_from_slice(empty),
        }
    }

    /// Answers every output as of (time, id) at the place of a key; without one, what a key without
    /// rows answers. All answers must be to reads of one store.
    #[inline]
    pub fn read_at(&mut self, place: Option<u32>, time: Micros, id: &Id, answers: &mut Answers) {
        let Store { layout, keys, named, heap, scratch, empty, cut, .. } = self;
        answers.begin(layout);
        match place {
            Some(place) => {
                if let Some(cut) = cut {
                    cut.before_read(place, named, keys, layout, heap);
                }
                keys[place as usize].read(layout, AsOf { time, id }, heap, scratch, answers);
            }
            None => {
                answers.nothing();
                for (n, output) in layout.outputs.iter().enumerate() {
                    if output.mark.is_none() {
                        answers.value(n, empty[n].clone());
                    }
                }
            }
        }
    }

    /// The answers as columns, an output each.
    pub fn finish(&self, answers: Answers) -> Vec<ArrayRef> {
        answers.finish(&self.layout)
    }

    /// The place of a key that has rows.
    pub fn find(&self, key: Key) -> Option<u32> {
        self.places.get(&key).copied()
    }

    /// Lets go of what no read at `watermark` or later can see, in all keys. A key is looked at only
    /// when half of its rows have expired, so the cost is constant per row; until then the others
    /// stay.
    pub fn advance(&mut self, watermark: Micros) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        while let Some((place, due)) = self.expiry.pop(watermark) {
            // An entry that is no longer named is left from an earlier life of the key or the place.
            let (key, history) = (self.named[place as usize], &mut self.keys[place as usize]);
            if history.due != Some(due) {
                continue;
            }
            if let Some(cut) = &mut self.cut {
                cut.before_change(place, key, history, &self.layout, &self.heap);
            }
            let scratch = &mut self.scratch.states;
            history.trim(&self.layout, watermark, &mut self.heap, scratch);
            if history.is_empty() {
                self.remove(key, place);
            } else {
                let next = history.next_due(&self.layout, false).filter(|due| *due > watermark);
                history.due = self.expiry.schedule(place, next);
            }
        }
        // A cut knows keys by their places.
        if self.cut.is_none() && self.places.capacity() > 4 * self.places.len() + 64 {
            self.compact();
        }
    }

    /// Gives back the memory of keys that are gone.
    fn compact(&mut self) {
        let mut keys = Vec::with_capacity(self.places.len());
        let mut named = Vec::with_capacity(self.places.len());
        self.places.shrink_to(2 * self.places.len());
        for (key, place) in &mut self.places {
            keys.push(std::mem::take(&mut self.keys[*place as usize]));
            named.push(*key);
            *place = keys.len() as u32 - 1;
        }
        let due = keys.iter().zip(0..).filter_map(|(history, place)| Some((history.due?, place)));
        self.expiry.renew(due);
        (self.keys, self.named, self.free) = (keys, named, Vec::new());
    }

    /// Keys, rows and bytes held, estimated. Walks over all keys.
    pub fn size(&self) -> (usize, usize, usize) {
        let rows = self.keys.iter().map(History::rows).sum();
        let bytes: usize = self.keys.iter().map(History::bytes).sum();
        let keys = self.places.allocation_size()
            + self.keys.capacity() * size_of::<History>()
            + self.named.capacity() * size_of::<Key>();
        (self.places.len(), rows, bytes + keys + self.heap.bytes() + self.expiry.bytes())
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
