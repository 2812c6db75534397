//! What the numbers of a window come to, read off once for all aggregates that ask.

use tidemill_types::Value;

use super::exact_sum::Rounded;
use super::extreme::End;
use super::numbers::{Asks, Numbers};
use super::ordered::Ordered;
use super::state::State;
use super::units::Sums;

/// Count, sum, deviation and both ends of the numbers in a window. What is not read is as over no
/// numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Values that are not NULL; rows, where there is no column.
    pub count: u64,
    /// The sum of those that are finite, rounded once.
    sum: Rounded,
    deviation: Rounded,
    least: Option<End>,
    greatest: Option<End>,
    special: Special,
}

/// What few moments have.
#[derive(Clone, Copy, Debug, Default)]
enum Special {
    #[default]
    No,
    /// What the values that are not finite sum up to: NaN or an infinity.
    NonFinite(f64),
    /// The sum as a whole number of 64 bits, where it is asked for and is one.
    Whole(i64),
}

impl Special {
    fn of(non_finite: Option<f64>, whole: impl FnOnce() -> Option<i64>) -> Special {
        match non_finite {
            Some(x) => Special::NonFinite(x),
            None => whole().map_or(Special::No, Special::Whole),
        }
    }
}

impl Moment {
    /// Over no numbers.
    pub(crate) const NOTHING: Moment = Moment {
        count: 0,
        sum: Rounded::ZERO,
        deviation: Rounded::ZERO,
        least: None,
        greatest: None,
        special: Special::No,
    };

    /// Over so many rows of which nothing else is known.
    #[inline]
    pub fn of_rows(count: u64) -> Moment {
        Moment { count, ..Moment::default() }
    }

    /// Reads what running numbers come to; `whole` says whether [`Moment::whole`] is asked for.
    pub(crate) fn of(numbers: &Numbers, whole: bool) -> Moment {
        let asks = numbers.asks();
        let non_finite = numbers.non_finite();
        Moment {
            count: numbers.count(),
            sum: if asks.sum { numbers.sum() } else { Rounded::ZERO },
            deviation: if asks.squares { numbers.deviation() } else { Rounded::ZERO },
            least: numbers.end(false).get(),
            greatest: numbers.end(true).get(),
            special: Special::of(non_finite, || if whole { numbers.whole() } else { None }),
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
        match self.special {
            Special::NonFinite(x) => Some(x),
            _ => None,
        }
    }

    /// The sum, rounded once; infinite beyond the range of a float.
    #[inline]
    pub fn sum(&self) -> f64 {
        self.non_finite().unwrap_or_else(|| self.sum.to_f64())
    }

    /// The sum divided by a count: the sum is rounded once, the quotient once, and there is no
    /// overflow in between.
    #[inline]
    pub fn mean(&self, n: u64) -> f64 {
        self.non_finite().unwrap_or_else(|| self.sum.divided_by(n as i64 as f64).to_f64())
    }

    /// The sum, if it is a whole number of 64 bits.
    #[inline]
    pub fn whole(&self) -> Option<i64> {
        match self.special {
            Special::Whole(sum) => Some(sum),
            _ => None,
        }
    }

    /// `n * (sum of squares) - sum^2`: n^2 times the population variance, rounded once.
    #[inline]
    pub fn deviation(&self) -> Rounded {
        self.deviation
    }

    /// The least or the greatest number; none over no numbers.
    #[inline]
    pub fn extreme(&self, greatest: bool) -> Option<Value> {
        self.end(greatest).map(End::value)
    }

    /// The same as it is kept.
    #[inline]
    pub(crate) fn end(&self, greatest: bool) -> Option<End> {
        if greatest { self.greatest } else { self.least }
    }
}

/// A moment as it is noted down while rows come and go, to be worked out later with many others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    /// How many there are; all, where nothing else is asked.
    pub(crate) count: u64,
    sums: Sums,
    least: Option<End>,
    greatest: Option<End>,
    /// Instead of the rest.
    moment: Option<Box<Moment>>,
}

impl Noted {
    /// Notes numbers.
    #[inline]
    pub(crate) fn numbers(&mut self, numbers: &Numbers) {
        match numbers.sums() {
            Some(sums) => {
                self.count = numbers.count();
                self.sums = *sums;
                self.least = numbers.end(false).get();
                self.greatest = numbers.end(true).get();
            }
            None => self.set(Moment::of(numbers, numbers.asks().sum)),
        }
    }

    /// Notes what is worked out already.
    #[cold]
    pub(crate) fn set(&mut self, moment: Moment) {
        self.moment = Some(Box::new(moment));
    }

    /// Works out all of a mark; `asks` and `whole` are what was asked of it.
    pub(crate) fn moments(all: &mut [Noted], asks: Asks, whole: bool, moments: &mut Vec<Moment>) {
        let ends = |noted: &Noted| Moment {
            count: noted.count,
            least: noted.least,
            greatest: noted.greatest,
            ..Moment::default()
        };
        moments.clear();
        moments.extend(all.iter().map(ends));
        if asks.sum {
            all.iter().zip(&mut *moments).for_each(|(noted, moment)| moment.sum = noted.sums.sum());
        }
        if asks.squares {
            for (noted, moment) in all.iter().zip(&mut *moments) {
                moment.deviation = noted.sums.deviation(noted.count);
            }
        }
        if asks.sum && whole {
            for (noted, moment) in all.iter().zip(&mut *moments) {
                moment.special = noted.sums.whole().map_or(Special::No, Special::Whole);
            }
        }
        for (noted, moment) in all.iter_mut().zip(moments) {
            if let Some(worked_out) = noted.moment.take() {
                *moment = *worked_out;
            }
        }
    }
}
