//! What a gate measures of a new version: its training set beside that of the version in charge, and
//! its scores beside theirs on the same rows.
//!
//! All of it is a function of the rows, in whatever order they came: each summand is rounded to 2^-60, and sums
//! of such do not depend on their order.

use std::collections::BTreeMap;

use super::log_loss::log_loss_of_margin;
use super::sum::Sum;
use crate::predictor::probability;

/// The share of NaN, which stands for NULL, in a column; 0 of an empty one. O(n).
pub fn nulls(column: &[f64]) -> f64 {
    share(column.len(), column.iter().filter(|x| x.is_nan()).count())
}

/// The share of numbers that lie outside the range of another column; 0 where there is nothing to
/// compare. NaN is no number. O(n).
pub fn outside(column: &[f64], of: &[f64]) -> f64 {
    let numbers =
        |column: &[f64]| -> Vec<f64> { column.iter().copied().filter(|x| !x.is_nan()).collect() };
    let (column, of) = (numbers(column), numbers(of));
    let least = of.iter().copied().fold(f64::INFINITY, f64::min);
    let most = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if of.is_empty() {
        return 0.0;
    }
    share(column.len(), column.iter().filter(|x| !(least..=most).contains(*x)).count())
}

/// How well a column alone tells the labels apart: the AUC of its values, or of their negatives,
/// whichever is above a half; ties half, NaN left out. A half where only one label occurs. O(n log n).
pub fn separation(column: &[f64], labels: &[bool]) -> f64 {
    let mut rows: Vec<(f64, bool)> = column.iter().copied().zip(labels.iter().copied()).collect();
    rows.retain(|(x, _)| !x.is_nan());
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut zeros, mut ones, mut twice_won) = (0u64, 0u64, 0u128);
    // Both zeros are one value.
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let one = tied.iter().filter(|(_, label)| *label).count() as u64;
        let zero = tied.len() as u64 - one;
        twice_won += u128::from(one) * u128::from(2 * zeros + zero);
        zeros += zero;
        ones += one;
    }
    let pairs = u128::from(zeros) * u128::from(ones);
    let area = if pairs == 0 { 0.5 } else { twice_won as f64 / (2.0 * pairs as f64) };
    area.max(1.0 - area)
}

fn share(of: usize, part: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// New version and old one over the same labelled rows.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Bench {
    /// By segment: rows, and the sum of new loss less old.
    segments: BTreeMap<(usize, u64), (u64, Sum)>,
    /// Ten equal-width bins of the new version's scores: rows, sum of scores, labels of 1.
    bins: [(u64, Sum, u64); 10],
    rows: u64,
}

/// The segment in which the new version is worst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Which of the features that cut rows into segments.
    pub feature: usize,
    /// Its value, as the bits of a number or the hash of a text.
    pub value: u64,
    /// Rows compared.
    pub rows: u64,
    /// Mean of new loss less old, in nats.
    pub mean: f64,
}

impl Bench {
    /// Takes a labelled row with both margins and the values of the features that cut segments. A row
    /// that one of them could not score is no comparison.
    pub fn add(&mut self, label: bool, new: f64, old: f64, segments: &[u64]) {
        if new.is_nan() || old.is_nan() {
            return;
        }
        self.rows += 1;
        let difference = log_loss_of_margin(label, new) - log_loss_of_margin(label, old);
        for (feature, value) in segments.iter().enumerate() {
            let (rows, sum) = self.segments.entry((feature, *value)).or_default();
            *rows += 1;
            sum.add(difference);
        }
        let score = probability(new);
        let bin = &mut self.bins[((score * 10.0) as usize).min(9)];
        bin.0 += 1;
        bin.1.add(score);
        bin.2 += u64::from(label);
    }

    /// Rows compared.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The worst segment among those of so many rows.
    pub fn worst(&self, min_rows: u64) -> Option<Segment> {
        let judged = self.segments.iter().filter(|(_, (rows, _))| *rows >= min_rows.max(1));
        let mean = |((feature, value), (rows, sum)): (&(usize, u64), &(u64, Sum))| Segment {
            feature: *feature,
            value: *value,
            rows: *rows,
            mean: sum.value() / *rows as f64,
        };
        judged.map(mean).max_by(|a, b| a.mean.total_cmp(&b.mean))
    }

    /// The expected calibration error of the new version: the mean, over rows, of how far its score's
    /// bin is from the share of labels in it (Naeini et al. 2015); nothing without rows.
    pub fn calibration_error(&self) -> Option<f64> {
        let off = self.bins.iter().map(|(_, scores, ones)| (scores.value() - *ones as f64).abs());
        (self.rows > 0).then(|| off.sum::<f64>() / self.rows as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_compared() {
        let nan = f64::NAN;
        assert_eq!((nulls(&[]), nulls(&[1.0, nan, nan, 2.0])), (0.0, 0.5));
        assert_eq!(outside(&[0.0, 5.0, nan, 10.0, 11.0], &[nan, 1.0, 10.0]), 0.5);
        assert_eq!(outside(&[1.0], &[]), 0.0);
        let labels = [false, false, true, true];
        assert_eq!(separation(&[1.0, 2.0, 3.0, 4.0], &labels), 1.0);
        assert_eq!(separation(&[4.0, 3.0, 2.0, 1.0], &labels), 1.0);
        assert_eq!(separation(&[1.0, 2.0, 1.0, 2.0], &labels), 0.5);
        assert_eq!(separation(&[0.0, 7.0, -0.0, nan], &labels), 0.75);
        assert_eq!(separation(&[1.0, 2.0], &[true, true]), 0.5);
    }

    #[test]
    fn the_worst_segment_and_calibration_are_found() {
        let mut bench = Bench::default();
        assert_eq!((bench.worst(1), bench.calibration_error()), (None, None));
        for i in 0..1_000u64 {
            let label = i % 4 == 0;
            let quarter = -libm::log(3.0);
            // In segment 7 the new version says the opposite of what is likely.
            let (new, segment) = if i < 100 { (-quarter, 7) } else { (quarter, i % 3) };
            bench.add(label, new, quarter, &[segment]);
        }
        bench.add(true, f64::NAN, 0.0, &[9]);
        // A version that is sure beyond all measure, and wrong, is the worst there is.
        let mut wild = bench.clone();
        (0..60).for_each(|_| wild.add(true, -1e30, 0.0, &[11]));
        (0..60).for_each(|_| wild.add(true, f64::NEG_INFINITY, 0.0, &[12]));
        let worst = wild.worst(50).expect("segments");
        assert!((11..=12).contains(&worst.value) && worst.mean > 39.0, "{worst:?}");
        assert_eq!(bench.rows(), 1_000);
        let worst = bench.worst(50).expect("segments");
        assert_eq!((worst.value, worst.rows), (7, 100));
        assert!((worst.mean - 0.5 * libm::log(3.0)).abs() < 1e-9, "{worst:?}");
        assert!(bench.worst(200).expect("segments").mean.abs() < 1e-12);
        let error = bench.calibration_error().expect("rows");
        assert!((error - 0.05).abs() < 1e-9, "a tenth of the rows is off by a half: {error}");
    }
}
