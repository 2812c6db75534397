//! The promotion gate: is a challenger not worse than the champion, on the rows that both scored?
//!
//! What is compared is the mean of the paired differences, challenger's loss less champion's, over
//! rows whose labels came within the last so and so long and after both models' training cuts (that
//! is the caller's to see to). The decision is made on the point estimate; its standard error is
//! told beside it. To demand significance of every refresh would keep an old model for months.
//!
//! Cost: O(1) a row, 16 bytes each. Sums are taken back exactly, so the answer is a function of the
//! rows kept.

use std::collections::VecDeque;

use tidemill_types::Micros;

use super::sum::Sum;

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Too few rows yet: so many are there.
    Wait(u64),
    /// The mean difference is below the margin.
    Promote(Comparison),
    /// It is not.
    Refuse(Comparison),
}

/// A paired comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean of challenger's loss less champion's: below 0 the challenger is better.
    pub mean: f64,
    /// Its standard error, rows taken as independent; 0 for a single row.
    pub standard_error: f64,
    /// Rows compared.
    pub rows: u64,
}

/// Losses of two models over the same rows.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Gate {
    last: Micros,
    min_rows: u64,
    margin: f64,
    /// Label time and difference, in the order of label times.
    rows: VecDeque<(Micros, f64)>,
    sum: Sum,
    squares: Sum,
}

impl Gate {
    /// Compares rows labelled within `last`; waits for `min_rows` (at least one); promotes below
    /// `margin`.
    pub fn new(last: Micros, min_rows: u64, margin: f64) -> Gate {
        Gate {
            last,
            min_rows: min_rows.max(1),
            margin,
            rows: VecDeque::new(),
            sum: Sum::default(),
            squares: Sum::default(),
        }
    }

    /// Takes a row both models scored. Rows come by label time, or nearly: an older one is put in
    /// its place. A loss that is no finite number is no comparison and is passed over.
    pub fn add(&mut self, labelled: Micros, challenger: f64, champion: f64) {
        let difference = challenger - champion;
        if !difference.is_finite() {
            return;
        }
        let place = self.rows.partition_point(|&(time, _)| time <= labelled);
        self.rows.insert(place, (labelled, difference));
        self.sum.add(difference);
        self.squares.add(difference * difference);
    }

    /// What it says at a time, which never goes back: rows labelled before `now - last` are
    /// forgotten.
    pub fn decide(&mut self, now: Micros) -> Decision {
        let from = now.saturating_sub(self.last);
        while let Some(&(_, difference)) = self.rows.front().filter(|(time, _)| *time < from) {
            self.sum.subtract(difference);
            self.squares.subtract(difference * difference);
            self.rows.pop_front();
        }
        let rows = self.rows.len() as u64;
        if rows < self.min_rows {
            return Decision::Wait(rows);
        }
        let n = rows as f64;
        let mean = self.sum.value() / n;
        let variance = (self.squares.value() - n * mean * mean).max(0.0) / (n - 1.0).max(1.0);
        let comparison = Comparison { mean, standard_error: libm::sqrt(variance / n), rows };
        if mean < self.margin {
            Decision::Promote(comparison)
        } else {
            Decision::Refuse(comparison)
        }
    }

    /// Starts again with nothing, for another pair of models.
    pub fn clear(&mut self) {
        *self = Gate::new(self.last, self.min_rows, self.margin);
    }
}
