//! The store as of a line: the newest row of each entity, in parts by ranges of key groups.
//!
//! Whoever writes to the store only says when the line is; whoever writes lines collects the entities, while requests
//! are answered and rows come. A row that is replaced meanwhile is laid aside first, so that each row of the line is
//! found in the store, aside, or both.
//!
//! A part has some thousand entities, in the order of their keys, so that one of which no entity was updated has the same
//! bytes as before and is not written again. The newest scored rows by id are in no line: what asks for them has seen them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tidemill_types::{Id, KEY_GROUPS, Key, Micros, Value};

use super::{EntityRow, Keeper};
use crate::checkpoint::line::{Later, Parts};
use crate::checkpoint::section;

/// Entities of a part, about; with twenty features that is near a MiB.
const ENTITIES: usize = 4_096;

/// An entity: key, time, id, features, what is kept beside them, when it was updated among all.
type Saved<F, K> = (Key, Micros, Id, F, K, u64);

/// A line that is being saved.
#[derive(Debug)]
pub(super) struct Cut {
    /// The update before it.
    last: u64,
    /// Rows of it that the store has no more.
    aside: Mutex<Vec<(Key, Arc<EntityRow>)>>,
}

impl Cut {
    /// Is told of each row before the store lets go of it.
    pub(super) fn leaves(&self, key: Key, row: &Arc<EntityRow>) {
        if row.sequence <= self.last {
            let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
            aside.push((key, Arc::clone(row)));
        }
    }
}

impl Keeper {
    /// All entities as of now, as bytes by the names of the parts. To be called by any thread, at any time: it walks over
    /// all of them and encodes each. Until it was called, or dropped, a row that is replaced stays in memory, one for each
    /// entity at most.
    pub fn save(&mut self) -> Later {
        let cut = Arc::new(Cut { last: self.sequence, aside: Mutex::default() });
        self.cut = Arc::downgrade(&cut);
        let online = Arc::clone(&self.online);
        Box::new(move || {
            let mut rows: BTreeMap<Key, Arc<EntityRow>> = BTreeMap::new();
            for (key, row) in &online.entities.pin() {
                if row.sequence <= cut.last {
                    rows.insert(*key, Arc::clone(row));
                }
            }
            let mut aside = cut.aside.lock().unwrap_or_else(PoisonError::into_inner);
            rows.extend(std::mem::take(&mut *aside));
            drop(aside);
            encode(&rows)
        })
    }

    /// Takes the entities of a line into a store that is empty.
    ///
    /// # Errors
    /// Parts that hold something else.
    pub fn restore(&mut self, parts: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
        let mut updates = Vec::new();
        let held = self.online.entities.pin();
        for (name, content) in parts.iter().filter(|(name, _)| name.starts_with("entities/")) {
            let rows: Vec<Saved<Box<[Value]>, Box<[Value]>>> =
                section::decode(content).map_err(|why| format!("`{name}`: {why}"))?;
            for (key, time, id, features, kept, sequence) in rows {
                updates.push((sequence, key));
                let row = EntityRow { time, id, features, kept, sequence };
                held.insert(key, Arc::new(row));
            }
        }
        drop(held);
        updates.sort_unstable();
        self.sequence = updates.last().map_or(0, |(sequence, _)| *sequence);
        self.updates = updates.into();
        self.bound();
        Ok(())
    }

    /// The line that is being saved.
    pub(super) fn cut(&self) -> Option<Arc<Cut>> {
        Weak::upgrade(&self.cut)
    }
}

fn encode(rows: &BTreeMap<Key, Arc<EntityRow>>) -> Result<Parts, String> {
    let ranges = rows.len().div_ceil(ENTITIES).next_power_of_two().min(KEY_GROUPS as usize);
    let mut parts: Vec<Vec<Saved<&[Value], &[Value]>>> = vec![Vec::new(); ranges];
    for (key, row) in rows {
        let range = key.group() as usize * ranges / KEY_GROUPS as usize;
        let of = (*key, row.time, row.id.clone(), &*row.features, &*row.kept, row.sequence);
        parts[range].push(of);
    }
    let part = |(range, rows)| Ok((format!("entities/{ranges}/{range}"), section::encode(&rows)?));
    parts.into_iter().enumerate().map(part).collect()
}
