//! One primitive of one window: what rows are put into and taken out of.


use super::distinct::Distinct;
use super::exact_sum::Sum;
use super::extreme::Extreme;
use super::ordered::Ordered;
use super::squares::SumSquares;
use super::{Primitive, Row, Running};

/// The running value of a primitive. [`Primitive::Position`] has none: it reads the rows.
pub enum State {
    /// [`Primitive::Count`]
    Count(u64),
    /// [`Primitive::Sum`]
    Sum(Sum),
    /// [`Primitive::SumSquares`]
    SumSquares(SumSquares),
    /// [`Primitive::Least`], [`Primitive::Greatest`]
    Extreme(Extreme),
    /// [`Primitive::Ordered`]
    Ordered(Ordered),
    /// [`Primitive::Distinct`]
    Distinct(Distinct),
    /// [`Primitive::Own`]
    Own(Box<dyn Running>),
}

impl State {
    /// Over no values; [`Primitive::Own`] is made by the aggregate.
    pub fn new(primitive: Primitive) -> Option<State> {
        Some(match primitive {
            Primitive::Count => State::Count(0),
            Primitive::Sum => State::Sum(Sum::default()),
            Primitive::SumSquares => State::SumSquares(SumSquares::default()),
            Primitive::Least => State::Extreme(Extreme::new(false)),
            Primitive::Greatest => State::Extreme(Extreme::new(true)),
            Primitive::Ordered => State::Ordered(Ordered::default()),
            Primitive::Distinct => State::Distinct(Distinct::default()),
            Primitive::Position | Primitive::Own => return None,
        })
    }

    /// Adds a row; NULL is not there.
    #[inline]
    pub fn insert(&mut self, row: &Row<'_>) {
        let value = row.value;
        match self {
            State::Count(n) => *n += u64::from(!value.is_null()),
            State::Sum(sum) => sum.insert(value),
            State::SumSquares(squares) => squares.insert(value),
            State::Extreme(extreme) => extreme.insert(value),
            State::Ordered(ordered) => ordered.insert(value),
            State::Distinct(distinct) => distinct.insert(value),
            State::Own(running) => running.insert(row),
        }
    }

    /// Takes out a row that was added: bit for bit what was there before.
    #[inline]
    pub fn remove(&mut self, row: &Row<'_>) {
        let value = row.value;
        match self {
            State::Count(n) => *n = n.saturating_sub(u64::from(!value.is_null())),
            State::Sum(sum) => sum.remove(value),
            State::SumSquares(squares) => squares.remove(value),
            State::Extreme(extreme) => extreme.remove(value),
            State::Ordered(ordered) => {
                ordered.remove(value);
            }
            State::Distinct(distinct) => {
                distinct.remove(value);
            }
            State::Own(running) => running.remove(row),
        }
    }

    /// Takes out all values.
    pub fn clear(&mut self) {
        match self {
            State::Count(n) => *n = 0,
            State::Sum(sum) => *sum = Sum::default(),
            State::SumSquares(squares) => *squares = SumSquares::default(),
            State::Extreme(extreme) => extreme.clear(),
            State::Ordered(ordered) => ordered.clear(),
            State::Distinct(distinct) => distinct.clear(),
            State::Own(running) => running.clear(),
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            State::Count(_) => 0,
            State::Sum(sum) => sum.bytes(),
            State::SumSquares(squares) => squares.bytes(),
            State::Extreme(extreme) => extreme.bytes(),
            State::Ordered(ordered) => ordered.bytes(),
            State::Distinct(distinct) => distinct.bytes(),
            State::Own(running) => running.bytes(),
        }
    }
}
