//! What is put into a store for a line: a part that did not change since the last one is not put again.

use std::collections::{BTreeMap, HashMap, HashSet};

use tidemill_types::Error;
use xxhash_rust::xxh3::xxh3_128;

use super::manifest::Part;
use super::store::Store;
use super::{points, section};

/// A store, and what was put there last.
pub struct Depot {
    /// The store.
    pub store: Store,
    /// What was put under each name last.
    known: HashMap<String, (u128, Part)>,
    /// Bytes of parts that were new, since [`Depot::begin`].
    pub written: u64,
}

/// A part has about so many bytes, where there are as many: each one that is new costs a wait for the disk.
const PART: usize = 1 << 20;

impl Depot {
    /// Nothing was put yet.
    pub fn new(store: Store) -> Depot {
        Depot { store, known: HashMap::new(), written: 0 }
    }

    /// A line begins.
    pub fn begin(&mut self) {
        self.written = 0;
    }

    /// Puts a part.
    ///
    /// # Errors
    /// A store that does not take it.
    pub fn put(&mut self, name: String, content: &[u8]) -> Result<Part, Error> {
        let hash = xxh3_128(content);
        if let Some((known, part)) = self.known.get(&name)
            && *known == hash
        {
            return Ok(part.clone());
        }
        let part = self.store.put(&name, content)?;
        points::pass("line.part");
        self.written += part.bytes;
        self.known.insert(name, (hash, part.clone()));
        Ok(part)
    }

    /// Puts a worker's windows: by group, by range of key groups.
    ///
    /// # Errors
    /// See [`Depot::put`].
    pub fn windows(
        &mut self,
        worker: usize,
        groups: Vec<BTreeMap<u64, Vec<u8>>>,
    ) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for (group, ranges) in groups.into_iter().enumerate() {
            for (first, ranges) in gathered(ranges) {
                let bytes = section::encode(&ranges).map_err(Error::internal)?;
                parts.push(self.put(format!("windows/{group}/{first}/{worker}"), &bytes)?);
            }
        }
        Ok(parts)
    }

    /// The line stands: only what is in it may be in the next one without being put.
    pub fn stands(&mut self, parts: &[Part]) {
        let names: HashSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        self.known.retain(|name, _| names.contains(name.as_str()));
    }

    /// The line was given up: which of its parts have arrived is not known.
    pub fn forget(&mut self) {
        self.known.clear();
        let _ = self.store.settle();
    }
}

/// Ranges of keys side by side, with the first one's number.
fn gathered(ranges: BTreeMap<u64, Vec<u8>>) -> Vec<(u64, Vec<Vec<u8>>)> {
    let mut parts: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    let mut bytes = PART;
    for (range, content) in ranges {
        if bytes >= PART {
            parts.push((range, Vec::new()));
            bytes = 0;
        }
        bytes += content.len();
        if let Some((_, part)) = parts.last_mut() {
            part.push(content);
        }
    }
    parts
}
