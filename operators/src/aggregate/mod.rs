//! Aggregates: what a window of rows becomes.
//!
//! An aggregate names the [`Primitive`]s it needs; the window keeps each primitive once, however
//! many aggregates read it, and takes rows in and out of them exactly. [`Aggregate::finish`] is a
//! pure function of the primitives. So an aggregate can be retracted because all primitives can.

use tidemill_types::{DataType, Value};

/// Every aggregate, in the order of the reference.
pub const AGGREGATES: &[Entry] = &[];

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
    /// Further arguments: constants (`quantile(x, 0.9)`, `lag(x, 2)`).
    pub constants: &'a [Value],
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
    /// The values in order: extrema, ranks.
    Ordered,
    /// How often each value is there.
    Distinct,
    /// The rows by position.
    Position,
}

/// An aggregate, typed.
pub trait Aggregate: Send + Sync {
    /// The type of the result.
    fn output(&self) -> DataType;

    /// What it reads.
    fn primitives(&self) -> &'static [Primitive];

    /// The result over the rows in the window, as SQL has it: NULL values are not there; over no
    /// values a count is 0 and everything else NULL.
    fn finish(&self, view: &View<'_>) -> Value;
}

/// What [`Aggregate::finish`] sees. Filled in by the window.
pub struct View<'a> {
    pub(crate) _todo: std::marker::PhantomData<&'a ()>,
}
