//! How far each partition was read when event time came to a tick: what a model's lineage says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use tidemill_operators::dataflow::Reached as Ticks;
use tidemill_types::Micros;

use super::rows::OrderedRows;

/// The offsets of all partitions, by event time.
///
/// Readers are ahead of the mill by as much as it pleases them, so where they stand says nothing that
/// could be repeated. An offset is kept with its row's tick instead, until the mill has passed it:
/// one number for each tick of the run-ahead and partition.
pub struct Offsets {
    tick: Micros,
    /// `at_once`: the clock stands still within a tick, of which more is to come: it is passed when it is over.
    whole: bool,
    /// The time that was passed last.
    clock: AtomicI64,
    partitions: Mutex<BTreeMap<String, Reached>>,
}

/// Offsets as of a line: by partition, what was passed, and what of the ticks before the line was not.
pub type SavedOffsets = Vec<(String, Option<u64>, Vec<(i64, u64)>)>;

#[derive(Default)]
struct Reached {
    passed: Option<u64>,
    ahead: BTreeMap<i64, u64>,
}

impl Reached {
    fn reach(&mut self, tick: i64, offset: u64) {
        let highest = self.ahead.entry(tick).or_insert(offset);
        *highest = (*highest).max(offset);
    }
}

impl Offsets {
    /// Nothing is read yet; `tick` is that of the pipeline. With `whole` a tick is passed when it is over.
    pub fn new(tick: Micros, whole: bool) -> Offsets {
        Offsets { tick, whole, clock: AtomicI64::new(Micros::MIN), partitions: Mutex::default() }
    }

    /// Takes rows that a reader hands on.
    pub fn note(&self, source: &str, partition: u32, rows: &OrderedRows) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = partitions.entry(format!("{source}/{partition}")).or_default();
        // Rows come nearly in order: one division and one look-up for each run of rows of a tick.
        let (mut tick, mut within, mut highest) = (0, 0..0, 0);
        for (time, offset) in rows.times.iter().zip(&rows.offsets) {
            if within.contains(time) {
                highest = highest.max(*offset);
                continue;
            }
            if !within.is_empty() {
                reached.reach(tick, highest);
            }
            tick = time.div_euclid(self.tick);
            let start = tick.saturating_mul(self.tick);
            within = start..start.saturating_add(self.tick);
            highest = *offset;
        }
        if !within.is_empty() {
            reached.reach(tick, highest);
        }
    }

    /// What was noted since this was asked last, for another process.
    pub fn drain(&self) -> Ticks {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let new = partitions.iter_mut().filter(|(_, reached)| !reached.ahead.is_empty());
        new.map(|(name, reached)| {
            (name.clone(), std::mem::take(&mut reached.ahead).into_iter().collect())
        })
        .collect()
    }

    /// Takes what another process has noted.
    pub fn take(&self, reached: Ticks) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, ticks) in reached {
            let reached = partitions.entry(name).or_default();
            ticks.into_iter().for_each(|(tick, offset)| reached.reach(tick, offset));
        }
    }

    /// The highest offset of each partition, `source/partition`, of rows up to the tick of this time.
    /// Times never fall from call to call. `at_once` a label may be of a time that has not been passed, of which more
    /// or less may have been read ahead: it is the time that has then.
    pub fn through(&self, time: Micros) -> Vec<(String, u64)> {
        self.forget(if self.whole { time.min(self.clock.load(Ordering::SeqCst)) } else { time });
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = |(name, reached): (&String, &Reached)| Some((name.clone(), reached.passed?));
        partitions.iter().filter_map(passed).collect()
    }

    /// What is known of rows before this time, which begins a tick.
    pub fn save(&self, before: Micros) -> SavedOffsets {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        // Rows of `at_once` that were handed on are not read again, whatever their time.
        let end = if self.whole { i64::MAX } else { before.div_euclid(self.tick) };
        let of = |(name, reached): (&String, &Reached)| {
            let ahead = reached.ahead.range(..end).map(|(tick, offset)| (*tick, *offset));
            (name.clone(), reached.passed, ahead.collect())
        };
        partitions.iter().map(of).collect()
    }

    /// Takes back what was saved; rows read again may have been noted already.
    pub fn resume(&self, saved: SavedOffsets) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, passed, ahead) in saved {
            let reached = partitions.entry(name).or_default();
            reached.passed = reached.passed.max(passed);
            ahead.into_iter().for_each(|(tick, offset)| reached.reach(tick, offset));
        }
    }

    /// Forgets at which tick each row up to this time's tick came.
    pub fn pass(&self, time: Micros) {
        self.clock.fetch_max(time, Ordering::SeqCst);
        self.forget(time);
    }

    fn forget(&self, time: Micros) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match self.whole {
            true => time.saturating_add(1).div_euclid(self.tick),
            false => time.div_euclid(self.tick) + 1,
        };
        for reached in partitions.values_mut() {
            while let Some(first) = reached.ahead.first_entry().filter(|e| *e.key() < next) {
                reached.passed = reached.passed.max(Some(first.remove()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;

    use super::*;

    fn rows(times: &[Micros], first: u64) -> OrderedRows {
        OrderedRows {
            times: times.to_vec(),
            ids: Vec::new(),
            offsets: (first..).take(times.len()).collect(),
            batch: RecordBatch::new_empty(Arc::new(Schema::empty())),
        }
    }

    #[test]
    fn what_is_read_ahead_does_not_show() {
        let (far, near) = (Offsets::new(10, false), Offsets::new(10, false));
        far.note("a", 0, &rows(&[1, 12, 9, 25, 31, 99], 5));
        near.note("a", 0, &rows(&[1, 12, 9, 25], 5));
        for offsets in [&far, &near] {
            assert_eq!(offsets.through(8), [("a/0".to_string(), 7)]);
            assert_eq!(offsets.through(20), [("a/0".to_string(), 8)]);
        }
        assert_eq!(far.through(1_000), [("a/0".to_string(), 10)]);
        assert!(far.partitions.lock().unwrap()["a/0"].ahead.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn a_tick_that_is_not_over_is_not_passed_at_once() {
        let offsets = Offsets::new(10, true);
        offsets.note("a", 0, &rows(&[1, 12, 19, 25], 5));
        let through = |offsets: &Offsets, time| {
            offsets.pass(time);
            offsets.through(time)
        };
        assert_eq!(through(&offsets, 18), [("a/0".to_string(), 5)]);
        assert_eq!(
            offsets.through(29),
            [("a/0".to_string(), 5)],
            "a label from ahead of the clock"
        );
        assert_eq!(through(&offsets, 19), [("a/0".to_string(), 7)]);
        let later = Offsets::new(10, true);
        later.resume(offsets.save(Micros::MIN));
        assert_eq!(later.through(29), [("a/0".to_string(), 7)]);
        assert_eq!(through(&later, 29), [("a/0".to_string(), 8)]);
    }

    #[test]
    fn what_another_process_notes_is_as_if_it_were_noted_here() {
        let (here, there, both) =
            (Offsets::new(10, false), Offsets::new(10, false), Offsets::new(10, false));
        for (offsets, source, times) in [(&here, "a", [1, 12]), (&there, "b", [3, 25])] {
            offsets.note(source, 0, &rows(&times, 5));
            both.note(source, 0, &rows(&times, 5));
        }
        here.take(there.drain());
        assert!(there.drain().is_empty(), "each is told once");
        there.note("b", 0, &rows(&[26], 9));
        both.note("b", 0, &rows(&[26], 9));
        here.take(there.drain());
        for time in [4, 14, 30] {
            assert_eq!(here.through(time), both.through(time));
        }
    }

    #[test]
    fn a_partition_without_rows_yet_has_no_offset() {
        let offsets = Offsets::new(10, false);
        offsets.note("a", 1, &rows(&[50], 0));
        assert_eq!(offsets.through(40), []);
        assert_eq!(offsets.through(50), [("a/1".to_string(), 0)]);
    }
}
