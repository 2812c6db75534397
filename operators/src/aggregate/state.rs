//! One primitive of one window: what rows are put into and taken out of.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::distinct::Distinct;
use super::exact_sum::{Sum, dyadic};
use super::extreme::Extreme;
use super::ordered::Ordered;
use super::squares::SumSquares;
use super::{Primitive, Row, Running};

/// Of the bytes of [`State::save`].
const VERSION: u8 = 1;

/// The running value of a primitive. [`Primitive::Position`] has none, for it reads the rows. (Windows
/// keep their counts as plain numbers beside the states, where many share a cache line.)
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

    /// Adds it to a sum, or takes it out; so the others.
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
            _ => {}
        }
    }

    /// Over no values; that of [`Primitive::Own`] is made by the aggregate.
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

    /// Another of the same kind, over no rows.
    pub fn fresh(&self) -> State {
        match self {
            State::Count(_) => State::Count(0),
            State::Sum(_) => State::Sum(Sum::default()),
            State::SumSquares(_) => State::SumSquares(SumSquares::default()),
            State::Extreme(extreme) => State::Extreme(Extreme::new(extreme.is_greatest())),
            State::Ordered(_) => State::Ordered(Ordered::default()),
            State::Distinct(_) => State::Distinct(Distinct::default()),
            State::Own(running) => State::Own(running.fresh()),
        }
    }

    /// The same, of which rows will not be taken out one by one.
    pub fn that_grows_only(self) -> State {
        match self {
            State::Extreme(extreme) => State::Extreme(extreme.that_grows_only()),
            other => other,
        }
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

    /// Adds all rows of another of the same primitive: what this would be had it seen both. False, and
    /// nothing is changed, if it is another.
    ///
    /// The cost is that of a sum, a sum of squares or an extreme whatever they are over, of a step for each
    /// value of `other` for those that keep all values.
    pub fn merge(&mut self, other: &State) -> bool {
        match (self, other) {
            (State::Count(a), State::Count(b)) => *a = a.saturating_add(*b),
            (State::Sum(a), State::Sum(b)) => a.merge(b),
            (State::SumSquares(a), State::SumSquares(b)) => a.merge(b),
            (State::Extreme(a), State::Extreme(b)) if a.is_greatest() == b.is_greatest() => {
                a.merge(b)
            }
            (State::Ordered(a), State::Ordered(b)) => a.merge(b),
            (State::Distinct(a), State::Distinct(b)) => a.merge(b),
            (State::Own(a), State::Own(b)) if a.name() == b.name() => a.merge(&**b),
            _ => return false,
        }
        true
    }

    /// Its bytes, for [`State::restore`] of any build: version, kind, content. Equal states have equal
    /// bytes, whatever way they came about. They carry no checksum.
    pub fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(VERSION).byte(self.kind());
        match self {
            State::Count(n) => drop(out.count(*n)),
            State::Sum(sum) => sum.save(&mut out),
            State::SumSquares(squares) => squares.save(&mut out),
            State::Extreme(extreme) => extreme.save(&mut out),
            State::Ordered(ordered) => ordered.save(&mut out),
            State::Distinct(distinct) => distinct.save(&mut out),
            State::Own(running) => {
                let mut bytes = out.finish();
                bytes.extend(running.save());
                return bytes;
            }
        }
        out.finish()
    }

    /// One of this state's primitive that holds what was saved; none if these are no bytes of it. An extreme
    /// that is restored over any values is starved: the window tells it its rows at the next read.
    pub fn restore(&self, bytes: &[u8]) -> Option<State> {
        let [VERSION, kind, content @ ..] = bytes else { return None };
        if *kind != self.kind() {
            return None;
        }
        let mut bytes = Reader::new(content);
        let state = match self {
            State::Count(_) => State::Count(bytes.count()?),
            State::Sum(_) => State::Sum(Sum::restore(&mut bytes)?),
            State::SumSquares(_) => State::SumSquares(SumSquares::restore(&mut bytes)?),
            State::Extreme(extreme) => State::Extreme(extreme.restore(&mut bytes)?),
            State::Ordered(_) => State::Ordered(Ordered::restore(&mut bytes)?),
            State::Distinct(_) => State::Distinct(Distinct::restore(&mut bytes)?),
            State::Own(running) => return running.restore(content).map(State::Own),
        };
        bytes.end(state)
    }

    /// The byte that stands for the kind of state; never one of another meaning.
    fn kind(&self) -> u8 {
        match self {
            State::Count(_) => 0,
            State::Sum(_) => 1,
            State::SumSquares(_) => 2,
            State::Extreme(extreme) if extreme.is_greatest() => 4,
            State::Extreme(_) => 3,
            State::Ordered(_) => 5,
            State::Distinct(_) => 6,
            State::Own(_) => 7,
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

#[cfg(test)]
mod tests;
