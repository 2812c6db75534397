//! How the dataflow gives its parts to a line, and what it begins with after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_operators::dataflow::{Lines as Asks, Program, Saved};
use tidemill_types::Micros;

use crate::checkpoint::line::{Gift, Position, Read, Round, SharedLines, Tracks, positions};
use crate::checkpoint::points;

/// From where a partition is read on.
#[derive(Clone, Debug)]
pub struct Resume {
    /// The place.
    pub position: Position,
    /// The event time of the line: rows before it are in.
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
        if at > 0 {
            self.lines.choose(at);
        }
    }

    /// The line under way.
    pub fn pending(&self) -> Option<Round> {
        self.lines.pending()
    }

    /// A piece of a partition was handed on.
    pub fn take(&mut self, source: &str, partition: u32, read: Read) {
        self.tracks.entry((source.to_string(), partition)).or_default().take(read);
    }

    /// Everything before this round was handed on.
    pub fn came_to(&mut self, at: Round) {
        let pending =
            self.lines.pending().filter(|round| *round <= at && self.given != Some(*round));
        if let Some(round) = pending {
            let before = self.program.start_of(round);
            self.given = Some(round);
            self.lines.give(Gift::Sources(self.worker, positions(&self.tracks, before)));
            points::pass("line.source");
            self.tracks.values_mut().for_each(|track| track.forget(before));
        }
    }

    /// Everything was handed on.
    pub fn ended(&mut self) {
        self.lines.worker_ended(self.worker, std::mem::take(&mut self.tracks));
    }
}

/// A worker's windows at lines.
pub struct WindowsSeat {
    lines: SharedLines,
    worker: usize,
    given: Option<Round>,
}

impl WindowsSeat {
    /// The seat of a worker.
    pub fn new(lines: SharedLines, worker: usize) -> WindowsSeat {
        WindowsSeat { lines, worker, given: None }
    }
}

impl Asks for WindowsSeat {
    fn pending(&self) -> Option<Round> {
        self.lines.pending().filter(|round| self.given != Some(*round))
    }

    fn windows(&mut self, round: Round, saved: Saved) {
        self.given = Some(round);
        self.lines.give(Gift::Windows(self.worker, saved));
        points::pass("line.windows");
    }
}

/// What a run begins with after a restart, besides what the mill and the sinks take.
#[derive(Default)]
pub struct Begin {
    /// The first round; none at the beginning.
    pub round: Option<Round>,
    /// By source and partition.
    pub partitions: BTreeMap<(String, u32), Resume>,
}
