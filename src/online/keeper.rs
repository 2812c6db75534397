//! The writing end of the store. There is one, on the mill's thread.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use tidemill_operators::column::{keys, values};
use tidemill_types::{Id, Key, Micros, Value};

use super::saved::Cut;
use super::{EntityRow, Online, View};
use crate::engine::check::Compiled;
use crate::mill::join::Scored;

/// Online models are copied no more often than this: a table of hashed categories takes a millisecond.
const COPY_EVERY: Duration = Duration::from_millis(100);

/// Updates that may be on record beyond twice the entities held, before those overtaken are forgotten.
const SLACK: usize = 4_096;

/// Writes to the store.
pub struct Keeper {
    pub(super) online: Arc<Online>,
    /// Columns at the front of what is kept that name the entity; 0 where the pipeline names none.
    entity: usize,
    max_entities: usize,
    recent: usize,
    pub(super) sequence: u64,
    /// Updates in their order; one that was overtaken by a later one of the same entity is skipped.
    pub(super) updates: VecDeque<(u64, Key)>,
    ids: VecDeque<Id>,
    copied: Option<Instant>,
    /// Whether a model has learnt since it was copied.
    pub behind: bool,
    /// Gone when the line is saved.
    pub(super) cut: Weak<Cut>,
}

impl Keeper {
    /// Over an empty store.
    pub fn new(online: Arc<Online>, compiled: &Compiled) -> Keeper {
        let plan = compiled.plan.online.as_ref();
        Keeper {
            online,
            entity: compiled.program.kept.as_ref().map_or(0, |kept| kept.entity.len()),
            max_entities: plan.map_or(0, |plan| plan.max_entities as usize),
            recent: plan.map_or(100_000, |plan| plan.recent as usize),
            sequence: 0,
            updates: VecDeque::new(),
            ids: VecDeque::new(),
            copied: None,
            behind: false,
            cut: Weak::new(),
        }
    }

    /// Takes rows in. Of each entity the newest by (event time, id) stays; an equal one is a correction
    /// and replaces it.
    pub fn rows(
        &mut self,
        times: &[Micros],
        ids: &[Id],
        features: &RecordBatch,
        kept: Option<&RecordBatch>,
    ) {
        self.notice(times, features);
        let Some(kept) = kept.filter(|_| self.entity > 0) else { return };
        let keys = keys(&kept.columns()[..self.entity], times.len());
        let mut newest: HashMap<Key, u32> = HashMap::new();
        for (row, key) in keys.iter().enumerate() {
            let Some(key) = key else { continue };
            let held = newest.entry(*key).or_insert(row as u32);
            let at = *held as usize;
            if (times[at], &ids[at]) <= (times[row], &ids[row]) {
                *held = row as u32;
            }
        }
        let mut picks: Vec<u32> = newest.into_values().collect();
        picks.sort_unstable();
        let rows = UInt32Array::from(picks.clone());
        let of = |columns: &[ArrayRef]| -> Vec<Vec<Value>> {
            let take = |column| take(column, &rows, None).expect("picks are rows");
            columns.iter().map(|column| values(&take(column))).collect()
        };
        let mut features: Vec<_> = of(features.columns()).into_iter().map(Vec::into_iter).collect();
        let mut rest: Vec<_> =
            of(&kept.columns()[self.entity..]).into_iter().map(Vec::into_iter).collect();
        let (pinned, cut) = (self.online.entities.pin(), self.cut());
        for row in picks.into_iter().map(|row| row as usize) {
            let next = |columns: &mut Vec<std::vec::IntoIter<Value>>| -> Box<[Value]> {
                columns.iter_mut().map(|column| column.next().unwrap_or_default()).collect()
            };
            let (features, kept) = (next(&mut features), next(&mut rest));
            let Some(key) = keys[row] else { continue };
            let (time, id) = (times[row], ids[row].clone());
            if let Some(held) = pinned.get(&key) {
                if (held.time, &held.id) > (time, &id) {
                    continue;
                }
                cut.iter().for_each(|cut| cut.leaves(key, held));
            }
            self.sequence += 1;
            let sequence = self.sequence;
            pinned.insert(key, Arc::new(EntityRow { time, id, features, kept, sequence }));
            self.updates.push_back((sequence, key));
        }
        drop(pinned);
        self.bound();
    }

    /// Lets go of the entities that were updated longest ago, beyond so many.
    pub(super) fn bound(&mut self) {
        let (pinned, cut) = (self.online.entities.pin(), self.cut());
        let last = |(n, key): &(u64, Key)| pinned.get(key).filter(|held| held.sequence == *n);
        while pinned.len() > self.max_entities {
            let Some(oldest) = self.updates.pop_front() else { break };
            if let Some(held) = last(&oldest) {
                cut.iter().for_each(|cut| cut.leaves(oldest.1, held));
                pinned.remove(&oldest.1);
                self.online.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.updates.len() > 2 * pinned.len() + SLACK {
            self.updates.retain(|update| last(update).is_some());
        }
    }

    /// Counts rows and NULLs of each feature: some nanoseconds a feature and batch, for Arrow knows how
    /// many NULLs a column has, and the newest row mostly has a value.
    fn notice(&self, times: &[Micros], features: &RecordBatch) {
        for (seen, column) in self.online.seen.iter().zip(features.columns()) {
            seen.rows.fetch_add(column.len() as u64, Ordering::Relaxed);
            seen.nulls.fetch_add(column.null_count() as u64, Ordering::Relaxed);
            if let Some(row) =
                (0..column.len().min(times.len())).rev().find(|r| column.is_valid(*r))
            {
                seen.newest.fetch_max(times[row], Ordering::Relaxed);
            }
        }
    }

    /// Takes a scored row in.
    pub fn scored(&mut self, row: &Arc<Scored>) {
        if self.recent == 0 {
            return;
        }
        let rows = self.online.rows.pin();
        if rows.insert(row.id.clone(), Arc::clone(row)).is_none() {
            self.ids.push_back(row.id.clone());
        }
        while self.ids.len() > self.recent {
            if let Some(oldest) = self.ids.pop_front() {
                rows.remove(&oldest);
            }
        }
    }

    /// Updates on record.
    #[cfg(test)]
    pub(super) fn backlog(&self) -> usize {
        self.updates.len()
    }

    /// Whether models that learn should be copied again; `last` is said at the end of a run.
    pub fn wants_copies(&mut self, last: bool) -> bool {
        let due = last || self.copied.is_none_or(|at| at.elapsed() >= COPY_EVERY);
        if due {
            self.copied = Some(Instant::now());
        }
        due
    }

    /// The view that is shown now.
    pub fn shown(&self) -> Arc<View> {
        self.online.view()
    }

    /// Shows the models as they stand, and how far everything is.
    pub fn show(&mut self, view: View, as_of: Option<Micros>) {
        self.online.view.store(Arc::new(view));
        if let Some(as_of) = as_of {
            self.online.as_of.store(as_of, Ordering::Release);
        }
    }
}
