//! A group, compiled: its distinct windows, their primitives each once, and where outputs find them.

use std::ops::Range;
use std::sync::Arc;

use tidemill_config::plan::{Edge, Frame};
use tidemill_types::{DataType, Micros};

use super::entry::Entry;
use super::frame::{Reach, Span};
use super::history::Scratch;
use super::mark::{Counted, Mark};
use super::moving::goes_onward;
use super::row::{Spot, Width};
use super::standing::States;
use super::{Group, Output};
use crate::aggregate::numbers::{Asks, Numbers};
use crate::aggregate::state::State;
use crate::aggregate::{Aggregate, Columns, Primitive, Running};

pub(super) struct Layout {
    /// Which of a row's values are kept, ascending.
    pub(super) columns: Vec<usize>,
    pub(super) width: Width,
    pub(super) windows: Vec<Window>,
    pub(super) outputs: Vec<Answer>,
    /// What is read off the states for all outputs, the marks of a window together.
    pub(super) marks: Vec<Mark>,
    /// Of the marks those that are how many rows there are, each with its window; those that are of numbers, with
    /// these and whether the sum is to be whole; and all others, with their window.
    pub(super) of_rows: Vec<(usize, usize)>,
    pub(super) of_numbers: Vec<(usize, usize, bool)>,
    pub(super) of_others: Vec<(usize, usize)>,
    /// Those that are how many different values there are: with these.
    pub(super) of_distinct: Vec<(usize, usize)>,
    /// The outputs that are one row's value, each with its window.
    pub(super) placed: Vec<(usize, usize, Place)>,
    /// The outputs that need more than a moment, each with its window.
    pub(super) others: Vec<(usize, usize)>,
    pub(super) entry: Entry,
    /// The reach of all windows, where each is as simple as that, and since when no time is out of range.
    pub(super) spans: Option<(Vec<Span>, Micros)>,
    /// Whether a row that enters and rows that leave are all there is to them.
    pub(super) onward: bool,
    /// What makes each state of a key.
    slots: Vec<Slot>,
    numbers: Vec<Asks>,
    counts: usize,
    /// The gaps of session windows, each once.
    pub(super) gaps: Vec<Micros>,
    /// The newest rows that stay however old they are: as many as the longest row frame shows, or all
    /// where a window over all rows reads them by position.
    pub(super) rows: usize,
    /// Whether some window is over all rows.
    pub(super) lifetime: bool,
    /// Windows of which tiles are kept in place of settled rows.
    tiled: Vec<usize>,
}

pub(super) struct Window {
    pub(super) reach: Reach,
    /// Where a session window's gap stands among the gaps.
    pub(super) gap: Option<usize>,
    /// Whether it ends where the one before it ends.
    pub(super) ends_alike: bool,
    /// Whether its rows are read by position, and not only through its states.
    pub(super) by_position: bool,
    /// Whether tiles stand in for its settled rows.
    pub(super) tiled: bool,
    pub(super) feeds: Vec<Feed>,
    /// Its counts, numbers and states within those of a key.
    pub(super) counts: Range<usize>,
    pub(super) numbers: Range<usize>,
    pub(super) states: Range<usize>,
    /// Whether some state may ask for the rows again.
    pub(super) extremes: bool,
}

/// What one kept column, or two, under one kept filter goes into.
pub(super) struct Feed {
    pub(super) column: Option<usize>,
    pub(super) second: Option<usize>,
    pub(super) filter: Option<usize>,
    /// Its numbers, where some are asked for.
    pub(super) numbers: Option<usize>,
    /// The count of values that are not NULL, where it is read and not among the numbers.
    pub(super) count: Option<usize>,
    pub(super) states: Range<usize>,
    /// Where the numbers stand in a row, if they are all that it goes into.
    pub(super) only: Option<Only>,
    /// The same of different values.
    pub(super) distinct: Option<(Spot, usize)>,
}

/// Numbers, where they and the filter that they pass stand in a row.
#[derive(Clone, Copy)]
pub(super) struct Only {
    pub(super) spot: Spot,
    pub(super) filter: Option<Spot>,
    pub(super) numbers: usize,
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

/// A column of one row in a window.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) column: usize,
    /// From which end rows are counted, and how many are passed over.
    pub(super) newest_first: bool,
    pub(super) skip: usize,
}

pub(super) struct Answer {
    pub(super) columns: Columns,
    /// Where each primitive stands among the states; out of range if it is none or is not read.
    pub(super) places: [usize; Primitive::COUNT],
    /// Where its count and its numbers are.
    pub(super) count: Counted,
    pub(super) numbers: Option<usize>,
    /// Where it needs nothing but a moment, the number of that among the marks.
    pub(super) mark: Option<usize>,
    /// Where it is one row's value, [`Aggregate::place`].
    pub(super) place: Option<Place>,
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
            tiled: Vec::new(),
            width: Width::new(columns.len()),
            windows: Vec::new(),
            slots: Vec::new(),
            numbers: Vec::new(),
            counts: 0,
            outputs: outputs.iter().map(|output| Answer::new(output, &columns)).collect(),
            marks: Vec::new(),
            of_rows: Vec::new(),
            of_numbers: Vec::new(),
            of_others: Vec::new(),
            of_distinct: Vec::new(),
            placed: Vec::new(),
            others: Vec::new(),
            entry: Entry::default(),
            spans: None,
            onward: false,
            columns,
        };
        // By window, so that the states of one lie together.
        for (frame, edge) in frames {
            let of = |n: &usize| (outputs[*n].frame, outputs[*n].edge) == (frame, edge);
            let of = (0..outputs.len()).filter(of).collect();
            layout.window(frame, Reach::new(frame, edge, own_stream), of);
        }
        layout.entry = Entry::new(&layout.windows);
        for (at, mark) in layout.marks.iter().enumerate() {
            match (mark.numbers, mark.count) {
                _ if mark.distinct.is_some() => {
                    layout.of_distinct.extend(mark.distinct.map(|distinct| (at, distinct)));
                }
                _ if mark.ordered.is_some() => {
                    layout.of_others.push((at, mark.window));
                }
                (Some(numbers), _) => layout.of_numbers.push((at, numbers, mark.whole)),
                (None, Counted::Rows) => layout.of_rows.push((at, mark.window)),
                (None, _) => layout.of_others.push((at, mark.window)),
            }
        }
        let spans: Option<Vec<Span>> = layout.windows.iter().map(|w| w.reach.span()).collect();
        layout.spans = spans.map(|spans| {
            let longest = spans.iter().filter_map(|span| span.last).max().unwrap_or(0);
            (spans, Micros::MIN.saturating_add(longest.max(0)))
        });
        layout.onward =
            layout.spans.as_ref().is_some_and(|(spans, _)| goes_onward(spans, &layout.windows));
        layout
    }

    /// Adds a window with the slots that its outputs read, each once.
    fn window(&mut self, frame: Frame, reach: Reach, outputs: Vec<usize>) {
        let reads = |n: &usize| self.outputs[*n].aggregate.primitives();
        let by_position = outputs.iter().any(|n| reads(n).contains(&Primitive::Position));
        let of_moments = |n: &usize| reads(n).iter().all(|primitive| primitive.is_of_moment());
        let tiled = reach.has_tiles() && outputs.iter().all(of_moments);
        let kept = match (frame, reach.rows()) {
            (Frame::Rows(_), Some(rows)) => rows,
            _ if reach.holds_all() && by_position => usize::MAX,
            _ => 0,
        };
        self.rows = self.rows.max(kept);
        self.lifetime |= reach.holds_all();
        let (first_count, first_state) = (self.counts, self.slots.len());
        let (first_number, first_mark) = (self.numbers.len(), self.marks.len());
        let mut feeds: Vec<Feed> = Vec::new();
        let mut slots: Vec<Vec<(Slot, Vec<usize>)>> = Vec::new();
        let mut asked: Vec<(Columns, Asks, bool)> = Vec::new();
        for &n in &outputs {
            let Columns { column, second, filter } = self.outputs[n].columns;
            let aggregate = Arc::clone(&self.outputs[n].aggregate);
            for &primitive in aggregate.primitives() {
                if primitive == Primitive::Position {
                    continue;
                }
                // What the second column decides, only an aggregate's own value reads.
                let second = second.filter(|_| primitive == Primitive::Own);
                let columns = Columns { column, second, filter };
                if counts_rows(primitive, &reach, columns, tiled) {
                    continue;
                }
                let feed = asked.iter().position(|(of, ..)| *of == columns).unwrap_or_else(|| {
                    asked.push((columns, Asks::default(), false));
                    slots.push(Vec::new());
                    asked.len() - 1
                });
                let kept = kept_as(primitive, &reach);
                if kept == Primitive::Count {
                    asked[feed].2 = true;
                } else if !asked[feed].1.add(kept) {
                    let own = aggregate.running().filter(|_| kept == Primitive::Own);
                    let slot = Slot { primitive: kept, own };
                    match slots[feed].iter_mut().find(|(known, _)| *known == slot) {
                        Some((_, readers)) => readers.push(n),
                        None => slots[feed].push((slot, vec![n])),
                    }
                }
            }
        }
        for ((columns, asks, counted), slots) in asked.into_iter().zip(slots) {
            let first = self.slots.len();
            let numbers = (asks != Asks::default()).then(|| {
                self.numbers.push(asks);
                self.numbers.len() - 1
            });
            let count = (counted && numbers.is_none()).then(|| {
                self.counts += 1;
                self.counts - 1
            });
            for (slot, readers) in slots {
                for n in readers {
                    self.outputs[n].places[slot.primitive as usize] = self.slots.len();
                }
                self.slots.push(slot);
            }
            let states = first..self.slots.len();
            let only = numbers.filter(|_| count.is_none() && states.is_empty());
            let spot = |column: Option<u32>| column.map(|c| self.width.spot(c as usize));
            let (spot, filter) = (spot(columns.column), spot(columns.filter));
            let only = spot.zip(only).map(|(spot, numbers)| Only { spot, filter, numbers });
            let alone = numbers.is_none() && count.is_none() && states.len() == 1;
            let is_distinct = alone && self.slots[first].primitive == Primitive::Distinct;
            let distinct = columns.column.filter(|_| is_distinct && columns.second.is_none());
            let distinct = distinct.map(|c| (self.width.spot(c as usize), first));
            let Columns { column, second, filter } = columns;
            let [column, second, filter] = [column, second, filter].map(|c| c.map(|c| c as usize));
            feeds.push(Feed { column, second, filter, numbers, count, states, only, distinct });
            for &n in &outputs {
                let output = &mut self.outputs[n];
                let of = Columns { second: None, ..output.columns };
                if of == columns {
                    output.numbers = numbers;
                    output.count = match (numbers, count) {
                        (Some(numbers), _) => Counted::Numbers(numbers),
                        (None, count) => count.map_or(Counted::No, Counted::At),
                    };
                }
            }
        }
        for &n in &outputs {
            let output = &mut self.outputs[n];
            if counts_rows(Primitive::Count, &reach, output.columns, tiled) {
                output.count = Counted::Rows;
            }
        }
        for n in outputs {
            let window = self.windows.len();
            if !self.mark(n, first_mark) {
                match self.outputs[n].place {
                    Some(place) => self.placed.push((window, n, place)),
                    None => self.others.push((window, n)),
                }
            }
        }
        let extremes = self.numbers[first_number..].iter().any(|asks| asks.least || asks.greatest);
        if tiled {
            self.tiled.push(self.windows.len());
        }
        let before = self.windows.last();
        self.windows.push(Window {
            ends_alike: before.is_some_and(|before| before.reach.ends_as(&reach)),
            gap: reach.gap().and_then(|gap| self.gaps.binary_search(&gap).ok()),
            reach,
            by_position,
            tiled,
            feeds,
            counts: first_count..self.counts,
            numbers: first_number..self.numbers.len(),
            states: first_state..self.slots.len(),
            extremes,
        });
    }

    /// Whether an output needs nothing but a moment: it then gets its mark, from `first` on.
    fn mark(&mut self, n: usize, first: usize) -> bool {
        let output = &mut self.outputs[n];
        let distinct = output.aggregate.is_distinct_count();
        let of_moment = |primitive: &Primitive| primitive.is_of_moment();
        if !distinct && !output.aggregate.primitives().iter().all(of_moment) {
            return false;
        }
        let ordered = Some(output.places[Primitive::Ordered as usize]);
        let distinct = Some(output.places[Primitive::Distinct as usize]).filter(|_| distinct);
        let fresh = Mark {
            window: self.windows.len(),
            of: Columns { second: None, ..output.columns },
            count: output.count,
            numbers: output.numbers,
            ordered: ordered.filter(|ordered| *ordered < self.slots.len()),
            distinct: distinct.filter(|distinct| *distinct < self.slots.len()),
            whole: false,
            readers: Vec::new(),
        };
        let same = |mark: &Mark| mark.of == fresh.of && mark.distinct == fresh.distinct;
        let place = self.marks[first..].iter().position(same).map(|place| first + place);
        let place = place.unwrap_or(self.marks.len());
        if place == self.marks.len() {
            self.marks.push(fresh.clone());
        }
        let mark = &mut self.marks[place];
        mark.ordered = mark.ordered.or(fresh.ordered);
        let sums = output.aggregate.primitives().contains(&Primitive::Sum);
        mark.whole |= sums && output.aggregate.output() == DataType::Int64;
        mark.readers.push(n);
        output.mark = Some(place);
        true
    }

    /// The states of a key without rows.
    pub(super) fn states(&self) -> States {
        States {
            counts: vec![0; self.counts].into(),
            numbers: self.numbers.iter().map(|asks| Numbers::new(*asks)).collect(),
            states: self.slots.iter().filter_map(Slot::state).collect(),
        }
    }

    /// Windows of which tiles are kept in place of settled rows.
    pub(super) fn tiled(&self) -> impl Iterator<Item = &Window> {
        self.tiled.iter().map(|w| &self.windows[*w])
    }

    /// Whether there are such windows.
    pub(super) fn has_tiles(&self) -> bool {
        !self.tiled.is_empty()
    }

    /// What the keys of a store share.
    pub(super) fn scratch(&self) -> Scratch {
        Scratch { states: self.states(), ranges: vec![0..0; self.windows.len()].into() }
    }
}

impl Answer {
    fn new(output: &Output, columns: &[usize]) -> Answer {
        let kept = |column: usize| columns.binary_search(&column).ok().map(|kept| kept as u32);
        let column = output.column.and_then(kept);
        let place = output.aggregate.place().filter(|_| output.filter.is_none());
        Answer {
            columns: Columns {
                column,
                second: output.second.and_then(kept),
                filter: output.filter.and_then(kept),
            },
            places: Primitive::NOWHERE,
            count: Counted::No,
            numbers: None,
            mark: None,
            place: column.zip(place).map(|(column, (newest_first, skip))| Place {
                column: column as usize,
                newest_first,
                skip,
            }),
            aggregate: Arc::clone(&output.aggregate),
        }
    }
}

/// Whether a primitive is no more than the number of rows in the window. Of a window over all rows that is
/// not known: rows that the log let go of may be taken back; nor of one of which tiles are kept.
fn counts_rows(primitive: Primitive, reach: &Reach, columns: Columns, tiled: bool) -> bool {
    let counts = primitive == Primitive::Count && columns == Columns::default();
    counts && !reach.holds_all() && !tiled
}

/// What stands for a primitive in a frame. An extreme may ask for the rows again, and a window over
/// all rows has let go of them: it keeps all values in order.
fn kept_as(primitive: Primitive, reach: &Reach) -> Primitive {
    match primitive {
        Primitive::Least | Primitive::Greatest if reach.holds_all() => Primitive::Ordered,
        other => other,
    }
}
