//! How the dataflow gives its parts to a line, and what it begins with after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_config::plan::Mode;
use tidemill_operators::dataflow::{HeldRows, Lines as Asks, Program};
use tidemill_types::Micros;

use super::ingest::Repeated;
use crate::checkpoint::line::{Cut, Gift, Position, Read, Round, SharedLines, Track, Tracks};
use crate::checkpoint::points;

/// From where a partition is read on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The place.
    pub position: Position,
    /// Of the offsets that were taken, rows before this event time are in the line.
    pub before: Micros,
    /// Dead letters of offsets below it were sent.
    pub told_refused: u64,
    /// Late rows of offsets below it were sent.
    pub told_late: u64,
}

/// A worker's ingest at lines.
pub struct LineSeat {
    lines: SharedLines,
    program: Arc<Program>,
    worker: usize,
    tracks: Tracks,
    given: Option<Round>,
}

/// What belongs to the line at a round.
pub fn cut(program: &Program, round: Round) -> Cut {
    match program.mode {
        Mode::Final => Cut::Time(program.start_of(round)),
        Mode::AtOnce => Cut::Round(round),
    }
}

impl LineSeat {
    /// The seat of a worker, whose partitions go on from these positions.
    pub fn new(
        lines: SharedLines,
        program: Arc<Program>,
        worker: usize,
        tracks: Tracks,
    ) -> LineSeat {
        LineSeat { lines, program, worker, tracks, given: None }
    }

    /// Chooses a line if one is due; `at` is the round that the capability holds.
    pub fn choose(&self, at: Round) {
        if at > 0 && (self.worker == 0 || !self.lines.chosen_by_first()) {
            self.lines.choose(at);
        }
    }

    /// Whether the round is to be held until other processes have heard of the line that was chosen.
    pub fn holds(&self) -> bool {
        self.worker == 0 && self.lines.is_proposed()
    }

    /// The line under way.
    pub fn pending(&self) -> Option<Round> {
        self.lines.pending()
    }

    /// A piece of a partition was handed on at a round.
    pub fn take(&mut self, source: &str, partition: u32, round: Round, read: Read) {
        self.track(source, partition).take(round, read);
    }

    /// A partition was read to its end for ever.
    pub fn finish(&mut self, source: &str, partition: u32, round: Round) {
        self.track(source, partition).finish(round);
    }

    /// How far the offsets of a partition were handed on.
    pub fn next(&mut self, source: &str, partition: u32) -> u64 {
        self.track(source, partition).next()
    }

    fn track(&mut self, source: &str, partition: u32) -> &mut Track {
        self.tracks.partitions.entry((source.to_string(), partition)).or_default()
    }

    /// The watermark was told.
    pub fn mark(&mut self, round: Round, mark: Micros) {
        self.tracks.mark(round, mark);
    }

    /// Everything before this round was handed on.
    pub fn came_to(&mut self, at: Round) {
        let pending =
            self.lines.pending().filter(|round| *round <= at && self.given != Some(*round));
        if let Some(round) = pending {
            let cut = cut(&self.program, round);
            self.given = Some(round);
            self.lines.give(Gift::Sources(self.worker, self.tracks.at(cut)));
            points::pass("line.source");
            self.tracks.forget(cut);
        }
    }

    /// Everything was handed on.
    pub fn ended(&mut self) {
        self.lines.worker_ended(self.worker, std::mem::take(&mut self.tracks));
    }
}

/// An operator of a worker at lines; `give` makes a gift of what it holds.
pub struct Seat<T> {
    lines: SharedLines,
    give: Box<dyn FnMut(T) -> Gift + Send>,
    point: &'static str,
    given: Option<Round>,
}

impl<T> Seat<T> {
    /// A seat whose gifts pass this point.
    pub fn new(
        lines: SharedLines,
        point: &'static str,
        give: impl FnMut(T) -> Gift + Send + 'static,
    ) -> Seat<T> {
        Seat { lines, give: Box::new(give), point, given: None }
    }
}

impl<T> Asks<T> for Seat<T> {
    fn pending(&self) -> Option<Round> {
        self.lines.pending().filter(|round| self.given != Some(*round))
    }

    fn take(&mut self, round: Round, part: T) {
        self.given = Some(round);
        self.lines.give((self.give)(part));
        points::pass(self.point);
    }
}

/// What a run begins with after a restart, besides what the mill and the sinks take.
#[derive(Default)]
pub struct Begin {
    /// The first round; none at the beginning.
    pub round: Option<Round>,
    /// By source and partition.
    pub partitions: BTreeMap<(String, u32), Resume>,
    /// `at_once`: the watermark that was told.
    pub mark: Option<Micros>,
    /// `at_once`: rows that are owed their last answer, for each worker.
    pub held: Vec<Vec<HeldRows>>,
    /// `at_once`: the epochs that an earlier run handed on after the line.
    pub epochs: Vec<Repeated>,
}
