//! A group, compiled: its distinct windows, their primitives each once, and where outputs find them.

use std::ops::Range;
use std::sync::Arc;

use tidemill_config::plan::Frame;
use tidemill_types::Micros;

use super::{Group, Output};
use crate::aggregate::state::State;
use crate::aggregate::{Aggregate, Primitive, Running};

pub(super) struct Layout {
    pub(super) own_stream: bool,
    /// Which of a row's values are kept, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) windows: Vec<Window>,
    /// What feeds each state of a key.
    pub(super) slots: Vec<Slot>,
    pub(super) outputs: Vec<Answer>,
    /// The longest of the time frames.
    span: Option<Micros>,
    /// The newest rows that stay however old they are: as many as the longest row frame shows, or all
    /// where a window over all rows reads them by position.
    rows: usize,
    /// Whether some window is over all rows.
    pub(super) lifetime: bool,
}

pub(super) struct Window {
    pub(super) frame: Frame,
    /// Its states within those of a key.
    pub(super) slots: Range<usize>,
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
        let mut frames: Vec<Frame> = outputs.iter().map(|o| o.frame).collect();
        frames.sort_unstable();
        frames.dedup();
        // By window, so that the states of one lie together.
        let mut layout = Layout {
            own_stream,
            span: frames.iter().filter_map(span).max(),
            rows: outputs.iter().map(rows_kept).max().unwrap_or(0),
            lifetime: frames.contains(&Frame::Lifetime),
            columns,
            windows: Vec::new(),
            slots: Vec::new(),
            outputs: Vec::new(),
        };
        let mut answers: Vec<Option<Answer>> = outputs.iter().map(|_| None).collect();
        for frame in frames {
            let first = layout.slots.len();
            for (output, answer) in
                outputs.iter().zip(&mut answers).filter(|(o, _)| o.frame == frame)
            {
                *answer = Some(layout.answer(output, first));
            }
            let slots = first..layout.slots.len();
            layout.windows.push(Window { frame, slots });
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

    /// How many of `len` rows, `settled` of them before the watermark and `expired` of them before
    /// the longest time frame at it, no read at the watermark or later can see.
    pub(super) fn unseen(
        &self,
        len: usize,
        settled: usize,
        expired: impl Fn(Micros) -> usize,
    ) -> usize {
        let by_time = self.span.map_or(len, expired);
        let by_rows = if self.rows > 0 { settled.saturating_sub(self.rows) } else { len };
        let by_life = if self.lifetime { settled } else { len };
        by_time.min(by_rows).min(by_life)
    }

    /// When about half of `len` rows will be [`Layout::unseen`], given the time of each.
    pub(super) fn half_life(&self, len: usize, time: impl Fn(usize) -> Micros) -> Option<Micros> {
        if len <= self.rows {
            return None;
        }
        let middle = (len - self.rows - 1) / 2;
        let settled = time(middle + self.rows).saturating_add(1);
        let expired = time(middle).saturating_add(self.span.unwrap_or(0)).saturating_add(1);
        Some(settled.max(expired))
    }
}

/// What stands for a primitive in a frame. An extreme may ask for the rows again, and a window over
/// all rows has let go of them: it keeps all values in order.
fn kept_as(primitive: Primitive, frame: Frame) -> Primitive {
    match primitive {
        Primitive::Least | Primitive::Greatest if frame == Frame::Lifetime => Primitive::Ordered,
        other => other,
    }
}

fn span(frame: &Frame) -> Option<Micros> {
    match frame {
        Frame::Last(span) => Some(*span),
        _ => None,
    }
}

fn rows_kept(output: &Output) -> usize {
    match output.frame {
        Frame::Last(_) => 0,
        Frame::Rows(n) => usize::try_from(n).unwrap_or(usize::MAX),
        Frame::Lifetime => match output.aggregate.primitives().contains(&Primitive::Position) {
            true => usize::MAX,
            false => 0,
        },
    }
}
