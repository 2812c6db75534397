//! Quantising: each input becomes one byte a row.
//!
//! Bin 0 of a number is NULL; its other bins cover about as many rows each, except that a frequent
//! value nearly has a bin of its own. Bin 0 of a category is every value outside the dictionary: the rare
//! ones and, when scoring, the new ones.

use hashbrown::HashMap;
use rayon::prelude::*;

use crate::trainer::TrainingSet;

/// Inputs whose bytes lie side by side: one load brings the bins of so many inputs.
pub const WIDTH: usize = 8;

/// From here on, bounds come from a sample of about so many rows, evenly spaced.
const SAMPLE: usize = 200_000;

/// An input's bins.
#[derive(Debug)]
pub enum Feature {
    /// The upper bound of each bin from 1 on, inclusive and ascending; the last is `f64::MAX`.
    Number(Vec<f64>),
    /// The value of each bin from 1 on, the most frequent first.
    Category(Vec<u64>),
}

impl Feature {
    /// How many bins there are, bin 0 included.
    pub fn bins(&self) -> usize {
        1 + match self {
            Feature::Number(bounds) => bounds.len(),
            Feature::Category(values) => values.len(),
        }
    }
}

/// A training set in bins.
pub struct Binned {
    /// Numbers, then categories.
    pub features: Vec<Feature>,
    /// How many of the features are numbers.
    pub numbers: usize,
    /// For every [`WIDTH`] features, one array of bytes a row; the last is filled up with zeros.
    pub blocks: Vec<Vec<[u8; WIDTH]>>,
}

impl Binned {
    /// Chooses bins and puts the rows into them.
    pub fn of(set: &TrainingSet, max_bins: usize) -> Binned {
        let numbers = set.numbers.par_iter().map(|column| bin_numbers(column, max_bins));
        let categories = set.categories.par_iter().map(|column| bin_categories(column, max_bins));
        let columns: Vec<(Feature, Vec<u8>)> = numbers.chain(categories).collect();
        let blocks = columns
            .par_chunks(WIDTH)
            .map(|columns| {
                let mut block = vec![[0; WIDTH]; set.labels.len()];
                for (lane, (_, bytes)) in columns.iter().enumerate() {
                    block.iter_mut().zip(bytes).for_each(|(row, &byte)| row[lane] = byte);
                }
                block
            })
            .collect();
        let features = columns.into_iter().map(|(feature, _)| feature).collect();
        Binned { features, numbers: set.numbers.len(), blocks }
    }

    /// The bin of a row.
    pub fn bin(&self, feature: usize, row: usize) -> u8 {
        self.blocks[feature / WIDTH][row][feature % WIDTH]
    }

    /// The values of each category, in the order of their bins.
    pub fn dictionaries(&self) -> impl Iterator<Item = &[u64]> {
        self.features[self.numbers..].iter().map(|feature| match feature {
            Feature::Category(values) => values.as_slice(),
            Feature::Number(_) => &[],
        })
    }
}

fn bin_numbers(column: &[f64], max_bins: usize) -> (Feature, Vec<u8>) {
    let step = column.len().div_ceil(SAMPLE).max(1);
    // Adding 0 makes the two zeros one.
    let clean = |x: f64| x.clamp(f64::MIN, f64::MAX) + 0.0;
    let known = column.iter().step_by(step).filter(|x| !x.is_nan());
    let mut sample: Vec<f64> = known.map(|&x| clean(x)).collect();
    sample.sort_unstable_by(f64::total_cmp);
    let bounds = bounds(&sample, max_bins - 1);
    let bin = |&x: &f64| {
        if x.is_nan() { 0 } else { (1 + bounds.partition_point(|&b| b < clean(x))) as u8 }
    };
    let bytes = column.iter().map(bin).collect();
    (Feature::Number(bounds), bytes)
}

/// The upper bounds of at most `bins` bins of about equal frequency over ascending values.
fn bounds(sorted: &[f64], bins: usize) -> Vec<f64> {
    let runs: Vec<&[f64]> = sorted.chunk_by(|a, b| a == b).collect();
    let between = |i: usize| {
        let (a, b) = (runs[i][0], runs[i + 1][0]);
        let middle = a / 2.0 + b / 2.0;
        if a <= middle && middle < b { middle } else { a }
    };
    // Without any value, one bin for what scoring may bring.
    let last = runs.len().max(1) - 1;
    let mut bounds: Vec<f64> = if runs.len() <= bins {
        (0..last).map(between).collect()
    } else {
        cuts(&runs, bins).into_iter().map(between).collect()
    };
    bounds.push(f64::MAX);
    bounds
}

/// The runs of equal values after which a bin ends, the last excepted. A value with more rows than
/// a mean bin ends its bin, and begins one unless fewer rows than half a bin wait before it; the
/// others share the remaining bins evenly.
fn cuts(runs: &[&[f64]], bins: usize) -> Vec<usize> {
    let total: usize = runs.iter().map(|run| run.len()).sum();
    let heavy = |run: &[f64]| run.len() * bins >= total;
    let (mut rows, mut free) = (total, bins);
    for run in runs.iter().filter(|run| heavy(run)) {
        rows -= run.len();
        free -= 1;
    }
    let mut mean = rows as f64 / free.max(1) as f64;
    let (mut cuts, mut filled) = (Vec::new(), 0);
    for i in 0..runs.len() - 1 {
        let here = heavy(runs[i]);
        filled += runs[i].len();
        rows -= if here { 0 } else { runs[i].len() };
        let ahead = heavy(runs[i + 1]) && filled as f64 >= mean / 2.0;
        if !here && filled as f64 <= mean && !ahead {
            continue;
        }
        cuts.push(i);
        if cuts.len() == bins - 1 {
            break;
        }
        filled = 0;
        if !here {
            free = free.saturating_sub(1);
            mean = rows as f64 / free.max(1) as f64;
        }
    }
    cuts
}

fn bin_categories(column: &[u64], max_bins: usize) -> (Feature, Vec<u8>) {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    column.iter().for_each(|&value| *counts.entry(value).or_default() += 1);
    let mut frequent: Vec<(u64, usize)> = counts.into_iter().collect();
    frequent.sort_unstable_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
    frequent.truncate(max_bins - 1);
    let values: Vec<u64> = frequent.into_iter().map(|(value, _)| value).collect();
    let codes: HashMap<u64, u8> =
        values.iter().enumerate().map(|(i, &value)| (value, (i + 1) as u8)).collect();
    let bytes = column.iter().map(|value| codes.get(value).copied().unwrap_or(0)).collect();
    (Feature::Category(values), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins_of(column: &[f64], max_bins: usize) -> (Vec<f64>, Vec<u8>) {
        match bin_numbers(column, max_bins) {
            (Feature::Number(bounds), bytes) => (bounds, bytes),
            (Feature::Category(_), _) => unreachable!("numbers were binned"),
        }
    }

    #[test]
    fn few_values_have_a_bin_each_and_nulls_their_own() {
        let column = [3.0, f64::NAN, 1.0, 3.0, -0.0, 0.0, f64::INFINITY];
        let (bounds, bytes) = bins_of(&column, 255);
        assert_eq!(bounds[..2], [0.5, 2.0]);
        assert_eq!(bounds.last(), Some(&f64::MAX));
        assert_eq!(bytes, [3, 0, 2, 3, 1, 1, 4]);
    }

    #[test]
    fn many_values_share_bins_evenly_and_a_frequent_one_ends_its_own() {
        let mut column: Vec<f64> = (0..10_000).map(f64::from).collect();
        column.extend([5000.0; 5_000]);
        let (bounds, bytes) = bins_of(&column, 65);
        assert!((60..=64).contains(&bounds.len()), "{}", bounds.len());
        let mut counts = vec![0; bounds.len() + 1];
        bytes.iter().for_each(|&bin| counts[usize::from(bin)] += 1);
        let alone = usize::from(bytes[5000]);
        assert!((5_001..5_081).contains(&counts[alone]), "{}", counts[alone]);
        let others = || counts.iter().enumerate().filter(|&(bin, _)| bin > 0 && bin != alone);
        assert!(others().all(|(_, &count)| (70..=320).contains(&count)), "{counts:?}");
    }

    #[test]
    fn extremes_and_empty_columns_have_finite_bounds() {
        let (bounds, bytes) = bins_of(&[f64::MIN, f64::MAX, f64::NEG_INFINITY], 255);
        assert!(bounds.iter().all(|b| b.is_finite()));
        assert_eq!(bytes, [1, 2, 1]);
        assert_eq!(bins_of(&[f64::NAN; 3], 255), (vec![f64::MAX], vec![0; 3]));
    }

    #[test]
    fn rare_categories_share_bin_0() {
        let column = [7, 7, 7, 9, 9, 0, 0, 0, 0, 4];
        let (feature, bytes) = bin_categories(&column, 4);
        assert!(matches!(&feature, Feature::Category(values) if values == &[0, 7, 9]));
        assert_eq!(bytes, [2, 2, 2, 3, 3, 1, 1, 1, 1, 0]);
    }
}
