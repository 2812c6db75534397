//! Where events enter the dataflow: one operator per worker takes what its readers have brought,
//! cuts it into rounds and moves the frontier.
//!
//! A reader that is ahead of the others in event time waits: the source that holds the watermark
//! back is always read, the others only while few of their rows are in flight. So memory is bounded
//! although timely has no flow control of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use tidemill_config::plan::Mode;
use tidemill_operators::dataflow::{HeldRows, Program, Reached, Round, Rows};
use tidemill_types::{Error, Micros};

use super::bell::Bell;
use super::feed::{Feed, FeedState};
use super::lines::LineSeat;
use super::offsets::Offsets;
use super::outputs::Outputs;
use super::pace::Pace;
use super::reader::{PartitionState, Piece};
use super::rows::OrderedRows;
use super::watermarks::Watermarks;
use crate::checkpoint::epochs::Epochs;

mod advance;
mod repeat;
#[cfg(test)]
mod tests;

use self::repeat::Repeat;
pub use self::repeat::{Repeated, repeated};

/// Rows handed over in one go, so that the rest of the dataflow gets its turn.
const TURN: usize = 16_384;

/// How soon a source that has rows and may not go on is looked at again: who lets it go on, the mill or
/// the clock of a paced replay, does not ring.
const LOOK: Duration = Duration::from_micros(500);

/// What all workers of a process share.
pub struct Shared {
    /// `at_once`: the current epoch.
    pub epoch: AtomicU64,
    /// Set when the run is asked to stop.
    pub stop: Arc<AtomicBool>,
    /// The first error of any reader or worker.
    pub failed: Mutex<Option<Error>>,
    /// The pace of a paced replay.
    pub pace: Option<Pace>,
    /// How far partitions were read.
    pub offsets: Arc<Offsets>,
    /// The ingest of each worker.
    pub bells: Vec<Bell>,
    /// Rows of one source that may be in flight while it is ahead of others.
    pub ahead: usize,
    /// How far each source is, for whoever looks at the run.
    pub watermarks: Arc<Watermarks>,
}

impl Shared {
    /// Ends the run with an error; the first one is kept.
    pub fn fail(&self, error: Error) {
        if let Ok(mut failed) = self.failed.lock() {
            failed.get_or_insert(error);
        }
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether it has failed. Who sees `stop` that a failure set sees the failure as well.
    pub fn has_failed(&self) -> bool {
        self.failed.lock().is_ok_and(|failed| failed.is_some())
    }
}

/// When the ingest is to be asked again, if nobody rings before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// There may be more.
    AtOnce,
    /// Something is due by the clock.
    After(Duration),
    /// Not before somebody rings.
    WhenRung,
}

/// What one step of the ingest has to send.
pub enum Step {
    /// Rows at a round.
    Rows(Round, Rows),
    /// How far a worker of another process than the mill's has read.
    Reached(Round, Reached),
    /// The watermark of this worker as of a round (`at_once`).
    Mark(Round, Micros),
    /// Everything is read; the largest event time of this worker's sources.
    End(Round, Micros),
}

/// The state of one worker's ingest. Pure of timely: [`Ingest::step`] says what to send and how far
/// the frontier may move.
pub struct Ingest {
    program: Arc<Program>,
    shared: Arc<Shared>,
    outputs: Outputs,
    feeds: Vec<FeedState>,
    /// The round that the capability stands at.
    at: Round,
    slots: u64,
    latest: Micros,
    ended: bool,
    rows_in_epoch: usize,
    watermark: Micros,
    /// `at_once`: the watermark that was told last.
    marked: Micros,
    worker: usize,
    /// `final`: rows whose round is open, where rounds are gathered: of which feed, and in order.
    held: Option<Vec<(usize, OrderedRows)>>,
    /// Where lines are made, if they are.
    line: Option<LineSeat>,
    /// `at_once`: where epochs are written down, if they are.
    epochs: Option<Arc<Epochs>>,
    /// Where its readers note how far they are, if the mill is in another process.
    far: Option<Arc<Offsets>>,
    /// What came since the last epoch, by source and partition: how far, and whether it was the end.
    came: BTreeMap<(usize, u32), (u64, bool)>,
    /// `at_once`, after a restart: rows that are owed their last answer, and epochs that are repeated.
    known: Vec<HeldRows>,
    repeat: Option<Repeat>,
}

/// What an ingest is among the workers.
pub struct Place {
    /// Which worker's.
    pub worker: usize,
    /// Whether rounds that the watermark passes together travel as one.
    pub gathers: bool,
    /// Where lines are made, if they are.
    pub line: Option<LineSeat>,
    /// `at_once`: where epochs are written down, if they are.
    pub epochs: Option<Arc<Epochs>>,
    /// Where its readers note how far they are, if the mill is in another process.
    pub far: Option<Arc<Offsets>>,
}

impl Ingest {
    /// The ingest of this worker over these feeds. With `gathers` rows wait here until the watermark has
    /// passed their round, and all rounds that it passes at once travel as the last of them: a live
    /// stream of short ticks then costs a round for each look at its sources and not for each tick. It
    /// shows in no result, but all rows must come by this one worker.
    pub fn new(
        program: Arc<Program>,
        shared: Arc<Shared>,
        outputs: Outputs,
        feeds: Vec<Feed>,
        place: Place,
    ) -> Ingest {
        let Place { worker, gathers, line, epochs, far } = place;
        let gathers = gathers && program.mode == Mode::Final;
        let feeds: Vec<FeedState> = feeds.into_iter().map(FeedState::new).collect();
        for feed in &feeds {
            shared.watermarks.set(worker, feed.feed.source, feed.watermark());
        }
        Ingest {
            program,
            shared,
            outputs,
            feeds,
            at: 0,
            slots: 0,
            latest: Micros::MIN,
            ended: false,
            rows_in_epoch: 0,
            watermark: Micros::MIN,
            marked: Micros::MIN,
            worker,
            held: gathers.then(Vec::new),
            line,
            epochs,
            far,
            came: BTreeMap::new(),
            known: Vec::new(),
            repeat: None,
        }
    }

    /// The round that the capability may be moved to; none when nothing more will come.
    pub fn round(&self) -> Option<Round> {
        (!self.ended).then_some(self.at)
    }

    /// Hands over what may go. `frontier` is the first round that the whole dataflow has not
    /// finished.
    pub fn step(&mut self, frontier: Option<Round>, send: &mut dyn FnMut(Step)) -> Again {
        if self.ended {
            return Again::WhenRung;
        }
        if self.shared.stop.load(Ordering::Relaxed) {
            // Who decides heard of a stop before this, and takes nothing any more. Of a failure another process has yet
            // to hear: it would take what was read so far for all there is.
            if !self.shared.has_failed() {
                self.end(send);
            }
            return Again::WhenRung;
        }
        self.feeds.iter_mut().for_each(|feed| feed.landed(frontier));
        if let Some(line) = &mut self.line {
            line.choose(self.at);
            // One that waits for earlier rows to be done holds up who would do them until it has said where it stands.
            line.came_to(self.at);
        }
        if let Some(again) = self.repeat(send) {
            if let (true, Some(line)) = (self.ended, &mut self.line) {
                line.ended();
            }
            return again;
        }
        let mut turn = 0;
        let mut moved = false;
        while turn < TURN.min(self.shared.ahead) {
            let Some(feed) = self.choose(frontier) else { break };
            let Some(piece) = self.feeds[feed].next.take() else { break };
            turn += piece.rows.iter().map(OrderedRows::load).sum::<usize>().max(1);
            moved = true;
            self.take(feed, piece, self.watermark, send);
        }
        if let Some(offsets) = &self.far {
            // Readers note rows before they bring them: none of these is in a round before this one.
            let reached = offsets.drain();
            if !reached.is_empty() {
                send(Step::Reached(self.at, reached));
            }
        }
        if self.line.as_ref().is_some_and(LineSeat::holds) {
            return Again::After(LOOK);
        }
        self.advance(send);
        if let Some(line) = &mut self.line {
            match self.ended {
                true => line.ended(),
                false => line.came_to(self.at),
            }
        }
        match (self.ended, moved) {
            (true, _) => Again::WhenRung,
            (_, true) => Again::AtOnce,
            _ => self.again(),
        }
    }

    /// What the clock may bring: leave to go on, or the end of a wait for an idle partition.
    fn again(&self) -> Again {
        if self.feeds.iter().any(|feed| feed.next.is_some()) {
            return Again::After(LOOK);
        }
        self.feeds.iter().filter_map(FeedState::idle_in).min().map_or(Again::WhenRung, Again::After)
    }

    /// The feed to take from next: the one furthest back in event time among those that have
    /// something and may go on.
    fn choose(&mut self, frontier: Option<Round>) -> Option<usize> {
        let mut best: Option<(Micros, usize)> = None;
        for i in 0..self.feeds.len() {
            let held_back = self.held_back(i, frontier);
            let feed = &mut self.feeds[i];
            if feed.next.is_none() {
                feed.next = feed.kept.pop_front();
            }
            if feed.next.is_none() && !feed.gone {
                match feed.feed.from.try_recv() {
                    Ok(Ok(piece)) => feed.next = Some(piece),
                    Ok(Err(error)) => {
                        self.shared.fail(error);
                        return None;
                    }
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => {
                        feed.gone = true;
                        if !feed.finished() && !self.shared.stop.load(Ordering::Relaxed) {
                            let name = &feed.feed.name;
                            let gone =
                                format!("the reader of source `{name}` is gone before its end");
                            self.shared.fail(Error::internal(gone));
                        }
                    }
                }
            }
            let waiting = held_back && feed.next.is_some();
            self.shared.watermarks.set_waiting(self.worker, feed.feed.source, waiting);
            let Some(piece) = &feed.next else { continue };
            if held_back {
                continue;
            }
            if let Some(pace) = &self.shared.pace
                && !pace.may_go(feed.feed.source, piece.first())
            {
                continue;
            }
            let watermark = feed.watermark();
            if best.is_none_or(|(least, _)| watermark < least) {
                best = Some((watermark, i));
            }
        }
        best.map(|(_, i)| i)
    }

    /// Whether a feed has to wait for the others.
    fn held_back(&self, i: usize, frontier: Option<Round>) -> bool {
        let feed = &self.feeds[i];
        if feed.rows_in_flight < self.shared.ahead {
            return false;
        }
        match (self.program.mode, frontier) {
            // Before each of its partitions has given something the whole run waits for this very feed.
            (Mode::Final, Some(frontier)) => {
                let watermark = feed.watermark();
                watermark > Micros::MIN
                    && self.program.round_of(watermark) > frontier.saturating_add(1)
            }
            _ => true,
        }
    }

    /// Takes a piece; `at_once`: rows before `late` are.
    fn take(&mut self, feed: usize, piece: Piece, late: Micros, send: &mut dyn FnMut(Step)) {
        let source = self.feeds[feed].feed.source;
        self.feeds[feed].came(&piece);
        self.shared.watermarks.set(self.worker, source, self.feeds[feed].watermark());
        self.latest = self.latest.max(piece.latest.unwrap_or(Micros::MIN));
        self.note(feed, &piece);
        for rows in piece.rows {
            self.take_rows(feed, piece.partition, rows, late, send);
        }
    }

    fn take_rows(
        &mut self,
        feed: usize,
        partition: u32,
        rows: OrderedRows,
        late: Micros,
        send: &mut dyn FnMut(Step),
    ) {
        let rows = match self.program.mode {
            Mode::Final => rows.sorted(),
            Mode::AtOnce => rows,
        };
        let rows = self.not_late(feed, rows, late);
        if self.program.mode == Mode::AtOnce {
            // What a reader has read ahead says nothing of an epoch.
            let Feed { name, .. } = &self.feeds[feed].feed;
            self.shared.offsets.note(name, partition, &rows);
        }
        if rows.times.is_empty() {
            return;
        }
        self.rows_in_epoch += rows.times.len();
        let source = self.feeds[feed].feed.source;
        match self.program.mode {
            Mode::AtOnce => self.hand_over(feed, source, self.at, rows, send),
            Mode::Final if self.held.is_some() => {
                self.feeds[feed].rows_in_flight += rows.load();
                self.held.get_or_insert_default().push((feed, rows));
            }
            Mode::Final => {
                let mut start = 0;
                while start < rows.times.len() {
                    let round = self.program.round_of(rows.times[start]);
                    let same = |t: &Micros| self.program.round_of(*t) == round;
                    let n = rows.times[start..].partition_point(same);
                    let part =
                        if n == rows.times.len() { rows.clone() } else { rows.slice(start, n) };
                    self.hand_over(feed, source, round, part, send);
                    start += n;
                }
            }
        }
    }

    /// Notes how far a partition has come.
    fn note(&mut self, feed: usize, piece: &Piece) {
        let Feed { name, source, .. } = &self.feeds[feed].feed;
        let finished = piece.state == PartitionState::Finished;
        if let Some(line) = &mut self.line {
            if let Some(read) = piece.read {
                line.take(name, piece.partition, self.at, read);
            }
            if finished {
                line.finish(name, piece.partition, self.at);
            }
            if self.epochs.is_some() && (finished || piece.read.is_some()) {
                let next = line.next(name, piece.partition);
                self.came.insert((*source, piece.partition), (next, finished));
            }
        }
    }

    /// Rows below a watermark that idleness or hold has let pass are late.
    fn not_late(&self, feed: usize, rows: OrderedRows, below: Micros) -> OrderedRows {
        let late = |t: &Micros| match self.program.mode {
            Mode::Final => self.program.round_of(*t) < self.at,
            Mode::AtOnce => *t < below,
        };
        if !rows.times.iter().any(late) {
            return rows;
        }
        let all = 0..rows.times.len() as u32;
        let (gone, kept): (Vec<u32>, Vec<u32>) = all.partition(|i| late(&rows.times[*i as usize]));
        self.outputs.late(&self.feeds[feed].feed.name, &rows.take(&gone), None);
        rows.take(&kept)
    }

    fn hand_over(
        &mut self,
        feed: usize,
        source: usize,
        round: Round,
        rows: OrderedRows,
        send: &mut dyn FnMut(Step),
    ) {
        let n = rows.times.len();
        let first_slot = self.slots;
        if source == self.program.spine {
            self.slots += n as u64;
        }
        self.feeds[feed].handed_over(round, &rows);
        let OrderedRows { times, ids, batch, .. } = rows;
        send(Step::Rows(round, Rows { source, times, ids, batch, first_slot, known: false }));
    }
}
