//! Which rows of a key no read can see any more, and when that will be so of half of them.

use tidemill_types::Micros;

use super::frame::Span;
use super::layout::{Layout, Window};
use super::log::Log;
use super::session::Sessions;

impl Window {
    /// The first position that a read at `watermark` or later may see, rows before the watermark being
    /// settled; a window over all rows sees those before it in its states, and one with tiles, if rows are to be
    /// folded into these, there.
    fn cut(&self, log: &Log, sessions: &[Sessions], watermark: Micros, folds: bool) -> usize {
        let base = log.base();
        let as_of = self.reach.as_of(watermark);
        let settled = || log.first_at(base, as_of);
        if self.reach.holds_all() {
            return if self.by_position { base } else { settled() };
        }
        if folds && self.tiled {
            return settled();
        }
        let mut cut = base;
        if let Some(floor) = self.reach.floor(as_of) {
            cut = cut.max(log.first_at(base, floor));
        }
        if let Some(rows) = self.reach.rows() {
            cut = cut.max(settled().saturating_sub(rows));
        }
        if let Some(gap) = self.gap
            && let settled = settled()
            && settled > base
        {
            cut = cut.max(open_session(log, &sessions[gap], settled, as_of));
        }
        cut
    }

    /// When [`Window::cut`] will have passed the row at `position`, as far as rows are known now.
    fn left_at(
        &self,
        log: &Log,
        sessions: &[Sessions],
        position: usize,
        folds: bool,
    ) -> Option<Micros> {
        let time = log.time(position);
        let settled =
            |position: usize| (position < log.end()).then(|| log.time(position).saturating_add(1));
        let left = if self.reach.holds_all() {
            settled(position).filter(|_| !self.by_position)
        } else if folds && self.tiled {
            settled(position)
        } else if let Some(gap) = self.reach.gap() {
            let next = self.gap.and_then(|gap| sessions[gap].next(time));
            let next = next.map_or(log.end(), |start| log.first_at(position, start));
            Some(log.time(next - 1).saturating_add(gap).saturating_add(1))
        } else {
            let by_rows = self.reach.rows().and_then(|rows| settled(position.saturating_add(rows)));
            self.reach.left_at(time).into_iter().chain(by_rows).min()
        };
        left.map(|left| self.reach.read_at(left))
    }
}

/// Where the session begins that is open as of a time, of the rows before `end`: at `end` if none is.
pub(super) fn open_session(log: &Log, sessions: &Sessions, end: usize, as_of: Micros) -> usize {
    let Some(last) = log.around(end, end).0 else { return end };
    match sessions.apart(last, as_of) {
        true => end,
        false => sessions.start(last).map_or(log.base(), |start| log.first_at(end, start)),
    }
}

impl Layout {
    /// The first position that some read at `watermark` or later may see.
    pub(super) fn cut(
        &self,
        log: &Log,
        sessions: &[Sessions],
        watermark: Micros,
        folds: bool,
    ) -> usize {
        let cut = |window: &Window| window.cut(log, sessions, watermark, folds);
        let cuts = self.windows.iter().map(cut);
        cuts.min().unwrap_or(log.end())
    }

    /// When [`Layout::cut`] will have passed about half of the rows that can go at all.
    pub(super) fn half_life(
        &self,
        log: &Log,
        sessions: &[Sessions],
        folds: bool,
    ) -> Option<Micros> {
        let spare = log.len().checked_sub(self.rows).filter(|spare| *spare > 0)?;
        let middle = log.base() + (spare - 1) / 2;
        if let Some((spans, _)) = &self.spans {
            return left_spans(spans, log, middle, log.time(middle));
        }
        let left = |window: &Window| window.left_at(log, sessions, middle, folds);
        self.windows.iter().map(left).try_fold(Micros::MIN, |latest, left| Some(latest.max(left?)))
    }
}

/// When all windows will have passed the row at `position`, which is of `time`: the latest of [`Window::left_at`], where windows
/// are as simple as that.
fn left_spans(spans: &[Span], log: &Log, position: usize, time: Micros) -> Option<Micros> {
    let mut latest = Micros::MIN;
    for span in spans {
        let by_time = span.last.map(|last| time.saturating_add(last).saturating_add(1));
        let next = position.saturating_add(span.rows);
        let by_rows = (next < log.end()).then(|| log.time(next).saturating_add(1));
        latest = latest.max(by_time.into_iter().chain(by_rows).min()?);
    }
    Some(latest)
}
