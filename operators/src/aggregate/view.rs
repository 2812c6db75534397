//! What aggregates see of a window.

use tidemill_types::{Micros, Value};

use super::Primitive;
use super::distinct::Distinct;
use super::moment::Moment;
use super::numbers::Numbers;
use super::ordered::Ordered;
use super::state::State;

/// A row as running values and [`View::walk`] see it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its event time.
    pub time: Micros,
    /// The first argument; a truth value where there is none.
    pub value: &'a Value,
    /// The second argument; NULL where there is none.
    pub second: &'a Value,
}

/// What [`Aggregate::finish`] sees. Filled in by the window.
///
/// A primitive that the aggregate did not name is not there.
pub struct View<'a> {
    pub(crate) moment: &'a Moment,
    pub(crate) numbers: Option<&'a Numbers>,
    pub(crate) states: &'a [State],
    /// Where in `states` each [`Primitive`] stands; out of range if it was not named.
    pub(crate) places: &'a [usize; Primitive::COUNT],
    /// Which columns the output reads, and its filter.
    pub(crate) columns: Columns,
    pub(crate) rows: &'a dyn Rows,
    /// As of when the window is.
    pub(crate) time: Micros,
}

/// The columns that a call reads, by their number among those that the window keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Columns {
    pub(crate) column: Option<u32>,
    pub(crate) second: Option<u32>,
    pub(crate) filter: Option<u32>,
}

/// The rows of a window by position, in (event time, id) order, NULL values included.
pub(crate) trait Rows {
    /// Visits the rows that pass the filter from the oldest on, or from the newest back, without the
    /// first `skip` of them, until `visit` says false.
    fn walk(
        &self,
        columns: Columns,
        newest_first: bool,
        skip: usize,
        visit: &mut dyn FnMut(Row<'_>) -> bool,
    );

    /// The first argument in the oldest or the newest row that passes the filter but `n`.
    fn nth(&self, columns: Columns, newest_first: bool, n: usize) -> Option<Value> {
        let mut found = None;
        self.walk(columns, newest_first, n, &mut |row| {
            found = Some(row.value.clone());
            false
        });
        found
    }
}

/// No rows.
struct NoRows;

impl Rows for NoRows {
    fn walk(&self, _: Columns, _: bool, _: usize, _: &mut dyn FnMut(Row<'_>) -> bool) {}
}

impl<'a> View<'a> {
    /// One of which nothing is seen but a moment.
    #[inline]
    pub(crate) fn at(moment: &'a Moment) -> View<'a> {
        View {
            moment,
            numbers: None,
            states: &[],
            places: &Primitive::NOWHERE,
            columns: Columns::default(),
            rows: &NoRows,
            time: 0,
        }
    }

    fn state(&self, primitive: Primitive) -> Option<&'a State> {
        self.states.get(self.places[primitive as usize])
    }

    /// [`Primitive::Count`]
    #[inline]
    pub fn count(&self) -> u64 {
        self.moment.count
    }

    /// [`Primitive::Count`], and [`Primitive::Sum`], [`Primitive::SumSquares`], [`Primitive::Least`] and
    /// [`Primitive::Greatest`] of an aggregate that names nothing else.
    #[inline]
    pub fn moment(&self) -> &'a Moment {
        self.moment
    }

    /// [`Primitive::Sum`] and [`Primitive::SumSquares`], exactly.
    pub fn numbers(&self) -> Option<&'a Numbers> {
        self.numbers
    }

    /// [`Primitive::Ordered`]
    pub fn ordered(&self) -> Option<&'a Ordered> {
        match self.state(Primitive::Ordered) {
            Some(State::Ordered(ordered)) => Some(ordered),
            _ => None,
        }
    }

    /// [`Primitive::Distinct`]
    pub fn distinct(&self) -> Option<&'a Distinct> {
        match self.state(Primitive::Distinct) {
            Some(State::Distinct(distinct)) => Some(distinct),
            _ => None,
        }
    }

    /// [`Primitive::Own`], of the type that [`Aggregate::running`] made.
    pub fn own<T: 'static>(&self) -> Option<&'a T> {
        match self.state(Primitive::Own) {
            Some(State::Own(running)) => running.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// As of when the window is: the event time of the spine's row, less the window's offset.
    pub fn time(&self) -> Micros {
        self.time
    }

    /// [`Primitive::Position`]: the value in the oldest row but `n`; none if there are not so many.
    pub fn oldest(&self, n: usize) -> Option<Value> {
        self.nth(false, n)
    }

    /// [`Primitive::Position`]: the value in the newest row but `n`; none if there are not so many.
    pub fn newest(&self, n: usize) -> Option<Value> {
        self.nth(true, n)
    }

    /// [`Primitive::Position`]: visits rows in (event time, id) order, or from the newest back, until
    /// `visit` says false. The cost is the rows visited and those that a filter passes over.
    pub fn walk(&self, newest_first: bool, mut visit: impl FnMut(Row<'_>) -> bool) {
        self.rows.walk(self.columns, newest_first, 0, &mut visit);
    }

    fn nth(&self, newest_first: bool, n: usize) -> Option<Value> {
        self.rows.nth(self.columns, newest_first, n)
    }
}
