//! What the numbers of a window come to, read off once for all aggregates that ask.

use tidemill_types::Value;

use super::exact_sum::Rounded;
use super::extreme::End;
use super::numbers::{Asks, Core, Numbers};
use super::ordered::Ordered;
use super::state::State;

/// Count, sum, deviation and both ends of the numbers in a window. What is not read is as over no
/// numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Values that are not NULL; rows, where there is no column.
    pub count: u64,
    /// The sum of those that are finite, rounded once.
    sum: Rounded,
    /// What the others sum up to: NaN or an infinity.
    non_finite: Option<f64>,
    /// The sum as a whole number of 64 bits, where it is asked for and is one.
    whole: Option<i64>,
    deviation: Rounded,
    least: Option<End>,
    greatest: Option<End>,
}

impl Moment {
    /// Over so many rows of which nothing else is known.
    #[inline]
    pub fn of_rows(count: u64) -> Moment {
        Moment { count, ..Moment::default() }
    }

    /// Reads what running numbers come to; `whole` says whether [`Moment::whole`] is asked for.
    pub(crate) fn of(numbers: &Numbers, whole: bool) -> Moment {
        let asks = numbers.asks();
        Moment {
            count: numbers.count(),
            sum: if asks.sum { numbers.sum() } else { Rounded::ZERO },
            non_finite: numbers.non_finite(),
            whole: if whole { numbers.whole() } else { None },
            deviation: if asks.squares { numbers.deviation() } else { Rounded::ZERO },
            least: numbers.end(false).get(),
            greatest: numbers.end(true).get(),
        }
    }

    /// Reads the states of one column that tell a moment.
    pub(crate) fn of_states(states: &[State], whole: bool) -> Moment {
        let read = |moment: Moment, state: &State| match state {
            State::Count(count) => Moment { count: *count, ..moment },
            State::Numbers(numbers) => Moment::of(numbers, whole).and(moment),
            State::Ordered(all) => moment.with_ends(all),
            _ => moment,
        };
        states.iter().fold(Moment::default(), read)
    }

    /// With what another knows of the same numbers.
    fn and(self, other: Moment) -> Moment {
        Moment {
            least: self.least.or(other.least),
            greatest: self.greatest.or(other.greatest),
            ..self
        }
    }

    /// With the ends of all values in order.
    pub(crate) fn with_ends(self, all: &Ordered) -> Moment {
        Moment { least: all.min().and_then(End::of), greatest: all.max().and_then(End::of), ..self }
    }

    /// NaN or an infinity, if there is one among the values or they make one.
    #[inline]
    pub fn non_finite(&self) -> Option<f64> {
        self.non_finite
    }

    /// The sum divided by a count: the sum is rounded once, the quotient once, and there is no
    /// overflow in between.
    #[inline]
    pub fn mean(&self, n: u64) -> f64 {
        match self.non_finite {
            Some(x) => x,
            None => self.sum.divided_by(n as f64).to_f64(),
        }
    }

    /// The sum, if it is a whole number of 64 bits.
    #[inline]
    pub fn whole(&self) -> Option<i64> {
        self.whole
    }

    /// `n * (sum of squares) - sum^2`: n^2 times the population variance, rounded once.
    #[inline]
    pub fn deviation(&self) -> Rounded {
        self.deviation
    }

    /// The least or the greatest number; none over no numbers.
    #[inline]
    pub fn extreme(&self, greatest: bool) -> Option<Value> {
        if greatest { self.greatest } else { self.least }.map(End::value)
    }
}

/// A moment as it is noted down while rows come and go, to be worked out later with many others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noted {
    /// How many rows there are is all that is asked.
    Rows(u64),
    /// What numbers in a common unit add up to, and their ends.
    Core(Core, Option<End>, Option<End>),
    /// Anything else, worked out at once.
    Moment(Moment),
}

impl Noted {
    /// Notes what running numbers come to.
    #[inline(always)]
    pub(crate) fn of(numbers: &Numbers, whole: bool) -> Noted {
        match numbers.core() {
            Some(core) => Noted::Core(*core, numbers.end(false).get(), numbers.end(true).get()),
            None => Noted::Moment(Moment::of(numbers, whole)),
        }
    }

    /// Works it out.
    #[inline]
    pub(crate) fn moment(&self, asks: Asks, whole: bool) -> Moment {
        match self {
            Noted::Rows(rows) => Moment::of_rows(*rows),
            Noted::Core(core, least, greatest) => Moment {
                count: core.count,
                sum: if asks.sum { core.sum() } else { Rounded::ZERO },
                non_finite: None,
                whole: if whole { core.whole() } else { None },
                deviation: match asks.squares {
                    true => core.deviation().unwrap_or_else(|| core.wide_deviation()),
                    false => Rounded::ZERO,
                },
                least: *least,
                greatest: *greatest,
            },
            Noted::Moment(moment) => *moment,
        }
    }
}
