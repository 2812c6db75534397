//! One primitive of one window: what rows are put into and taken out of.

use tidemill_types::Value;

use super::Primitive;
use super::distinct::Distinct;
use super::exact_sum::{Sum, SumSquares};
use super::ordered::Ordered;

/// The running value of a primitive. [`Primitive::Position`] has none: it reads the rows.
#[derive(Clone, Debug)]
pub enum State {
    /// [`Primitive::Count`]
    Count(u64),
    /// [`Primitive::Sum`]
    Sum(Sum),
    /// [`Primitive::SumSquares`]
    SumSquares(SumSquares),
    /// [`Primitive::Ordered`]
    Ordered(Ordered),
    /// [`Primitive::Distinct`]
    Distinct(Distinct),
}

impl State {
    /// Over no values.
    pub fn new(primitive: Primitive) -> Option<State> {
        Some(match primitive {
            Primitive::Count => State::Count(0),
            Primitive::Sum => State::Sum(Sum::default()),
            Primitive::SumSquares => State::SumSquares(SumSquares::default()),
            Primitive::Ordered => State::Ordered(Ordered::default()),
            Primitive::Distinct => State::Distinct(Distinct::default()),
            Primitive::Position => return None,
        })
    }

    /// Adds a value; NULL is not there.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        match self {
            State::Count(n) => *n += u64::from(!value.is_null()),
            State::Sum(sum) => sum.insert(value),
            State::SumSquares(squares) => squares.insert(value),
            State::Ordered(ordered) => ordered.insert(value),
            State::Distinct(distinct) => distinct.insert(value),
        }
    }

    /// Takes out a value that was added: bit for bit what was there before.
    #[inline]
    pub fn remove(&mut self, value: &Value) {
        match self {
            State::Count(n) => *n = n.saturating_sub(u64::from(!value.is_null())),
            State::Sum(sum) => sum.remove(value),
            State::SumSquares(squares) => squares.remove(value),
            State::Ordered(ordered) => {
                ordered.remove(value);
            }
            State::Distinct(distinct) => {
                distinct.remove(value);
            }
        }
    }

    /// Takes out all values.
    pub fn clear(&mut self) {
        match self {
            State::Count(n) => *n = 0,
            State::Sum(sum) => *sum = Sum::default(),
            State::SumSquares(squares) => *squares = SumSquares::default(),
            State::Ordered(ordered) => ordered.clear(),
            State::Distinct(distinct) => distinct.clear(),
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            State::Count(_) => 0,
            State::Sum(sum) => sum.bytes(),
            State::SumSquares(squares) => squares.bytes(),
            State::Ordered(ordered) => ordered.bytes(),
            State::Distinct(distinct) => distinct.bytes(),
        }
    }
}
