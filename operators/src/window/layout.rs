//! A group, compiled: its distinct windows, their primitives each once, and where outputs find them.

use std::ops::Range;
use std::sync::Arc;

use tidemill_config::plan::{Edge, Frame};
use tidemill_types::Micros;

use super::frame::Reach;
use super::history::States;
use super::log::{Log, Width};
use super::session::Sessions;
use super::{Group, Output};
use crate::aggregate::state::State;
use crate::aggregate::{ALL_ROWS, Aggregate, Columns, Primitive, Running};

pub(super) struct Layout {
    /// Which of a row's values are kept, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) width: Width,
    pub(super) windows: Vec<Window>,
    pub(super) outputs: Vec<Answer>,
    /// What makes each state of a key.
    slots: Vec<Slot>,
    counts: usize,
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
    pub(super) feeds: Vec<Feed>,
    /// Its counts and states within those of a key.
    pub(super) counts: Range<usize>,
    pub(super) states: Range<usize>,
    /// What is read of it.
    pub(super) outputs: Vec<usize>,
    /// Whether some state may ask for the rows again.
    pub(super) extremes: bool,
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
        let mut frames: Vec<(Frame, Edge)> = outputs.iter().map(|o| (o.frame, o.edge)).collect();
        frames.sort_unstable();
        frames.dedup();
        let gap = |frame: &(Frame, Edge)| match frame.0 {
            Frame::Session(gap) => Some(gap),
            _ => None,
        };
        let mut gaps: Vec<Micros> = frames.iter().filter_map(gap).collect();
        gaps.dedup();
        let mut layout = Layout {
            gaps,
            rows: 0,
            lifetime: false,
            width: Width::new(columns.len()),
            windows: Vec::new(),
            slots: Vec::new(),
            counts: 0,
            outputs: outputs.iter().map(|output| Answer::new(output, &columns)).collect(),
            columns,
        };
        // By window, so that the states of one lie together.
        for (frame, edge) in frames {
            let of = |n: &usize| (outputs[*n].frame, outputs[*n].edge) == (frame, edge);
            let of = (0..outputs.len()).filter(of).collect();
            layout.window(frame, Reach::new(frame, edge, own_stream), of);
        }
        layout
    }

    /// Adds a window with the slots that its outputs read, each once.
    fn window(&mut self, frame: Frame, reach: Reach, outputs: Vec<usize>) {
        let reads = |n: &usize| self.outputs[*n].aggregate.primitives();
        let by_position = outputs.iter().any(|n| reads(n).contains(&Primitive::Position));
        let kept = match (frame, reach.rows()) {
            (Frame::Rows(_), Some(rows)) => rows,
            _ if reach.holds_all() && by_position => usize::MAX,
            _ => 0,
        };
        self.rows = self.rows.max(kept);
        self.lifetime |= reach.holds_all();
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
                if counts_rows(primitive, &reach, columns) {
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
                let slot = Slot { primitive: kept_as(primitive, &reach), own };
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
            gap: reach.gap().and_then(|gap| self.gaps.binary_search(&gap).ok()),
            reach,
            by_position,
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

    /// States for one read of a key that keeps none.
    pub(super) fn scratch(&self) -> States {
        let States { counts, states } = self.states();
        States { counts, states: states.into_iter().map(State::that_grows_only).collect() }
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
fn counts_rows(primitive: Primitive, reach: &Reach, columns: Columns) -> bool {
    primitive == Primitive::Count && columns == Columns::default() && !reach.holds_all()
}

/// What stands for a primitive in a frame. An extreme may ask for the rows again, and a window over
/// all rows has let go of them: it keeps all values in order.
fn kept_as(primitive: Primitive, reach: &Reach) -> Primitive {
    match primitive {
        Primitive::Least | Primitive::Greatest if reach.holds_all() => Primitive::Ordered,
        other => other,
    }
}
