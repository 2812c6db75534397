//! The online feature store of a running pipeline: the newest feature row of each entity, the newest
//! scored rows by id, and the models as they stand.
//!
//! One thread writes, the mill's ([`Keeper`]); any number read. A reader takes no lock: maps are
//! `papaya`'s, which readers walk while it is written to, and the models are swapped as a whole. So a
//! request can neither hold up the pipeline nor wait for it, and reads at one moment what was true at
//! one moment: a row is immutable once it is shown.
//!
//! Where the pipeline's leading edge is the wall clock, windows are read as of the request instead, where
//! the workers keep them (`clock.rs`): there a request waits for a round, and a round for a request.
//!
//! Entities are in checkpoints (`saved.rs`), so that a restart answers for them before their next rows come.
//!
//! What is held is bounded by the pipeline file: `max_entities` and `recent`. A read costs about 100 ns
//! beside the work on the row itself; a write about 1 us a row and 25 ns a feature.

mod clock;
mod desk;
mod keeper;
mod question;
mod saved;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tidemill_types::{Id, Key, Micros, Value};

pub use self::desk::Desk;
pub use self::keeper::Keeper;
pub use self::view::{Judge, ModelView, View, choose};
use crate::mill::join::Scored;

/// The newest features of an entity.
#[derive(Debug)]
pub struct EntityRow {
    /// Event time of the row.
    pub time: Micros,
    /// Its id.
    pub id: Id,
    /// Its features, in the order of the pipeline file.
    pub features: Box<[Value]>,
    /// What the program keeps beside them: see [`tidemill_operators::dataflow::Kept`].
    pub kept: Box<[Value]>,
    /// Counts the updates of the store, so that the one updated longest ago is known.
    sequence: u64,
}

/// What is held for requests.
pub struct Online {
    entities: papaya::HashMap<Key, Arc<EntityRow>>,
    rows: papaya::HashMap<Id, Arc<Scored>>,
    view: ArcSwap<View>,
    /// Everything before this event time is done.
    as_of: AtomicI64,
    evicted: AtomicU64,
    /// By feature.
    seen: Vec<Seen>,
}

/// What went by of a feature since the run began.
#[derive(Debug)]
pub struct Seen {
    rows: AtomicU64,
    nulls: AtomicU64,
    newest: AtomicI64,
}

impl Default for Seen {
    fn default() -> Seen {
        let newest = AtomicI64::new(Micros::MIN);
        Seen { rows: AtomicU64::new(0), nulls: AtomicU64::new(0), newest }
    }
}

impl Seen {
    /// Rows that had the feature, as a value or as NULL.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Those of them in which it was NULL.
    pub fn nulls(&self) -> u64 {
        self.nulls.load(Ordering::Relaxed)
    }

    /// The event time of the newest row in which it was not.
    pub fn newest(&self) -> Option<Micros> {
        Some(self.newest.load(Ordering::Relaxed)).filter(|at| *at > Micros::MIN)
    }
}

impl Default for Online {
    fn default() -> Online {
        Online {
            entities: papaya::HashMap::new(),
            rows: papaya::HashMap::new(),
            view: ArcSwap::from_pointee(View::default()),
            as_of: AtomicI64::new(Micros::MIN),
            evicted: AtomicU64::new(0),
            seen: Vec::new(),
        }
    }
}

impl Online {
    /// An empty store for rows of so many features.
    pub fn new(features: usize) -> Online {
        Online { seen: (0..features).map(|_| Seen::default()).collect(), ..Online::default() }
    }

    /// What went by of each feature.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The newest features of an entity.
    pub fn entity(&self, key: Key) -> Option<Arc<EntityRow>> {
        self.entities.pin().get(&key).map(Arc::clone)
    }

    /// A row as it was scored.
    pub fn row(&self, id: &Id) -> Option<Arc<Scored>> {
        self.rows.pin().get(id).map(Arc::clone)
    }

    /// The models as they stand.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The event time up to which everything is done; nothing before the first.
    pub fn as_of(&self) -> Option<Micros> {
        Some(self.as_of.load(Ordering::Acquire)).filter(|at| *at > Micros::MIN)
    }

    /// Entities held.
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// Entities that had to leave for others.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}
