//! A line in the making: who asks for it, who gives what to it, and who waits.
//!
//! A worker's ingest chooses the round after the one that its capability holds: no operator anywhere
//! can have finished that, so every one of them meets the line before it takes a row behind it. Each
//! gives its part in its own time; a thread of its own ([`super::keeper`]) collects and writes them. No
//! capability is held meanwhile, and there is one line at a time.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use tidemill_types::Micros;

use super::points;
use crate::host::Host;

/// The number of a round, as the dataflow has it.
pub type Round = u64;

const NONE: Round = Round::MAX;

/// What somebody gives to the line under way.
pub enum Gift {
    /// A round was chosen.
    Begin(Round),
    /// A worker's sources.
    Sources(usize, SavedSources),
    /// A worker's windows: by group, by range of key groups.
    Windows(usize, Vec<BTreeMap<u64, Vec<u8>>>),
    /// `at_once`: a worker's rows that are owed their last answer.
    Held(usize, Vec<u8>),
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
    /// `at_once`: rows of offsets below `taken` that are before this time are in the line. In `final` that time
    /// is the line's own.
    pub before: Option<Micros>,
}

/// Where a worker's sources stand at a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSources {
    /// One a partition.
    pub positions: Vec<Position>,
    /// Its watermark.
    pub mark: Micros,
}

/// What belongs to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// `final`: what is before this event time.
    Time(Micros),
    /// `at_once`: what was handed on before this round.
    Round(Round),
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
    host: Host,
    /// Workers that have read everything, with what is known of their partitions.
    ended: Mutex<BTreeMap<usize, Tracks>>,
}

/// What one worker's ingest knows of its partitions, and of its watermark.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    /// By source and partition.
    pub partitions: BTreeMap<(String, u32), Track>,
    /// `at_once`: the watermark after each round since the last line.
    marks: VecDeque<(Round, Micros)>,
    /// The watermark before them.
    mark: Option<Micros>,
}

impl Tracks {
    /// Those of partitions that go on from there, with the watermark that was told.
    pub fn new(partitions: BTreeMap<(String, u32), Track>, mark: Micros) -> Tracks {
        Tracks { partitions, marks: VecDeque::new(), mark: Some(mark) }
    }

    /// A watermark was told.
    pub fn mark(&mut self, round: Round, mark: Micros) {
        self.marks.push_back((round, mark));
    }

    /// Where everything stands at a line.
    pub fn at(&self, cut: Cut) -> SavedSources {
        let of = |((source, partition), track): (&(String, u32), &Track)| {
            let (source, partition) = (source.clone(), *partition);
            Position { source, partition, ..track.position(cut) }
        };
        let told = |(round, _): &&(Round, Micros)| cut.has(*round);
        let told = self.marks.iter().take_while(told).last().map(|(_, mark)| *mark);
        let mark = told.or(self.mark).unwrap_or(Micros::MIN);
        SavedSources { positions: self.partitions.iter().map(of).collect(), mark }
    }

    /// Forgets what no later line needs.
    pub fn forget(&mut self, cut: Cut) {
        self.mark = Some(self.at(cut).mark);
        while self.marks.pop_front_if(|(round, _)| cut.has(*round)).is_some() {}
        self.partitions.values_mut().for_each(|track| track.forget(cut));
    }
}

impl Cut {
    fn has(self, round: Round) -> bool {
        matches!(self, Cut::Round(line) if round < line)
    }
}

impl Lines {
    /// Lines so often, the next of this number; their parts go to `to`.
    pub fn new(every: Duration, next: u64, to: Sender<Gift>, host: Host) -> Lines {
        Lines {
            every,
            pending: AtomicU64::new(NONE),
            busy: AtomicBool::new(false),
            began: Mutex::new(host.now()),
            oldest: AtomicU64::new(0),
            number: AtomicU64::new(next),
            to: Mutex::new(Some(to)),
            host,
            ended: Mutex::default(),
        }
    }

    /// Chooses the round of a line, if one is due and none is under way. `at` is the round that the
    /// caller's capability holds, and it holds it until this has returned.
    pub fn choose(&self, at: Round) {
        let due = || {
            let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
            self.host.since(*began) >= self.every
        };
        if self.busy.load(Ordering::Relaxed) || !due() || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = self.host.now();
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
    pub fn sources_of_ended(&self, worker: usize, cut: Cut) -> Option<SavedSources> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get(&worker).map(|tracks| tracks.at(cut))
    }

    /// The line is done, or given up; `oldest` is the oldest retained. Its number is spent: a manifest may stand whose
    /// store did not say so.
    pub fn done(&self, oldest: Option<u64>) {
        if let Some(oldest) = oldest {
            self.oldest.store(oldest, Ordering::SeqCst);
        }
        self.number.fetch_add(1, Ordering::SeqCst);
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
    /// By the round in which they were handed on; in `final` that does not matter.
    chunks: VecDeque<(Round, Read)>,
    /// How far the partition is, and was when the last line was made.
    now: Far,
    then: Far,
    /// What a run before had taken, and `at_once`, before which time it had let rows of that go.
    taken: u64,
    let_go: Option<Micros>,
    /// `at_once`: how far rows may be out of order, if they wait for each other.
    sort: Option<Micros>,
    /// `at_once`: the round in which the partition was read to its end for ever.
    finished: Option<Round>,
}

/// How far a partition was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Far {
    next: Option<u64>,
    latest: Option<Micros>,
    rows: u64,
}

impl Far {
    fn behind(read: &Read) -> Far {
        Far { next: Some(read.next), latest: read.latest.1, rows: read.rows.1 }
    }
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
    /// Nothing was read yet; `sort` is that of the source.
    pub fn new(sort: Option<Micros>) -> Track {
        Track { sort, ..Track::default() }
    }

    /// Goes on from a position.
    pub fn resumed(position: &Position, sort: Option<Micros>) -> Track {
        let Position { offset, latest, rows, taken, before: let_go, .. } = *position;
        let far = Far { next: offset, latest, rows };
        Track { now: far, then: far, taken, let_go, sort, ..Track::default() }
    }

    /// A chunk was handed on.
    pub fn take(&mut self, round: Round, read: Read) {
        self.now = Far::behind(&read);
        self.chunks.push_back((round, read));
    }

    /// The partition was read to its end for ever.
    pub fn finish(&mut self, round: Round) {
        self.finished = Some(round);
    }

    /// How far its offsets were handed on.
    pub fn next(&self) -> u64 {
        self.now.next.unwrap_or(0).max(self.taken)
    }

    /// Where to read on from, everything that belongs to the line being in it. The names are the caller's.
    fn position(&self, cut: Cut) -> Position {
        let (far, before) = match cut {
            Cut::Time(before) => (self.now, before),
            Cut::Round(_) => {
                let last = self.chunks.iter().take_while(|(round, _)| cut.has(*round)).last();
                let far = last.map_or(self.then, |(_, read)| Far::behind(read));
                let finished = self.finished.is_some_and(|round| cut.has(round));
                // Rows that waited for each other are those that their reader had not let go.
                let before = match self.sort.filter(|_| !finished) {
                    Some(sort) => far.latest.map_or(Micros::MIN, |l| l.saturating_sub(sort)),
                    None => Micros::MAX,
                };
                (far, before.max(self.let_go.unwrap_or(Micros::MIN)))
            }
        };
        let taken = self.taken.max(far.next.unwrap_or(0));
        let in_line = |round: Round| matches!(cut, Cut::Time(_)) || cut.has(round);
        let mut chunks = self.chunks.iter().take_while(|(round, _)| in_line(*round));
        let (offset, latest, rows) = match chunks.find(|(_, read)| read.highest >= before) {
            Some((_, read)) => (read.first, read.latest.0, read.rows.0),
            None => (far.next, far.latest, far.rows),
        };
        let before = matches!(cut, Cut::Round(_)).then_some(before);
        Position { source: String::new(), partition: 0, offset, taken, latest, rows, before }
    }

    /// Forgets chunks that no later line needs.
    fn forget(&mut self, cut: Cut) {
        let before = self.position(cut).before;
        while let Some((round, read)) = self.chunks.front() {
            let done = match (cut, before) {
                (Cut::Time(before), _) => read.highest < before,
                (_, before) => cut.has(*round) && before.is_some_and(|b| read.highest < b),
            };
            if !done {
                break;
            }
            self.then = Far::behind(read);
            self.chunks.pop_front();
        }
    }
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
        assert_eq!(place(&track, Cut::Time(0)), (None, 0, None, 0));
        for read in [read(0, 10, 5), read(10, 20, 30), read(20, 30, 9)] {
            track.take(0, read);
        }
        let at = |track: &Track, before| place(track, Cut::Time(before));
        assert_eq!(at(&track, 40), (Some(30), 30, Some(9), 30), "all of it is in");
        assert_eq!(at(&track, 20), (Some(10), 30, None, 10), "from the second chunk on");
        assert_eq!(at(&track, 5), (None, 30, None, 0), "from the beginning");
        track.forget(Cut::Time(20));
        assert_eq!(at(&track, 20), (Some(10), 30, None, 10));
        assert_eq!(track.chunks.len(), 2);
    }

    fn place(track: &Track, cut: Cut) -> (Option<u64>, u64, Option<Micros>, u64) {
        let Position { offset, taken, latest, rows, .. } = track.position(cut);
        (offset, taken, latest, rows)
    }

    #[test]
    fn a_round_has_what_was_handed_on_before_it() {
        let mut track = Track::new(None);
        for (round, read) in [(3, read(0, 10, 5)), (3, read(10, 20, 30)), (6, read(20, 30, 9))] {
            track.take(round, read);
        }
        let at = |track: &Track, round| place(track, Cut::Round(round));
        assert_eq!(at(&track, 3), (None, 0, None, 0), "nothing was handed on before it");
        for round in 4..=6 {
            assert_eq!(at(&track, round), (Some(20), 20, Some(30), 20));
        }
        assert_eq!(at(&track, 7), (Some(30), 30, Some(9), 30));
        track.forget(Cut::Round(5));
        assert_eq!(track.chunks.len(), 1);
        assert_eq!(at(&track, 5), (Some(20), 20, Some(30), 20), "as before");
        assert_eq!(at(&track, 7), (Some(30), 30, Some(9), 30));
    }

    #[test]
    fn rows_that_wait_for_each_other_are_read_again() {
        let mut track = Track::new(Some(10));
        let chunk = |first, next, latest: (i64, i64), highest| Read {
            first: Some(first),
            next,
            latest: (Some(latest.0), Some(latest.1)),
            rows: (first, next),
            highest,
        };
        track.take(1, chunk(1, 5, (0, 40), 40));
        track.take(2, chunk(5, 9, (40, 45), 45));
        let position = track.position(Cut::Round(3));
        assert_eq!((position.offset, position.taken), (Some(1), 9), "40 has not been let go");
        assert_eq!(position.before, Some(35), "what is before it has");
        track.take(3, chunk(9, 12, (45, 60), 60));
        assert_eq!(track.position(Cut::Round(4)).offset, Some(9));
        // A restart that has come only to a part of what it reads again knows that all of it was taken.
        let mut again = Track::resumed(&position, Some(10));
        again.take(3, chunk(1, 5, (0, 40), 40));
        let (was, is) = (position, again.position(Cut::Round(4)));
        assert_eq!((is.taken, is.before, is.offset), (was.taken, was.before, was.offset));
        track.finish(4);
        let position = track.position(Cut::Round(5));
        assert_eq!((position.offset, position.before), (Some(12), Some(Micros::MAX)));
        track.forget(Cut::Round(4));
        assert_eq!(track.chunks.len(), 1);
    }

    #[test]
    fn the_watermark_of_a_line_is_the_one_that_was_told_before_it() {
        let mut tracks = Tracks::new(BTreeMap::new(), 7);
        for (round, mark) in [(2, 20), (4, 40), (6, 60)] {
            tracks.mark(round, mark);
        }
        let at = |tracks: &Tracks, round| tracks.at(Cut::Round(round)).mark;
        assert_eq!([2, 3, 4, 5, 9].map(|round| at(&tracks, round)), [7, 20, 20, 40, 60]);
        tracks.forget(Cut::Round(5));
        assert_eq!([5, 6, 7].map(|round| at(&tracks, round)), [40, 40, 60]);
        assert_eq!(tracks.marks.len(), 1);
    }

    #[test]
    fn one_line_at_a_time_and_none_too_soon() {
        let (to, from) = crossbeam_channel::unbounded();
        let lines = Lines::new(Duration::ZERO, 4, to.clone(), Host::default());
        lines.choose(7);
        lines.choose(9);
        assert_eq!((lines.pending(), from.len()), (Some(8), 1));
        lines.done(Some(2));
        assert_eq!((lines.pending(), lines.number(), lines.oldest()), (None, 5, 2));
        lines.choose(9);
        assert_eq!(lines.pending(), Some(10));
        lines.done(None);
        assert_eq!((lines.number(), lines.oldest()), (6, 2), "one that was given up may stand");
        let seldom = Lines::new(Duration::from_secs(3_600), 0, to, Host::default());
        seldom.choose(7);
        assert_eq!(seldom.pending(), None);
    }
}
