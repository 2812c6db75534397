//! A line in the making: who asks for it, who gives what to it, and who waits.
//!
//! A worker's ingest chooses the round after the one that its capability holds: no operator anywhere
//! can have finished that, so every one of them meets the line before it takes a row behind it. Each
//! gives its part in its own time; a thread of its own ([`super::keeper`]) collects and writes them. No
//! capability is held meanwhile, and there is one line at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use tidemill_types::Micros;

use super::points;

/// The number of a round, as the dataflow has it.
pub type Round = u64;

const NONE: Round = Round::MAX;

/// What somebody gives to the line under way.
pub enum Gift {
    /// A round was chosen.
    Begin(Round),
    /// A worker's sources.
    Sources(usize, Vec<Position>),
    /// A worker's windows: by group, by range of key groups.
    Windows(usize, Vec<BTreeMap<u64, Vec<u8>>>),
    /// Everything that the mill holds, by name, and when its files are whole.
    Mill(Vec<(String, Vec<u8>)>, Vec<Wait>),
    /// The sinks, and files that must be on the disk.
    Sinks(Vec<u8>, Vec<File>),
}

/// Waits until something that a line names is durable.
pub type Wait = Box<dyn FnOnce() -> Result<(), tidemill_types::Error> + Send>;

/// From where a partition is read on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The source's name.
    pub source: String,
    /// The partition.
    pub partition: u32,
    /// The first offset to read; none for the very beginning.
    pub offset: Option<u64>,
    /// Offsets below it were handed on: what of them is before the line is in it.
    pub taken: u64,
    /// The largest event time of the rows before `offset`.
    pub latest: Option<Micros>,
    /// Records before `offset`.
    pub rows: u64,
}

/// What all threads of a run share about lines.
pub struct Lines {
    every: Duration,
    pending: AtomicU64,
    busy: AtomicBool,
    began: Mutex<Instant>,
    /// The oldest line that is retained: what only older ones name may go.
    oldest: AtomicU64,
    /// The number of the line under way or, without one, of the next.
    number: AtomicU64,
    to: Mutex<Option<Sender<Gift>>>,
    /// Workers that have read everything, with what is known of their partitions.
    ended: Mutex<BTreeMap<usize, Tracks>>,
}

/// What one worker's ingest knows of its partitions.
pub type Tracks = BTreeMap<(String, u32), Track>;

impl Lines {
    /// Lines so often, the next of this number; their parts go to `to`.
    pub fn new(every: Duration, next: u64, to: Sender<Gift>) -> Lines {
        Lines {
            every,
            pending: AtomicU64::new(NONE),
            busy: AtomicBool::new(false),
            began: Mutex::new(Instant::now()),
            oldest: AtomicU64::new(0),
            number: AtomicU64::new(next),
            to: Mutex::new(Some(to)),
            ended: Mutex::default(),
        }
    }

    /// Chooses the round of a line, if one is due and none is under way. `at` is the round that the
    /// caller's capability holds, and it holds it until this has returned.
    pub fn choose(&self, at: Round) {
        let due = || {
            let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
            began.elapsed() >= self.every
        };
        if self.busy.load(Ordering::Relaxed) || !due() || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let round = at + 1;
        self.give(Gift::Begin(round));
        self.pending.store(round, Ordering::SeqCst);
        points::pass("line.chosen");
    }

    /// The round of the line under way.
    pub fn pending(&self) -> Option<Round> {
        Some(self.pending.load(Ordering::SeqCst)).filter(|round| *round != NONE)
    }

    /// Gives something to the line under way.
    pub fn give(&self, gift: Gift) {
        if let Some(to) = self.to.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // A keeper that is gone has ended the run.
            let _ = to.send(gift);
        }
    }

    /// A worker has read everything.
    pub fn worker_ended(&self, worker: usize, tracks: Tracks) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, tracks);
    }

    /// The positions of a worker that has read everything.
    pub fn positions_of_ended(&self, worker: usize, before: Micros) -> Option<Vec<Position>> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get(&worker).map(|tracks| positions(tracks, before))
    }

    /// The line is done, or given up; `oldest` is the oldest retained.
    pub fn done(&self, oldest: Option<u64>) {
        if let Some(oldest) = oldest {
            self.oldest.store(oldest, Ordering::SeqCst);
            self.number.fetch_add(1, Ordering::SeqCst);
        }
        self.pending.store(NONE, Ordering::SeqCst);
        self.busy.store(false, Ordering::SeqCst);
    }

    /// The number of the line under way or, without one, of the next.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// The number of the oldest line that is retained.
    pub fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::SeqCst)
    }

    /// Nothing more will be given: the keeper may end.
    pub fn close(&self) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Shared by all who give.
pub type SharedLines = Arc<Lines>;

/// What is known of a partition: which stretch of its offsets may hold rows of which times.
///
/// A line keeps no row that was read ahead of it. A restart reads them again, from the first chunk
/// that holds one, and passes over what of it the line has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    chunks: std::collections::VecDeque<Read>,
    next: Option<u64>,
    /// What a run before had taken.
    taken: u64,
    latest: Option<Micros>,
    rows: u64,
}

/// One chunk, as its reader saw it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    /// The first offset; none at the very beginning.
    pub first: Option<u64>,
    /// The first offset behind it.
    pub next: u64,
    /// The largest event time before it, and with it.
    pub latest: (Option<Micros>, Option<Micros>),
    /// Records before it, and with it.
    pub rows: (u64, u64),
    /// The largest event time of its rows that were not late.
    pub highest: Micros,
}

impl Track {
    /// A chunk was handed on.
    pub fn take(&mut self, read: Read) {
        self.next = Some(read.next);
        (self.latest, self.rows) = (read.latest.1, read.rows.1);
        self.chunks.push_back(read);
    }

    /// Goes on from a position.
    pub fn resumed(position: &Position) -> Track {
        Track {
            chunks: <_>::default(),
            next: position.offset,
            taken: position.taken,
            latest: position.latest,
            rows: position.rows,
        }
    }

    /// Where to read on from, every row before this time being in the line: (offset, offsets that were
    /// taken, latest, rows).
    fn position(&self, before: Micros) -> (Option<u64>, u64, Option<Micros>, u64) {
        let taken = self.taken.max(self.next.unwrap_or(0));
        match self.chunks.iter().find(|chunk| chunk.highest >= before) {
            Some(chunk) => (chunk.first, taken, chunk.latest.0, chunk.rows.0),
            None => (self.next, taken, self.latest, self.rows),
        }
    }

    /// Forgets chunks that no later line needs.
    pub fn forget(&mut self, before: Micros) {
        while self.chunks.front().is_some_and(|chunk| chunk.highest < before) {
            self.chunks.pop_front();
        }
    }
}

/// The positions of these partitions at a line.
pub fn positions(tracks: &Tracks, before: Micros) -> Vec<Position> {
    let of = |((source, partition), track): (&(String, u32), &Track)| {
        let (offset, taken, latest, rows) = track.position(before);
        Position { source: source.clone(), partition: *partition, offset, taken, latest, rows }
    };
    tracks.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(first: u64, next: u64, highest: Micros) -> Read {
        let first = Some(first).filter(|first| *first > 0);
        Read {
            first,
            next,
            latest: (None, Some(highest)),
            rows: (first.unwrap_or(0), next),
            highest,
        }
    }

    #[test]
    fn a_partition_is_read_on_from_the_first_chunk_that_is_needed() {
        let mut track = Track::default();
        assert_eq!(track.position(0), (None, 0, None, 0));
        for read in [read(0, 10, 5), read(10, 20, 30), read(20, 30, 9)] {
            track.take(read);
        }
        assert_eq!(track.position(40), (Some(30), 30, Some(9), 30), "all of it is in");
        assert_eq!(track.position(20), (Some(10), 30, None, 10), "from the second chunk on");
        assert_eq!(track.position(5), (None, 30, None, 0), "from the beginning");
        track.forget(20);
        assert_eq!(track.position(20), (Some(10), 30, None, 10));
        assert_eq!(track.chunks.len(), 2);
    }

    #[test]
    fn one_line_at_a_time_and_none_too_soon() {
        let (to, from) = crossbeam_channel::unbounded();
        let lines = Lines::new(Duration::ZERO, 4, to.clone());
        lines.choose(7);
        lines.choose(9);
        assert_eq!((lines.pending(), from.len()), (Some(8), 1));
        lines.done(Some(2));
        assert_eq!((lines.pending(), lines.number(), lines.oldest()), (None, 5, 2));
        lines.choose(9);
        assert_eq!(lines.pending(), Some(10));
        let seldom = Lines::new(Duration::from_secs(3_600), 0, to);
        seldom.choose(7);
        assert_eq!(seldom.pending(), None);
    }
}
