//! A group, compiled: its distinct windows, their primitives each once, and where outputs find them.

use std::ops::Range;
use std::sync::Arc;

use tidemill_config::plan::{Edge, Frame};
use tidemill_types::Micros;

use super::frame::Reach;
use super::log::Log;
use super::session::Sessions;
use super::{Group, Output};
use crate::aggregate::state::State;
use crate::aggregate::{Aggregate, Primitive, Running};

pub(super) struct Layout {
    /// Which of a row's values are kept, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) windows: Vec<Window>,
    /// What feeds each state of a key.
    pub(super) slots: Vec<Slot>,
    pub(super) outputs: Vec<Answer>,
    /// The gaps of session windows, each once.
    pub(super) gaps: Vec<Micros>,
    /// The newest rows that stay however old they are: as many as the longest row frame shows, or all
    /// where a window over all rows reads them by position.
    rows: usize,
    /// Whether some window is over all rows.
    pub(super) lifetime: bool,
}

pub(super) struct Window {
    pub(super) reach: Reach,
    /// Where a session window's gap stands among the gaps.
    pub(super) gap: Option<usize>,
    /// Whether its rows are read by position, and not only through its states.
    by_position: bool,
    /// Its states within those of a key.
    pub(super) slots: Range<usize>,
}

impl Window {
    /// The first position that a read at `watermark` or later may see, rows before the watermark being
    /// settled; a window over all rows sees those before it in its states.
    fn cut(&self, log: &Log, sessions: &[Sessions], watermark: Micros) -> usize {
        let base = log.base();
        let as_of = self.reach.as_of(watermark);
        let settled = log.first_at(base, as_of);
        if self.reach.holds_all() {
            return if self.by_position { base } else { settled };
        }
        let mut cut = base;
        if let Some(floor) = self.reach.floor(as_of) {
            cut = cut.max(log.first_at(base, floor));
        }
        if let Some(rows) = self.reach.rows() {
            cut = cut.max(settled.saturating_sub(rows));
        }
        if let Some(gap) = self.gap
            && settled > base
        {
            cut = cut.max(open_session(log, &sessions[gap], settled, as_of));
        }
        cut
    }

    /// When [`Window::cut`] will have passed the row at `position`, as far as rows are known now.
    fn left_at(&self, log: &Log, sessions: &[Sessions], position: usize) -> Option<Micros> {
        let time = log.time(position);
        let settled =
            |position: usize| (position < log.end()).then(|| log.time(position).saturating_add(1));
        let left = if self.reach.holds_all() {
            settled(position).filter(|_| !self.by_position)
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

/// A primitive of a window: over which kept columns, under which kept filter.
pub(super) struct Slot {
    primitive: Primitive,
    pub(super) column: Option<usize>,
    pub(super) second: Option<usize>,
    pub(super) filter: Option<usize>,
    /// What makes the state of [`Primitive::Own`].
    own: Option<Box<dyn Running>>,
}

impl PartialEq for Slot {
    fn eq(&self, other: &Slot) -> bool {
        let name = |slot: &Slot| slot.own.as_ref().map(|own| own.name());
        (self.primitive, self.column, self.second, self.filter)
            == (other.primitive, other.column, other.second, other.filter)
            && name(self) == name(other)
    }
}

pub(super) struct Answer {
    pub(super) window: usize,
    pub(super) column: Option<usize>,
    pub(super) second: Option<usize>,
    pub(super) filter: Option<usize>,
    /// Where each primitive stands among the states; out of range if it is not read.
    pub(super) places: [usize; Primitive::COUNT],
    pub(super) aggregate: Arc<dyn Aggregate>,
}

impl Layout {
    pub(super) fn new(group: Group) -> Layout {
        let Group { own_stream, outputs } = group;
        let mut columns: Vec<usize> =
            outputs.iter().flat_map(|o| [o.column, o.second, o.filter]).flatten().collect();
        columns.sort_unstable();
        columns.dedup();
        let mut frames: Vec<(Frame, Edge)> = outputs.iter().map(|o| (o.frame, o.edge)).collect();
        frames.sort_unstable();
        frames.dedup();
        let gap = |frame: &(Frame, Edge)| match frame.0 {
            Frame::Session(gap) => Some(gap),
            _ => None,
        };
        let mut gaps: Vec<Micros> = frames.iter().filter_map(gap).collect();
        gaps.dedup();
        // By window, so that the states of one lie together.
        let mut layout = Layout {
            columns,
            gaps,
            windows: Vec::new(),
            slots: Vec::new(),
            outputs: Vec::new(),
            rows: 0,
            lifetime: false,
        };
        let mut answers: Vec<Option<Answer>> = outputs.iter().map(|_| None).collect();
        for (frame, edge) in frames {
            let first = layout.slots.len();
            let mut by_position = false;
            let of = |o: &Output| (o.frame, o.edge) == (frame, edge);
            for (output, answer) in outputs.iter().zip(&mut answers).filter(|(o, _)| of(o)) {
                by_position |= output.aggregate.primitives().contains(&Primitive::Position);
                *answer = Some(layout.answer(output, first));
            }
            let reach = Reach::new(frame, edge, own_stream);
            let gap = reach.gap().and_then(|gap| layout.gaps.binary_search(&gap).ok());
            let kept = match (frame, reach.rows()) {
                (Frame::Rows(_), Some(rows)) => rows,
                _ if reach.holds_all() && by_position => usize::MAX,
                _ => 0,
            };
            layout.rows = layout.rows.max(kept);
            layout.lifetime |= reach.holds_all();
            let slots = first..layout.slots.len();
            layout.windows.push(Window { reach, gap, by_position, slots });
        }
        layout.outputs = answers.into_iter().flatten().collect();
        layout
    }

    /// Finds or makes the slots of an output of the window in the making, whose slots begin at `first`.
    fn answer(&mut self, output: &Output, first: usize) -> Answer {
        let kept = |column: usize| self.columns.binary_search(&column).ok();
        let column = output.column.and_then(kept);
        let second = output.second.and_then(kept);
        let filter = output.filter.and_then(kept);
        let mut places = [usize::MAX; Primitive::COUNT];
        for &primitive in output.aggregate.primitives() {
            if primitive == Primitive::Position {
                continue;
            }
            let own = output.aggregate.running().filter(|_| primitive == Primitive::Own);
            let primitive_kept = kept_as(primitive, output.frame);
            // What the second column decides, only an aggregate's own value reads.
            let second = second.filter(|_| primitive == Primitive::Own);
            let slot = Slot { primitive: primitive_kept, column, second, filter, own };
            let place = self.slots[first..].iter().position(|s| *s == slot).map(|i| first + i);
            places[primitive as usize] = place.unwrap_or_else(|| {
                self.slots.push(slot);
                self.slots.len() - 1
            });
        }
        let aggregate = Arc::clone(&output.aggregate);
        Answer { window: self.windows.len(), column, second, filter, places, aggregate }
    }

    /// The states of a key without rows.
    pub(super) fn states(&self) -> Box<[State]> {
        let state = |slot: &Slot| match &slot.own {
            Some(own) => Some(State::Own(own.fresh())),
            None => State::new(slot.primitive),
        };
        self.slots.iter().filter_map(state).collect()
    }

    /// The first position that some read at `watermark` or later may see.
    pub(super) fn cut(&self, log: &Log, sessions: &[Sessions], watermark: Micros) -> usize {
        let cuts = self.windows.iter().map(|window| window.cut(log, sessions, watermark));
        cuts.min().unwrap_or(log.end())
    }

    /// When [`Layout::cut`] will have passed about half of the rows that can go at all.
    pub(super) fn half_life(&self, log: &Log, sessions: &[Sessions]) -> Option<Micros> {
        let spare = log.len().checked_sub(self.rows).filter(|spare| *spare > 0)?;
        let middle = log.base() + (spare - 1) / 2;
        let left = |window: &Window| window.left_at(log, sessions, middle);
        self.windows.iter().map(left).try_fold(Micros::MIN, |latest, left| Some(latest.max(left?)))
    }
}

/// What stands for a primitive in a frame. An extreme may ask for the rows again, and a window over
/// all rows has let go of them: it keeps all values in order.
fn kept_as(primitive: Primitive, frame: Frame) -> Primitive {
    match primitive {
        Primitive::Least | Primitive::Greatest
            if matches!(frame, Frame::Lifetime | Frame::Decayed(_)) =>
        {
            Primitive::Ordered
        }
        other => other,
    }
}
