//! What the numbers of a window come to, read off once for all aggregates that ask.

use tidemill_types::Value;

use super::exact_sum::Rounded;
use super::extreme::End;
use super::numbers::Numbers;
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
    fn of(non_finite: Option<f64>, whole: Option<i64>) -> Special {
        match non_finite {
            Some(x) => Special::NonFinite(x),
            None => whole.map_or(Special::No, Special::Whole),
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

    /// Of what is known of it apart.
    pub(super) fn of_parts(
        count: u64,
        sum: Rounded,
        deviation: Rounded,
        [least, greatest]: [Option<End>; 2],
        whole: Option<i64>,
    ) -> Moment {
        Moment { count, sum, deviation, least, greatest, special: Special::of(None, whole) }
    }

    /// Over so many rows of which nothing else is known.
    #[inline]
    pub fn of_rows(count: u64) -> Moment {
        Moment { count, ..Moment::default() }
    }

    /// Reads what running numbers come to; `whole` says whether [`Moment::whole`] is asked for.
    #[inline]
    pub(crate) fn of(numbers: &Numbers, whole: bool) -> Moment {
        let Some(sums) = numbers.sums() else { return Moment::of_far(numbers, whole) };
        let (asks, count) = (numbers.asks(), numbers.count());
        Moment {
            count,
            sum: if asks.sum { sums.sum() } else { Rounded::ZERO },
            deviation: if asks.squares { sums.deviation(count) } else { Rounded::ZERO },
            least: numbers.end(false).get(),
            greatest: numbers.end(true).get(),
            special: if whole { Special::of(None, sums.whole()) } else { Special::No },
        }
    }

    #[cold]
    fn of_far(numbers: &Numbers, whole: bool) -> Moment {
        let asks = numbers.asks();
        Moment {
            count: numbers.count(),
            sum: if asks.sum { numbers.sum() } else { Rounded::ZERO },
            deviation: if asks.squares { numbers.deviation() } else { Rounded::ZERO },
            least: numbers.end(false).get(),
            greatest: numbers.end(true).get(),
            special: Special::of(numbers.non_finite(), numbers.whole().filter(|_| whole)),
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
