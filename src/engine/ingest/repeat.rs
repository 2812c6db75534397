//! `at_once`, after a restart: what an earlier run handed on after the line is handed on again, in the same
//! epochs, before anything new is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use crossbeam_channel::TryRecvError;
use tidemill_operators::dataflow::{HeldRows, Round, Rows};
use tidemill_types::{Error, Micros};

use super::{Again, Ingest, LOOK, Step};
use crate::checkpoint::epochs::{Came, Epoch, Run};
use crate::engine::feed::FeedState;
use crate::engine::lines::Begin;
use crate::engine::reader::{PartitionState, Piece};

/// An epoch as all workers of the earlier run together handed it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The epoch.
    pub round: Round,
    /// The watermark after it.
    pub mark: Micros,
    /// How far each partition was read, and the time before which its rows were late.
    pub came: Vec<(Came, Micros)>,
}

/// The epochs of earlier runs from a round on. What workers had told before it counts: one that has ended, for example,
/// holds nobody.
pub fn repeated(runs: Vec<Run>, from: Round) -> Vec<Repeated> {
    let mut all = Vec::new();
    for Run { mut marks, epochs, .. } in runs {
        let mut rounds: BTreeMap<Round, Vec<Epoch>> = BTreeMap::new();
        for epoch in epochs {
            rounds.entry(epoch.round).or_default().push(epoch);
        }
        for (round, epochs) in rounds {
            let mut came = Vec::new();
            for epoch in epochs {
                if let Some(told) = marks.get_mut(epoch.worker as usize) {
                    *told = epoch.mark.max(*told);
                }
                came.extend(epoch.came.into_iter().map(|came| (came, epoch.late)));
            }
            let mark = marks.iter().min().copied().unwrap_or(Micros::MIN);
            if round >= from {
                all.push(Repeated { round, mark, came });
            }
        }
    }
    all
}

/// What a worker has still to repeat.
pub(super) struct Repeat {
    epochs: VecDeque<Repeated>,
    /// By source and partition: how far it is, and whether it has ended.
    reached: BTreeMap<(u32, u32), (u64, bool)>,
    /// Whether something of the first of them was handed on.
    begun: bool,
}

impl Ingest {
    /// Begins where an earlier run was: what is before that is in the line that the run goes on from.
    pub fn begin(&mut self, begin: &Begin) {
        self.at = begin.round.unwrap_or(0);
        let last = begin.epochs.last();
        let mark = last.map(|last| last.mark).or(begin.mark).unwrap_or(Micros::MIN);
        (self.watermark, self.marked) = (mark, mark);
        self.known = begin.held.get(self.worker).cloned().unwrap_or_default();
        if begin.epochs.is_empty() {
            return;
        }
        let mut epochs: VecDeque<Repeated> = begin.epochs.iter().cloned().collect();
        for epoch in &mut epochs {
            epoch.came.retain(|(came, _)| self.feed_of(came).is_some());
        }
        let reached = self.feeds.iter().flat_map(|FeedState { feed, .. }| {
            feed.partitions.iter().filter_map(|partition| {
                let resume = begin.partitions.get(&(feed.name.clone(), *partition))?;
                Some(((feed.source as u32, *partition), (resume.position.taken, false)))
            })
        });
        let latest = self.feeds.iter().flat_map(|FeedState { feed, .. }| {
            feed.partitions.iter().filter_map(|partition| {
                begin.partitions.get(&(feed.name.clone(), *partition))?.position.latest
            })
        });
        let latest = latest.max().unwrap_or(Micros::MIN);
        let reached = reached.collect();
        self.latest = self.latest.max(latest);
        self.repeat = Some(Repeat { epochs, reached, begun: false });
    }

    fn feed_of(&self, came: &Came) -> Option<usize> {
        let has = |FeedState { feed, .. }: &FeedState| {
            feed.source == came.source as usize && feed.partitions.contains(&came.partition)
        };
        self.feeds.iter().position(has)
    }

    /// Hands over what may go of the epochs that are repeated; nothing when they all are.
    pub(super) fn repeat(&mut self, send: &mut dyn FnMut(Step)) -> Option<Again> {
        let mut repeat = self.repeat.take()?;
        let again = loop {
            let Some(epoch) = repeat.epochs.front() else {
                self.at = self.shared.epoch.load(Ordering::SeqCst).max(self.at);
                // All of that is written down.
                self.came.clear();
                return None;
            };
            let full = |feed: &FeedState| feed.rows_in_flight >= self.shared.ahead;
            if !repeat.begun && self.feeds.iter().any(full) {
                break Again::After(LOOK);
            }
            repeat.begun = true;
            self.at = epoch.round;
            self.hand_over_known(send);
            match self.repeat_one(epoch, &mut repeat.reached, send) {
                Ok(true) => {
                    send(Step::Mark(epoch.round, epoch.mark));
                    if let Some(line) = &mut self.line {
                        line.mark(epoch.round, epoch.mark);
                        line.came_to(epoch.round + 1);
                    }
                    if epoch.mark == Micros::MAX {
                        // All partitions had ended, and the run with them.
                        self.end(send);
                        break Again::WhenRung;
                    }
                    self.at = epoch.round + 1;
                    repeat.epochs.pop_front();
                    repeat.begun = false;
                }
                Ok(false) => break Again::WhenRung,
                Err(error) => {
                    self.shared.fail(error);
                    break Again::WhenRung;
                }
            }
        };
        self.repeat = Some(repeat);
        Some(again)
    }

    /// Whether all of an epoch was handed over.
    fn repeat_one(
        &mut self,
        epoch: &Repeated,
        reached: &mut BTreeMap<(u32, u32), (u64, bool)>,
        send: &mut dyn FnMut(Step),
    ) -> Result<bool, Error> {
        for (came, late) in &epoch.came {
            let Some(feed) = self.feed_of(came) else { continue };
            let reached = reached.entry((came.source, came.partition)).or_default();
            while reached.0 < came.next || (came.finished && !reached.1) {
                let Some(piece) = self.next_of(feed, came.partition)? else { return Ok(false) };
                let finished = piece.state == PartitionState::Finished;
                let next = piece.read.map_or(reached.0, |read| read.next);
                if next > came.next || (finished && !came.finished) {
                    return Err(self.not_repeatable(feed, came));
                }
                *reached = (next.max(reached.0), finished);
                self.take(feed, piece, *late, send);
            }
        }
        Ok(true)
    }

    /// The next piece of a partition. Those of others that came before it are kept: they are wanted soon,
    /// for all of this was read before.
    fn next_of(&mut self, feed: usize, partition: u32) -> Result<Option<Piece>, Error> {
        let FeedState { feed: from, kept, gone, .. } = &mut self.feeds[feed];
        if let Some(i) = kept.iter().position(|piece| piece.partition == partition) {
            return Ok(kept.remove(i));
        }
        loop {
            match from.from.try_recv() {
                Ok(Ok(piece)) if piece.partition == partition => return Ok(Some(piece)),
                Ok(Ok(piece)) => kept.push_back(piece),
                Ok(Err(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => {
                    *gone = true;
                    let name = from.name.clone();
                    return Err(changed(&name, partition, "it ends earlier"));
                }
            }
        }
    }

    fn not_repeatable(&self, feed: usize, came: &Came) -> Error {
        let why = match came.finished {
            true => format!("it ended at offset {}, and does not now", came.next),
            false => format!("offset {} was there, and is not now", came.next.saturating_sub(1)),
        };
        changed(&self.feeds[feed].feed.name, came.partition, &why)
    }

    /// The rows that are owed their last answer enter with the first epoch that there is.
    pub(super) fn hand_over_known(&mut self, send: &mut dyn FnMut(Step)) {
        for HeldRows { times, ids, columns } in std::mem::take(&mut self.known) {
            let (mut times, mut ids) = (times.into_iter(), ids.into_iter());
            for batch in columns.0 {
                let (n, source, first_slot) = (batch.num_rows(), self.program.spine, self.slots);
                let (times, ids) =
                    (times.by_ref().take(n).collect(), ids.by_ref().take(n).collect());
                self.slots += n as u64;
                let rows = Rows { source, times, ids, batch, first_slot, known: true };
                send(Step::Rows(self.at, rows));
            }
        }
    }
}

fn changed(source: &str, partition: u32, why: &str) -> Error {
    Error::user(format!(
        "source `{source}`, partition {partition}, is not what it was when rows of it were scored: {why}"
    ))
    .help(
        "what was sent cannot be made again from it: restore it, or begin anew with another --folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(worker: u32, round: Round, mark: Micros, next: u64) -> Epoch {
        let came = Came { source: 0, partition: worker, next, finished: false };
        Epoch { worker, round, late: mark - 5, mark, came: vec![came] }
    }

    fn marks(repeated: &[Repeated]) -> Vec<(Round, Micros)> {
        repeated.iter().map(|epoch| (epoch.round, epoch.mark)).collect()
    }

    #[test]
    fn the_watermark_of_an_epoch_is_that_of_the_last_worker() {
        let run = |number, marks, epochs| Run { number, marks, epochs };
        let first =
            vec![epoch(0, 1, 10, 1), epoch(1, 1, 30, 1), epoch(0, 2, 40, 5), epoch(1, 4, 60, 7)];
        let then = vec![epoch(0, 6, 70, 9)];
        let runs = vec![run(0, vec![Micros::MIN; 2], first), run(1, vec![60], then)];
        let all = repeated(runs.clone(), 0);
        assert_eq!(marks(&all), [(1, 10), (2, 30), (4, 40), (6, 70)]);
        assert_eq!(all[0].came.len(), 2);
        assert_eq!(all[3].came[0].1, 65, "what was late in that epoch");
        assert_eq!(marks(&repeated(runs.clone(), 2)), [(2, 30), (4, 40), (6, 70)]);
        assert_eq!(marks(&repeated(runs, 5)), [(6, 70)]);
        // A worker that had ended holds nobody, though it says so no more.
        let mut ended = vec![epoch(0, 1, 10, 1), epoch(0, 3, 40, 5), epoch(1, 2, 60, 7)];
        ended[2].mark = Micros::MAX;
        let ended = vec![run(4, vec![5, 5], ended)];
        assert_eq!(marks(&repeated(ended.clone(), 0)), [(1, 5), (2, 10), (3, 40)]);
        assert_eq!(marks(&repeated(ended, 3)), [(3, 40)], "whoever made the line");
    }
}
