//! Rounds and epochs end, and all input does.

use std::sync::atomic::Ordering;

use tidemill_config::plan::Mode;
use tidemill_operators::dataflow::Round;
use tidemill_types::Micros;

use super::{Ingest, Step};
use crate::checkpoint::epochs::{Came, Epoch};
use crate::engine::feed::{FeedState, watermark_of};
use crate::engine::lines::LineSeat;

impl Ingest {
    /// Hands over the rows that are held and begin before this round, as rows of the one before it; those
    /// before a line under way by themselves, for a line is a boundary of rounds.
    fn let_go(&mut self, next: Round, send: &mut dyn FnMut(Step)) {
        let line = self.line.as_ref().and_then(LineSeat::pending);
        if let Some(line) = line.filter(|line| self.at < *line && *line < next) {
            self.let_go_as_one(line, send);
        }
        self.let_go_as_one(next, send);
    }

    fn let_go_as_one(&mut self, next: Round, send: &mut dyn FnMut(Step)) {
        let Some(held) = &mut self.held else { return };
        let end = self.program.start_of(next);
        for (feed, rows) in std::mem::take(held) {
            let (n, all) = (rows.times.partition_point(|t| *t < end), rows.times.len());
            self.feeds[feed].rows_in_flight -= rows.load();
            if n < all {
                let rest = if n == 0 { rows.clone() } else { rows.slice(n, all - n) };
                self.feeds[feed].rows_in_flight += rest.load();
                self.held.get_or_insert_default().push((feed, rest));
            }
            if n > 0 {
                let rows = if n == all { rows } else { rows.slice(0, n) };
                let source = self.feeds[feed].feed.source;
                self.hand_over(feed, source, next - 1, rows, send);
            }
        }
    }

    /// Moves the round on as far as the watermark allows, and ends when everything is read.
    pub(super) fn advance(&mut self, send: &mut dyn FnMut(Step)) {
        let finished = self.feeds.iter().all(FeedState::finished);
        let watermark = watermark_of(&self.feeds);
        self.watermark = self.watermark.max(watermark);
        match self.program.mode {
            Mode::Final => {
                if finished {
                    let next = self.program.round_of(self.latest) + 1;
                    self.let_go(next.max(self.at + 1), send);
                    self.end(send);
                } else if self.watermark > Micros::MIN {
                    let next = self.program.round_of(self.watermark);
                    if next > self.at {
                        self.let_go(next, send);
                        self.at = next;
                    }
                }
            }
            Mode::AtOnce => {
                // An epoch is what there was at one look: nothing waits for more.
                if self.rows_in_epoch > 0 || self.watermark > self.marked || finished {
                    self.next_epoch();
                }
                let epoch = self.shared.epoch.load(Ordering::SeqCst);
                if epoch > self.at || finished {
                    self.hand_over_known(send);
                    self.close_epoch(epoch, finished, send);
                }
            }
        }
    }

    /// Ends the epoch for all workers, unless one of them has done so already.
    fn next_epoch(&self) {
        let (epoch, order) = (&self.shared.epoch, Ordering::SeqCst);
        if epoch.compare_exchange(self.at, self.at + 1, order, order).is_ok() {
            let others = self.shared.bells.iter().enumerate().filter(|(i, _)| *i != self.worker);
            others.for_each(|(_, bell)| bell.ring());
        }
    }

    fn close_epoch(&mut self, epoch: Round, finished: bool, send: &mut dyn FnMut(Step)) {
        let mark = if finished { Micros::MAX } else { self.watermark };
        self.write_down(mark);
        send(Step::Mark(self.at, mark));
        self.marked = self.watermark;
        self.rows_in_epoch = 0;
        if finished {
            // In the epoch of its last watermark, which stands for the last event time.
            self.end(send);
        } else {
            self.at = epoch.max(self.at);
        }
    }

    /// Writes the epoch down that ends now. Until this returns its round is open, so that nothing has followed
    /// from it.
    fn write_down(&mut self, mark: Micros) {
        if let Some(line) = &mut self.line {
            line.mark(self.at, mark);
        }
        let Some(epochs) = &self.epochs else { return };
        let came = std::mem::take(&mut self.came).into_iter();
        let came = came.map(|((source, partition), (next, finished))| Came {
            source: source as u32,
            partition,
            next,
            finished,
        });
        epochs.note(Epoch {
            worker: self.worker as u32,
            round: self.at,
            // No row of it was looked at after the watermark had moved.
            late: self.marked,
            mark,
            came: came.collect(),
        });
    }

    pub(super) fn end(&mut self, send: &mut dyn FnMut(Step)) {
        send(Step::End(self.at, self.latest));
        self.ended = true;
    }
}
