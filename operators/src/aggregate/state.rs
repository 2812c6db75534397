//! One primitive of one window: what rows are put into and taken out of.

use super::bytes::{Reader, Writer};
use super::distinct::Distinct;
use super::numbers::{Asks, Numbers};
use super::ordered::Ordered;
use super::{Primitive, Row, Running};

/// Of the bytes of [`State::save`].
const VERSION: u8 = 1;

/// The running value of a primitive. [`Primitive::Position`] has none, for it reads the rows. (Windows
/// keep their counts as plain numbers beside the states, where many share a cache line.)
pub enum State {
    /// [`Primitive::Count`]
    Count(u64),
    /// [`Primitive::Sum`], [`Primitive::SumSquares`], [`Primitive::Least`], [`Primitive::Greatest`]
    Numbers(Box<Numbers>),
    /// [`Primitive::Ordered`]
    Ordered(Ordered),
    /// [`Primitive::Distinct`]
    Distinct(Distinct),
    /// [`Primitive::Own`]
    Own(Box<dyn Running>),
}

impl State {
    /// Over no values; that of [`Primitive::Own`] is made by the aggregate.
    pub fn new(primitive: Primitive) -> Option<State> {
        Some(match primitive {
            Primitive::Count => State::Count(0),
            Primitive::Sum | Primitive::SumSquares | Primitive::Least | Primitive::Greatest => {
                let mut asks = Asks::default();
                asks.add(primitive);
                State::Numbers(Box::new(Numbers::new(asks)))
            }
            Primitive::Ordered => State::Ordered(Ordered::default()),
            Primitive::Distinct => State::Distinct(Distinct::default()),
            Primitive::Position | Primitive::Own => return None,
        })
    }

    /// Another of the same kind, over no rows.
    pub fn fresh(&self) -> State {
        match self {
            State::Count(_) => State::Count(0),
            State::Numbers(numbers) => State::Numbers(Box::new(Numbers::new(numbers.asks()))),
            State::Ordered(_) => State::Ordered(Ordered::default()),
            State::Distinct(_) => State::Distinct(Distinct::default()),
            State::Own(running) => State::Own(running.fresh()),
        }
    }

    /// Adds a row; NULL is not there.
    #[inline]
    pub fn insert(&mut self, row: &Row<'_>) {
        let value = row.value;
        match self {
            State::Count(n) => *n += u64::from(!value.is_null()),
            State::Numbers(numbers) => numbers.step_value::<true>(value),
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
            State::Numbers(numbers) => numbers.step_value::<false>(value),
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
            State::Numbers(numbers) => numbers.clear(),
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
            (State::Numbers(a), State::Numbers(b)) if a.asks() == b.asks() => a.merge(b),
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
            State::Numbers(numbers) => numbers.save(&mut out),
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
            State::Numbers(numbers) => State::Numbers(Box::new(numbers.restore(&mut bytes)?)),
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
            State::Numbers(_) => 1,
            State::Ordered(_) => 2,
            State::Distinct(_) => 3,
            State::Own(_) => 4,
        }
    }

    /// Those of a column of numbers.
    pub(crate) fn numbers(&self) -> Option<&Numbers> {
        match self {
            State::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            State::Count(_) => 0,
            State::Numbers(numbers) => size_of::<Numbers>() + numbers.bytes(),
            State::Ordered(ordered) => ordered.bytes(),
            State::Distinct(distinct) => distinct.bytes(),
            State::Own(running) => running.bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
