//! Aggregates: what a window of rows becomes.
//!
//! An aggregate names the [`Primitive`]s it needs; the window keeps each primitive once, however
//! many aggregates read it, and takes rows in and out of them exactly. [`Aggregate::finish`] is a
//! pure function of the primitives. So an aggregate can be retracted because all primitives can.
//! What no primitive gives, an aggregate keeps in a [`Running`] value of its own, in its own file.
//!
//! To add one: a file with an [`Entry`], and two lines here. The laws in `tests/aggregates.rs` run
//! over the list.

use std::any::Any;

use tidemill_types::{DataType, Micros, Value};

pub mod distinct;
pub mod exact_sum;
pub mod extreme;
pub mod leaves;
pub mod ordered;
pub mod squares;
pub mod state;
pub mod wide;

mod avg;
mod bytes;
mod change;
mod count;
mod decay;
mod drawdown;
mod dyadic;
mod elapsed;
mod ewma;
mod extremum;
mod geometric;
mod pairs;
mod position;
mod quantile;
mod regression;
mod shape;
mod sum;
mod variance;

use distinct::Distinct;
use exact_sum::Sum;
use ordered::Ordered;
use squares::SumSquares;
use state::State;

pub use decay::decayed;

/// Every aggregate, in the order of the reference.
pub const AGGREGATES: &[Entry] = &[
    count::ENTRY,
    sum::ENTRY,
    avg::ENTRY,
    variance::VAR_SAMP,
    variance::VAR_POP,
    variance::STDDEV_SAMP,
    variance::STDDEV_POP,
    extremum::MIN,
    extremum::MAX,
    position::FIRST_VALUE,
    position::LAST_VALUE,
    position::LAG,
    quantile::QUANTILE,
    quantile::MEDIAN,
    shape::SKEWNESS,
    shape::SKEW_POP,
    shape::KURTOSIS,
    shape::KURTOSIS_POP,
    geometric::ENTRY,
    regression::CORR,
    regression::COVAR_SAMP,
    regression::COVAR_POP,
    regression::REGR_COUNT,
    regression::REGR_AVGX,
    regression::REGR_AVGY,
    regression::REGR_SXX,
    regression::REGR_SYY,
    regression::REGR_SXY,
    regression::REGR_SLOPE,
    regression::REGR_INTERCEPT,
    regression::REGR_R2,
    regression::SLOPE_OVER_TIME,
    decay::DECAYED_SUM,
    decay::DECAYED_COUNT,
    decay::DECAYED_AVG,
    ewma::ENTRY,
    elapsed::TIME_SINCE_LAST,
    elapsed::TIME_SINCE_FIRST,
    change::CHANGE,
    change::DELTA,
    change::RATE,
    drawdown::ENTRY,
];

/// What the list says about an aggregate.
pub struct Entry {
    /// Its SQL name, lower case.
    pub name: &'static str,
    /// Other names that people know it by.
    pub aliases: &'static [&'static str],
    /// One line for the reference.
    pub summary: &'static str,
    /// Types a call, or says why it can't be.
    pub build: fn(&Call<'_>) -> Result<Box<dyn Aggregate>, String>,
}

/// A call as written: `name([DISTINCT] args) FILTER (WHERE ...)`. The filter is applied before.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The name as written, lower case.
    pub name: &'a str,
    /// `count(distinct x)`
    pub distinct: bool,
    /// The type of the first argument; none for `count(*)`.
    pub input: Option<DataType>,
    /// The type of the second argument where it is a column too: `corr(x, y)`.
    pub second: Option<DataType>,
    /// Further arguments: constants (`quantile(x, 0.9)`, `lag(x, 2)`).
    pub constants: &'a [Value],
}

impl Call<'_> {
    /// The type of the argument, if it is among `accepted`.
    fn input(&self, accepted: &[DataType]) -> Result<DataType, String> {
        let names: Vec<&str> = accepted.iter().map(|t| t.name()).collect();
        let found = match self.input {
            Some(input) if accepted.contains(&input) => return Ok(input),
            Some(input) => input.name(),
            None => "no column",
        };
        Err(format!("{} takes a column of type {}; found {found}", self.name, one_of(&names)))
    }

    /// Refuses DISTINCT where it would change the result and is not offered.
    fn without_distinct(&self) -> Result<(), String> {
        if self.distinct {
            return Err(format!("{} does not take DISTINCT; count does", self.name));
        }
        Ok(())
    }

    /// Refuses further arguments.
    fn without_constants(&self) -> Result<(), String> {
        match self.constants.len() + usize::from(self.second.is_some()) {
            0 => Ok(()),
            n => Err(format!("{} takes 1 argument; found {}", self.name, n + 1)),
        }
    }

    /// Refuses a second column.
    fn without_second(&self) -> Result<(), String> {
        match self.second {
            None => Ok(()),
            Some(_) => {
                Err(format!("{} takes one column; its other arguments are constants", self.name))
            }
        }
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_string(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// What a window keeps of one column for an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Primitive {
    /// How many values (rows, where there is no column) are not NULL.
    Count,
    /// Their exact sum.
    Sum,
    /// The exact sum of their squares.
    SumSquares,
    /// The least number.
    Least,
    /// The greatest number.
    Greatest,
    /// The values in order: ranks, and extremes of what is no number.
    Ordered,
    /// How often each value is there.
    Distinct,
    /// The rows by position.
    Position,
    /// What the aggregate keeps itself: [`Aggregate::running`].
    Own,
}

impl Primitive {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;
}

/// The aggregate of a call.
///
/// # Errors
/// A name that is on no list, or a call that the aggregate refuses.
pub fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    let entry = AGGREGATES.iter().find(|e| e.name == call.name || e.aliases.contains(&call.name));
    let entry = entry.ok_or_else(|| format!("there is no aggregate `{}`", call.name))?;
    (entry.build)(call)
}

/// An aggregate, typed.
pub trait Aggregate: Send + Sync {
    /// The type of the result.
    fn output(&self) -> DataType;

    /// What it reads.
    fn primitives(&self) -> &'static [Primitive];

    /// Over no rows, the running value that [`Primitive::Own`] stands for.
    fn running(&self) -> Option<Box<dyn Running>> {
        None
    }

    /// The result over the rows in the window, as SQL has it: NULL values are not there; over no
    /// values a count is 0 and everything else NULL.
    fn finish(&self, view: &View<'_>) -> Value;
}

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

/// What an aggregate keeps of a window where no [`Primitive`] gives it.
///
/// The law: a function of the multiset of rows that are in it, to the last bit, whatever their order
/// and whatever came and went between. Rows of which every argument is NULL come too.
pub trait Running: Send + Sync {
    /// Kind and parameters: aggregates over the same columns whose running values have one name
    /// share one.
    fn name(&self) -> String;

    /// Another one, over no rows.
    fn fresh(&self) -> Box<dyn Running>;

    /// Adds a row.
    fn insert(&mut self, row: &Row<'_>);

    /// Takes out a row that was added.
    fn remove(&mut self, row: &Row<'_>);

    /// Takes out all rows.
    fn clear(&mut self);

    /// Adds all rows of another of the same name.
    fn merge(&mut self, other: &dyn Running);

    /// Its bytes, for [`Running::restore`] of any build.
    fn save(&self) -> Vec<u8>;

    /// One that holds what was saved; none if these are no bytes of its kind.
    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>>;

    /// Bytes on the heap, its own size included.
    fn bytes(&self) -> usize;

    /// For [`View::own`].
    fn as_any(&self) -> &dyn Any;
}

/// What [`Aggregate::finish`] sees. Filled in by the window.
///
/// A primitive that the aggregate did not name is not there: its count is 0, the others none.
pub struct View<'a> {
    pub(crate) states: &'a [State],
    /// Where in `states` each [`Primitive`] stands; out of range if it was not named.
    pub(crate) places: &'a [usize; Primitive::COUNT],
    pub(crate) rows: &'a dyn Rows,
    /// As of when the window is.
    pub(crate) time: Micros,
}

/// The rows of a window by position, in (event time, id) order, NULL values included.
pub(crate) trait Rows {
    /// Visits rows from the oldest on, or from the newest back, without the first `skip` of them,
    /// until `visit` says false.
    fn walk(&self, newest_first: bool, skip: usize, visit: &mut dyn FnMut(Row<'_>) -> bool);
}

impl<'a> View<'a> {
    fn state(&self, primitive: Primitive) -> Option<&'a State> {
        self.states.get(self.places[primitive as usize])
    }

    /// [`Primitive::Count`]
    pub fn count(&self) -> u64 {
        match self.state(Primitive::Count) {
            Some(State::Count(n)) => *n,
            _ => 0,
        }
    }

    /// [`Primitive::Sum`]
    pub fn sum(&self) -> Option<&'a Sum> {
        match self.state(Primitive::Sum) {
            Some(State::Sum(sum)) => Some(sum),
            _ => None,
        }
    }

    /// [`Primitive::SumSquares`]
    pub fn squares(&self) -> Option<&'a SumSquares> {
        match self.state(Primitive::SumSquares) {
            Some(State::SumSquares(squares)) => Some(squares),
            _ => None,
        }
    }

    /// [`Primitive::Least`] or [`Primitive::Greatest`]
    pub fn extreme(&self, greatest: bool) -> Option<Value> {
        match self.state(if greatest { Primitive::Greatest } else { Primitive::Least })? {
            State::Extreme(extreme) => extreme.get(),
            State::Ordered(all) if greatest => all.max(),
            State::Ordered(all) => all.min(),
            _ => None,
        }
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
        self.rows.walk(newest_first, 0, &mut visit);
    }

    fn nth(&self, newest_first: bool, n: usize) -> Option<Value> {
        let mut found = None;
        self.rows.walk(newest_first, n, &mut |row| {
            found = Some(row.value.clone());
            false
        });
        found
    }
}
