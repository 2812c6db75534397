//! Gives labelled rows out in the order in which they were scored, whatever the order of their labels.
//!
//! Labels that come soon are not like those that come late: a flight that is late lands late, a fraud
//! is reported before the absence of one is certain. Who compares models on the labels that happen to
//! be there compares them on a biased sample, in which the model that cries wolf looks good. So a row
//! is passed on when its label is known and every row before it is settled: labelled, or given up.
//!
//! Cost: O(1) a row, amortised; holds the rows since the oldest that is not settled.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

/// Rows on their way through. `I` names a row, `T` is what is known when it is settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "I: Deserialize<'de> + Eq + Hash, T: Deserialize<'de>"))]
pub struct InOrder<I, T> {
    /// The number of the first row of `rows`.
    first: u64,
    rows: VecDeque<Slot<T>>,
    places: HashMap<I, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Slot<T> {
    Waiting,
    Settled(Option<T>),
}

impl<I: Eq + Hash, T> Default for InOrder<I, T> {
    fn default() -> InOrder<I, T> {
        InOrder { first: 0, rows: VecDeque::new(), places: HashMap::new() }
    }
}

impl<I: Eq + Hash, T> InOrder<I, T> {
    /// A row was scored. Its name must not be that of a row that waits.
    pub fn expect(&mut self, row: I) {
        self.places.insert(row, self.first + self.rows.len() as u64);
        self.rows.push_back(Slot::Waiting);
    }

    /// Whether a row of this name waits.
    pub fn expects(&self, row: &I) -> bool {
        self.places.contains_key(row)
    }

    /// A row is settled: with what is known of it, or without (no label came). A row that was never
    /// expected, or is settled already, changes nothing.
    pub fn settle(&mut self, row: &I, with: Option<T>) {
        let Some(place) = self.places.remove(row) else { return };
        if let Some(slot) = self.rows.get_mut((place - self.first) as usize) {
            *slot = Slot::Settled(with);
        }
    }

    /// The next row whose turn has come; rows that were given up are passed over.
    pub fn next_settled(&mut self) -> Option<T> {
        while let Some(Slot::Settled(_)) = self.rows.front() {
            self.first += 1;
            if let Some(Slot::Settled(Some(row))) = self.rows.pop_front() {
                return Some(row);
            }
        }
        None
    }

    /// Rows that are held: those that wait, and those behind them.
    pub fn held(&self) -> usize {
        self.rows.len()
    }

    /// The same rows with something else known of each.
    ///
    /// # Errors
    /// The first that `change` comes to.
    pub fn map<U, E>(&self, mut change: impl FnMut(&T) -> Result<U, E>) -> Result<InOrder<I, U>, E>
    where
        I: Clone,
    {
        let slot = |slot: &Slot<T>| match slot {
            Slot::Waiting => Ok(Slot::Waiting),
            Slot::Settled(with) => Ok(Slot::Settled(with.as_ref().map(&mut change).transpose()?)),
        };
        let rows = self.rows.iter().map(slot).collect::<Result<_, E>>()?;
        Ok(InOrder { first: self.first, rows, places: self.places.clone() })
    }
}
