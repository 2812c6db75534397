//! One primitive of one window: what rows are put into and taken out of.

use tidemill_types::Value;

use super::distinct::Distinct;
use super::exact_sum::{Sum, dyadic};
use super::extreme::Extreme;
use super::ordered::Ordered;
use super::squares::SumSquares;
use super::{Primitive, Row, Running};

/// The running value of a primitive. [`Primitive::Position`] has none, for it reads the rows, and that of
/// [`Primitive::Count`] is a number.
pub enum State {
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

/// A finite number, taken apart once for all states that it goes into.
#[derive(Clone, Copy)]
pub struct Number {
    m: i64,
    e: i32,
    rank: i64,
    float: bool,
}

impl Number {
    /// A float, if it is finite.
    #[inline]
    pub fn of_float(x: f64) -> Option<Number> {
        let (m, e) = dyadic(x);
        x.is_finite().then(|| Number { m, e, rank: Extreme::rank_of(x), float: true })
    }

    /// A whole number.
    #[inline]
    pub fn of_int(i: i64) -> Number {
        Number { m: i, e: 0, rank: i, float: false }
    }
}

/// Adds it or takes it out.
impl Number {
    #[inline]
    pub(crate) fn step_sum<const IN: bool>(&self, sum: &mut Sum) {
        match IN {
            true => sum.add(self.m, self.e),
            // The opposite of the least whole number is none of 64 bits.
            false if self.m == i64::MIN => sum.remove(&Value::Int(self.m)),
            false => sum.add(-self.m, self.e),
        }
    }

    #[inline]
    pub(crate) fn step_squares<const IN: bool>(&self, squares: &mut SumSquares) {
        squares.step(self.m, self.e, !IN);
    }

    #[inline]
    pub(crate) fn step_extreme<const IN: bool>(&self, extreme: &mut Extreme) {
        match IN {
            true => extreme.insert_number(self.rank, self.float),
            false => extreme.remove_number(self.rank),
        }
    }
}

impl State {
    /// Whether numbers may come taken apart: [`State::step`].
    pub fn takes_numbers(&self) -> bool {
        matches!(self, State::Sum(_) | State::SumSquares(_) | State::Extreme(_))
    }

    /// Adds a number or takes it out, where [`State::takes_numbers`].
    #[inline]
    pub fn step<const IN: bool>(&mut self, number: &Number) {
        match self {
            State::Sum(sum) => number.step_sum::<IN>(sum),
            State::SumSquares(squares) => number.step_squares::<IN>(squares),
            State::Extreme(extreme) => number.step_extreme::<IN>(extreme),
            State::Ordered(_) | State::Distinct(_) | State::Own(_) => {}
        }
    }

    /// Over no values, where there is one; that of [`Primitive::Own`] is made by the aggregate.
    pub fn new(primitive: Primitive) -> Option<State> {
        Some(match primitive {
            Primitive::Sum => State::Sum(Sum::default()),
            Primitive::SumSquares => State::SumSquares(SumSquares::default()),
            Primitive::Least => State::Extreme(Extreme::new(false)),
            Primitive::Greatest => State::Extreme(Extreme::new(true)),
            Primitive::Ordered => State::Ordered(Ordered::default()),
            Primitive::Distinct => State::Distinct(Distinct::default()),
            Primitive::Count | Primitive::Position | Primitive::Own => return None,
        })
    }

    /// Adds a row; NULL is not there.
    #[inline]
    pub fn insert(&mut self, row: &Row<'_>) {
        let value = row.value;
        match self {
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
            State::Sum(sum) => sum.bytes(),
            State::SumSquares(squares) => squares.bytes(),
            State::Extreme(extreme) => extreme.bytes(),
            State::Ordered(ordered) => ordered.bytes(),
            State::Distinct(distinct) => distinct.bytes(),
            State::Own(running) => running.bytes(),
        }
    }
}
