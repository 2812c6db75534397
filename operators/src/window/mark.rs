//! What is read off the windows for many outputs at once.

use super::held::Reply;
use super::standing::States;
use crate::aggregate::Columns;
use crate::aggregate::moment::Moment;
use crate::aggregate::state::State;

/// Where a count is to be found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Counted {
    No,
    /// It is that of the window's rows.
    Rows,
    /// Among the counts of a key.
    At(usize),
    /// That of its numbers.
    Numbers(usize),
}

/// Of one column of a window, what a [`Moment`] is read from.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) window: usize,
    pub(super) of: Columns,
    pub(super) count: Counted,
    pub(super) numbers: Option<usize>,
    /// All values in order, where they tell the ends.
    pub(super) ordered: Option<usize>,
    /// The different values, where it is their number.
    pub(super) distinct: Option<usize>,
    pub(super) whole: bool,
    /// The outputs that it answers.
    pub(super) readers: Vec<usize>,
}

impl Mark {
    /// Gives what is neither the number of rows, nor that of different values, nor what numbers alone come to.
    pub(super) fn note(&self, at: usize, states: &States, rows: u64, give: &mut impl Reply) {
        match self.counts() {
            true => give.count(at, states.count(self.count, rows)),
            false => give.moment(at, self.with_ends(states, rows)),
        }
    }

    /// Whether a count is all that is noted.
    fn counts(&self) -> bool {
        self.numbers.is_none() && self.ordered.is_none()
    }

    #[cold]
    fn with_ends(&self, states: &States, rows: u64) -> Moment {
        let moment = match self.numbers {
            Some(numbers) => Moment::of(&states.numbers[numbers], self.whole),
            None => Moment::of_rows(states.count(self.count, rows)),
        };
        match self.ordered.map(|ordered| &states.states[ordered]) {
            Some(State::Ordered(all)) => moment.with_ends(all),
            _ => moment,
        }
    }
}
