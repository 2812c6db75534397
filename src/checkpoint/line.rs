//! A line in the making: who asks for it, who gives what to it, and who waits.
//!
//! A worker's ingest chooses the round after the one that its capability holds: no operator anywhere
//! can have finished that, so every one of them meets the line before it takes a row behind it. Each
//! gives its part in its own time; a thread of its own ([`super::keeper`]) collects and writes them. No
//! capability is held meanwhile, and there is one line at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use tidemill_types::Micros;

use super::manifest::Part;
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
    /// A worker's windows.
    Windows(usize, Windows),
    /// `at_once`: a worker's rows that are owed their last answer.
    Held(usize, Vec<u8>),
    /// Everything that the mill holds.
    Mill {
        /// What it has saved.
        parts: Parts,
        /// What is saved by whoever writes the line.
        later: Option<Later>,
        /// When its files are whole.
        waits: Vec<Wait>,
    },
    /// The sinks, and files that must be on the disk.
    Sinks(Vec<u8>, Vec<File>),
    /// What another process has put into the store for the line at a round, or why it has not.
    Parts(usize, Round, Result<Vec<Part>, String>),
}

/// What another process than the head gives to the head's line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Given {
    /// A worker's sources.
    Sources(usize, SavedSources),
    /// A worker has read everything.
    Ended(usize, Tracks),
    /// See [`Gift::Parts`].
    Parts(Round, Result<Vec<Part>, String>),
}

/// The windows of a worker: by group, by range of key groups. They are put in order by whoever writes them.
pub type Windows = Box<dyn FnOnce() -> Vec<BTreeMap<u64, Vec<u8>>> + Send>;

/// Bytes by name.
pub type Parts = Vec<(String, Vec<u8>)>;

/// Saves what was there when it was made.
pub type Later = Box<dyn FnOnce() -> Result<Parts, String> + Send>;

/// The way to the head.
pub type ToHead = Box<dyn Fn(Given) + Send + Sync>;

/// Tells other processes of a line, and that it is done.
pub type TellOthers = Box<dyn Fn(Option<Round>) + Send + Sync>;

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
    /// Workers of all processes, and which of them have said where their sources stand at the line under way.
    workers: usize,
    stood: Mutex<BTreeSet<usize>>,
    /// In the head of several processes: how many others there are and how they hear of a line, which is under way
    /// here when all have: until then it is proposed.
    others: OnceLock<(usize, TellOthers)>,
    proposed: AtomicU64,
    heard: AtomicUsize,
    /// In another process than the head: the way there.
    head: OnceLock<ToHead>,
    /// Rung when an ingest has said where it stands.
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What one worker's ingest knows of its partitions, and of its watermark.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Lines so often, the next of this number, of so many workers; their parts go to `to`.
    pub fn new(every: Duration, next: u64, workers: usize, to: Sender<Gift>, host: Host) -> Lines {
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
            workers,
            stood: Mutex::default(),
            others: OnceLock::new(),
            proposed: AtomicU64::new(NONE),
            heard: AtomicUsize::new(0),
            head: OnceLock::new(),
            bell: OnceLock::new(),
        }
    }

    /// Whoever waits at the [`Lines::gate`] is woken so.
    pub fn wake(&self, bell: Box<dyn Fn() + Send + Sync>) {
        let _ = self.bell.set(bell);
    }

    /// There are so many other processes, and that is how they hear of a line.
    pub fn tell_others(&self, many: usize, tell: TellOthers) {
        let _ = self.others.set((many, tell));
    }

    /// The lines are made by another process.
    pub fn give_to_head(&self, way: ToHead) {
        let _ = self.head.set(way);
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
        self.stood.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.give(Gift::Begin(round));
        match self.others.get() {
            None => self.pending.store(round, Ordering::SeqCst),
            Some((_, tell)) => {
                self.heard.store(0, Ordering::SeqCst);
                self.proposed.store(round, Ordering::SeqCst);
                tell(Some(round));
            }
        }
        points::pass("line.chosen");
    }

    /// Another process has heard of the line: when all have, it is under way.
    pub fn heard(&self) {
        let others = self.others.get().map_or(0, |(many, _)| *many);
        if self.heard.fetch_add(1, Ordering::SeqCst) + 1 == others {
            let round = self.proposed.swap(NONE, Ordering::SeqCst);
            self.pending.store(round, Ordering::SeqCst);
        }
    }

    /// Whether a line was chosen of which not all processes have heard: the ingest that chose it holds its round.
    pub fn is_proposed(&self) -> bool {
        self.proposed.load(Ordering::SeqCst) != NONE
    }

    /// Whether lines are chosen by the first worker alone: the others may be in other processes, which do not wait.
    pub fn chosen_by_first(&self) -> bool {
        self.others.get().is_some()
    }

    /// Another process has chosen a line.
    pub fn begin(&self, round: Round) {
        self.give(Gift::Begin(round));
        self.pending.store(round, Ordering::SeqCst);
    }

    /// The line that another process has chosen is done, or given up.
    pub fn over(&self) {
        self.pending.store(NONE, Ordering::SeqCst);
    }

    /// The line under way, if not every ingest has said yet where it stands. Nobody passes it before: what an ingest
    /// has refused up to there belongs before the line, and was sent before it said so.
    pub fn gate(&self) -> Option<Round> {
        let round = self.pending()?;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let stood = self.stood.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = |worker: usize| stood.contains(&worker) || ended.contains_key(&worker);
        (!(0..self.workers).all(stands)).then_some(round)
    }

    /// The round of the line under way.
    pub fn pending(&self) -> Option<Round> {
        Some(self.pending.load(Ordering::SeqCst)).filter(|round| *round != NONE)
    }

    /// Gives something to the line under way.
    pub fn give(&self, gift: Gift) {
        if let Gift::Sources(worker, saved) = &gift {
            if let Some(head) = self.head.get() {
                return head(Given::Sources(*worker, saved.clone()));
            }
            self.stood.lock().unwrap_or_else(PoisonError::into_inner).insert(*worker);
            self.bell.get().into_iter().for_each(|ring| ring());
        }
        if let Some(to) = self.to.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // A keeper that is gone has ended the run.
            let _ = to.send(gift);
        }
    }

    /// A worker has read everything.
    pub fn worker_ended(&self, worker: usize, tracks: Tracks) {
        if let Some(head) = self.head.get() {
            return head(Given::Ended(worker, tracks));
        }
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, tracks);
        self.bell.get().into_iter().for_each(|ring| ring());
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
        if let Some((_, tell)) = self.others.get() {
            tell(None);
        }
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
mod tests;
