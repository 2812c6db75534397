//! Area under the ROC curve: the chance that a row of label 1 is scored above one of label 0, ties
//! half.
//!
//! Exact: all scores are kept, sorted at reading, and counted in integers; 8 bytes a score. Folded:
//! scores are counted in 65,536 bins, fine where scores crowd: 512 bins to each halving of the
//! distance from the nearer of 0 and 1, down to 2^-63. Two scores in one bin count as tied, so that
//! the area is off by at most half the share of pairs that meet in a bin.

use std::collections::BTreeMap;

/// Halvings that are told apart.
const HALVINGS: u64 = 63;

/// Bits of the significand that are told apart.
const PRECISION: u32 = 9;

/// Scores with their labels.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Ranking {
    /// The bits of each score with the label in the lowest: rising with the score, as no score is
    /// negative.
    Exact(Vec<u64>),
    /// Rows of label 0 and 1 by bin.
    Folded(BTreeMap<u16, [u64; 2]>),
}

impl Default for Ranking {
    fn default() -> Ranking {
        Ranking::Exact(Vec::new())
    }
}

impl Ranking {
    /// Adds a score from 0 to 1.
    pub fn add(&mut self, label: bool, score: f64) {
        match self {
            // The highest bit of 1.0 and of all below is free twice over: sign and top of the exponent.
            Ranking::Exact(rows) => rows.push((score.abs().to_bits() << 1) | u64::from(label)),
            Ranking::Folded(bins) => bins.entry(bin(score)).or_default()[usize::from(label)] += 1,
        }
    }

    /// Adds another's rows; folded if either is.
    pub fn merge(&mut self, other: &Ranking) {
        match (&mut *self, other) {
            (Ranking::Exact(mine), Ranking::Exact(theirs)) => mine.extend(theirs),
            (Ranking::Folded(bins), Ranking::Folded(theirs)) => {
                for (bin, rows) in theirs {
                    let mine = bins.entry(*bin).or_default();
                    mine[0] += rows[0];
                    mine[1] += rows[1];
                }
            }
            (Ranking::Exact(_), Ranking::Folded(_)) => {
                self.fold();
                self.merge(other);
            }
            (Ranking::Folded(_), Ranking::Exact(rows)) => {
                for &row in rows {
                    self.add(row & 1 == 1, f64::from_bits(row >> 1));
                }
            }
        }
    }

    /// Gives up the single scores.
    pub fn fold(&mut self) {
        if let Ranking::Exact(rows) = std::mem::take(self) {
            *self = Ranking::Folded(BTreeMap::new());
            self.merge(&Ranking::Exact(rows));
        }
    }

    /// Whether every score is still known.
    pub fn is_exact(&self) -> bool {
        matches!(self, Ranking::Exact(_))
    }

    /// The area; nothing where only one label occurs.
    pub fn area(self) -> Option<f64> {
        match self {
            Ranking::Exact(mut rows) => {
                rows.sort_unstable();
                let tied = rows.chunk_by(|a, b| a >> 1 == b >> 1);
                area(tied.map(|rows| {
                    let ones = rows.iter().filter(|&row| row & 1 == 1).count();
                    [(rows.len() - ones) as u64, ones as u64]
                }))
            }
            Ranking::Folded(bins) => area(bins.into_values()),
        }
    }
}

/// From rows of label 0 and 1 in groups of equal score, rising.
fn area(groups: impl Iterator<Item = [u64; 2]>) -> Option<f64> {
    let (mut zeros, mut ones, mut twice_won) = (0u64, 0u64, 0u128);
    for [zero, one] in groups {
        twice_won += u128::from(one) * u128::from(2 * zeros + zero);
        zeros += zero;
        ones += one;
    }
    let pairs = u128::from(zeros) * u128::from(ones);
    (pairs > 0).then(|| twice_won as f64 / (2.0 * pairs as f64))
}

/// The bin of a score, rising with it.
fn bin(score: f64) -> u16 {
    let upper = score > 0.5;
    let distance = if upper { 1.0 - score } else { score.abs() };
    let first = (1023 - HALVINGS) << PRECISION;
    let side = (distance.to_bits() >> (52 - PRECISION)).saturating_sub(first) as u16;
    if upper { u16::MAX - side } else { side }
}
