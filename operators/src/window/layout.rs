//! A group, compiled: its distinct windows, their primitives each once, and where outputs find them.

use std::ops::Range;
use std::sync::Arc;

use tidemill_config::plan::Frame;
use tidemill_types::Micros;

use super::history::States;
use super::log::Width;
use super::{Group, Output};
use crate::aggregate::state::State;
use crate::aggregate::{ALL_ROWS, Aggregate, Columns, Primitive, Running};

pub(super) struct Layout {
    pub(super) own_stream: bool,
    /// Which of a row's values are kept, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) width: Width,
    pub(super) windows: Vec<Window>,
    pub(super) outputs: Vec<Answer>,
    /// What makes each state of a key.
    slots: Vec<Slot>,
    counts: usize,
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
    pub(super) feeds: Vec<Feed>,
    /// Its counts and states within those of a key.
    pub(super) counts: Range<usize>,
    pub(super) states: Range<usize>,
    /// What is read of it.
    pub(super) outputs: Vec<usize>,
    /// Whether some state may ask for the rows again.
    pub(super) extremes: bool,
}

/// What one kept column, or two, under one kept filter goes into.
pub(super) struct Feed {
    pub(super) column: Option<usize>,
    pub(super) second: Option<usize>,
    pub(super) filter: Option<usize>,
    /// The count of values that are not NULL, where it is read.
    pub(super) count: Option<usize>,
    pub(super) states: Range<usize>,
    /// Whether all states take numbers apart once: [`State::step`].
    pub(super) numbers: bool,
}

/// A primitive of a window.
struct Slot {
    primitive: Primitive,
    /// What makes the state of [`Primitive::Own`].
    own: Option<Box<dyn Running>>,
}

impl Slot {
    /// Its state over no rows.
    fn state(&self) -> Option<State> {
        match &self.own {
            Some(own) => Some(State::Own(own.fresh())),
            None => State::new(self.primitive),
        }
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Slot) -> bool {
        let name = |slot: &Slot| slot.own.as_ref().map(|own| own.name());
        self.primitive == other.primitive && name(self) == name(other)
    }
}

pub(super) struct Answer {
    pub(super) columns: Columns,
    /// Where each primitive stands among the counts or states; out of range if it is not read.
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
        let mut layout = Layout {
            own_stream,
            span: frames.iter().filter_map(span).max(),
            rows: outputs.iter().map(rows_kept).max().unwrap_or(0),
            lifetime: frames.contains(&Frame::Lifetime),
            width: Width::new(columns.len()),
            windows: Vec::new(),
            slots: Vec::new(),
            counts: 0,
            outputs: outputs.iter().map(|output| Answer::new(output, &columns)).collect(),
            columns,
        };
        // By window, so that the states of one lie together.
        for frame in frames {
            let of = (0..outputs.len()).filter(|n| outputs[*n].frame == frame).collect();
            layout.window(frame, of);
        }
        layout
    }

    /// Adds a window with the slots that its outputs read, each once.
    fn window(&mut self, frame: Frame, outputs: Vec<usize>) {
        let (first_count, first_state) = (self.counts, self.slots.len());
        let mut wanted: Vec<(Columns, Vec<Slot>, bool)> = Vec::new();
        let mut asks = Vec::new();
        for &n in &outputs {
            let Columns { column, second, filter } = self.outputs[n].columns;
            let aggregate = Arc::clone(&self.outputs[n].aggregate);
            for &primitive in aggregate.primitives() {
                if primitive == Primitive::Position {
                    continue;
                }
                let own = aggregate.running().filter(|_| primitive == Primitive::Own);
                // What the second column decides, only an aggregate's own value reads.
                let second = second.filter(|_| primitive == Primitive::Own);
                let columns = Columns { column, second, filter };
                if counts_rows(primitive, frame, columns) {
                    self.outputs[n].places[primitive as usize] = ALL_ROWS;
                    continue;
                }
                let feed = wanted.iter().position(|w| w.0 == columns).unwrap_or_else(|| {
                    wanted.push((columns, Vec::new(), false));
                    wanted.len() - 1
                });
                if primitive == Primitive::Count {
                    wanted[feed].2 = true;
                    asks.push((n, primitive, feed, 0));
                    continue;
                }
                let slot = Slot { primitive: kept_as(primitive, frame), own };
                let slots = &mut wanted[feed].1;
                let place = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
                    slots.push(slot);
                    slots.len() - 1
                });
                asks.push((n, primitive, feed, place));
            }
        }
        let mut feeds: Vec<Feed> = Vec::with_capacity(wanted.len());
        let mut places: Vec<Vec<usize>> = Vec::with_capacity(wanted.len());
        for (Columns { column, second, filter }, slots, counted) in wanted {
            let first = self.slots.len();
            // In one order, whatever the order of the calls: states are stepped in stretches.
            let mut slots: Vec<(usize, Slot)> = slots.into_iter().enumerate().collect();
            slots.sort_by_key(|(_, slot)| slot.primitive);
            let mut place = vec![0; slots.len()];
            for (i, (asked, slot)) in slots.into_iter().enumerate() {
                place[asked] = first + i;
                self.slots.push(slot);
            }
            places.push(place);
            let count = counted.then_some(self.counts);
            self.counts += usize::from(counted);
            let slots = &self.slots[first..];
            let takes = |slot: &Slot| slot.state().is_some_and(|state| state.takes_numbers());
            let numbers = column.is_some() && slots.iter().all(takes);
            let states = first..self.slots.len();
            let [column, second, filter] = [column, second, filter].map(|c| c.map(|c| c as usize));
            feeds.push(Feed { column, second, filter, count, states, numbers });
        }
        for (n, primitive, feed, place) in asks {
            self.outputs[n].places[primitive as usize] = match primitive {
                Primitive::Count => feeds[feed].count.unwrap_or(usize::MAX),
                _ => places[feed][place],
            };
        }
        let extremes = self.slots[first_state..]
            .iter()
            .any(|s| matches!(s.primitive, Primitive::Least | Primitive::Greatest));
        self.windows.push(Window {
            frame,
            feeds,
            counts: first_count..self.counts,
            states: first_state..self.slots.len(),
            outputs,
            extremes,
        });
    }

    /// The states of a key without rows.
    pub(super) fn states(&self) -> States {
        States {
            counts: vec![0; self.counts].into(),
            states: self.slots.iter().filter_map(Slot::state).collect(),
        }
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

impl Answer {
    fn new(output: &Output, columns: &[usize]) -> Answer {
        let kept = |column: usize| columns.binary_search(&column).ok().map(|kept| kept as u32);
        Answer {
            columns: Columns {
                column: output.column.and_then(kept),
                second: output.second.and_then(kept),
                filter: output.filter.and_then(kept),
            },
            places: [usize::MAX; Primitive::COUNT],
            aggregate: Arc::clone(&output.aggregate),
        }
    }
}

/// Whether a primitive is no more than the number of rows in the window. Of a window over all rows that is
/// not known: rows that the log let go of may be taken back.
fn counts_rows(primitive: Primitive, frame: Frame, columns: Columns) -> bool {
    primitive == Primitive::Count && columns == Columns::default() && frame != Frame::Lifetime
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
