//! Gradient-boosted decision trees for a binary label (log loss), trained on histograms.
//!
//! The algorithm is LightGBM's (Ke and others, NeurIPS 2017): inputs are quantised to at most 255
//! bins, trees grow best leaf first, the histogram of the larger child is the parent's minus the
//! smaller child's, NULLs take the side that fits them best, categories are split into two sets
//! after sorting by their gradients (Fisher 1958). Leaves are second-order steps (Friedman 2001;
//! Chen and Guestrin 2016).
//!
//! Gradients are summed as fixed-point integers ([`histogram`]). Their sums are exact, so neither
//! the number of threads nor the order of rows inside a leaf can change a bit of the model.
//!
//! Cost: O(rows x inputs) a tree for the root and about as much again for the rest; memory is two
//! bytes a value and 48 bytes a row, plus 4 KB per input and leaf.

mod bins;
mod grow;
mod histogram;
mod parameters;
mod split;

pub use parameters::Parameters;

use rayon::prelude::*;
use serde_json::Value as Json;

use super::{Entry, Trained, TrainingSet};
use crate::predictor::gradient_boosting::artifact::{Hash, Model, Tree};
use crate::predictor::probability;
use bins::Binned;
use grow::Grower;
use histogram::{Scale, Sum};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "gradient_boosting",
    summary: "Boosted decision trees on histograms, grown best leaf first",
    keys: parameters::KEYS,
    parameters: parameters::read,
    train: Some(train),
};

/// Rows are indexed by 32 bits and counted by 27.
const MAX_ROWS: usize = 1 << 26;

fn train(
    set: &TrainingSet,
    parameters: &Json,
    seed: u64,
    threads: usize,
) -> Result<Trained, String> {
    let parameters = Parameters::from_json(parameters)?;
    check(set)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|e| format!("cannot start {threads} threads: {e}"))?;
    pool.install(|| Boosting::new(set, &parameters, seed).run())
}

/// What arithmetic relies on: columns of one length, labels of 0 and 1.
fn check(set: &TrainingSet) -> Result<(), String> {
    let rows = set.labels.len();
    if rows == 0 || rows > MAX_ROWS {
        return Err(format!("a training set must have 1 to {MAX_ROWS} rows, not {rows}"));
    }
    if let Some(label) = set.labels.iter().find(|&&label| label != 0.0 && label != 1.0) {
        return Err(format!("labels must be 0 or 1, not {label}"));
    }
    let columns = (set.numbers.len(), set.categories.len());
    if columns != (set.inputs.numbers.len(), set.inputs.categories.len()) {
        return Err("columns do not match the names of the inputs".into());
    }
    let lengths = set.numbers.iter().map(Vec::len).chain(set.categories.iter().map(Vec::len));
    if lengths.into_iter().any(|length| length != rows) {
        return Err("a column has another length than the labels".into());
    }
    Ok(())
}

/// A training under way.
struct Boosting<'a> {
    set: &'a TrainingSet,
    parameters: &'a Parameters,
    generator: Generator,
    binned: Binned,
    scale: Scale,
    /// The margin of each row so far.
    margins: Vec<f64>,
    model: Model,
}

impl<'a> Boosting<'a> {
    fn new(set: &'a TrainingSet, parameters: &'a Parameters, seed: u64) -> Boosting<'a> {
        let rows = set.labels.len();
        let binned = Binned::of(set, parameters.max_bins);
        // The log-odds of the label; half a row of each kind keeps them finite.
        let late = set.labels.iter().sum::<f64>();
        let base = libm::log((late + 0.5) / (rows as f64 - late + 0.5));
        let hashes = |values: &[u64]| values.iter().copied().map(Hash).collect();
        let model = Model {
            inputs: set.inputs.clone(),
            dictionaries: binned.dictionaries().map(hashes).collect(),
            gains: vec![0.0; binned.features.len()],
            base,
            trees: Vec::new(),
        };
        Boosting {
            set,
            parameters,
            generator: Generator(seed),
            binned,
            scale: Scale::for_rows(rows),
            margins: vec![base; rows],
            model,
        }
    }

    fn run(mut self) -> Result<Trained, String> {
        let sampled =
            self.parameters.feature_fraction < 1.0 || self.parameters.bagging_fraction < 1.0;
        for _ in 0..self.parameters.trees {
            // After a round in vain the next would see the same inputs and gradients, unless by chance.
            if !self.round() && !sampled {
                break;
            }
        }
        let metrics = self.metrics();
        Ok(Trained { bytes: self.model.to_bytes()?, metrics })
    }

    /// Adds a tree; false if there was none worth adding.
    fn round(&mut self) -> bool {
        let sums = self.gradients();
        let features = self.features();
        let (rows, others) = self.bag();
        let (binned, parameters) = (&self.binned, self.parameters);
        let mut grower = Grower::new(binned, parameters, self.scale, &sums, &features, rows);
        let Some(splits) = grower.grow() else { return false };
        let tree = Tree {
            splits: splits.iter().map(|split| split.stored(binned)).collect(),
            leaves: grower.leaf_values(),
        };
        for (rows, value) in grower.leaves() {
            rows.iter().for_each(|&row| self.margins[row as usize] += value);
        }
        for row in others {
            let leaf = grow::leaf_of(&splits, binned, row as usize);
            self.margins[row as usize] += tree.leaves[leaf];
        }
        for split in &splits {
            self.model.gains[split.feature] += split.gain;
        }
        self.model.trees.push(tree);
        true
    }

    /// First and second derivatives of the log loss of each row by its margin.
    fn gradients(&self) -> Vec<Sum> {
        let scale = self.scale;
        let rows = self.margins.par_iter().with_min_len(4096).zip(&self.set.labels);
        rows.map(|(&margin, &label)| {
            let p = probability(margin);
            scale.pack(p - label, p * (1.0 - p))
        })
        .collect()
    }

    /// Which inputs the next tree may use: at least one, if there are any.
    fn features(&mut self) -> Vec<bool> {
        let all = self.binned.features.len();
        let wanted = (self.parameters.feature_fraction * all as f64).ceil() as usize;
        // Selection sampling (Knuth, volume 2, algorithm 3.4.2 S).
        let mut missing = wanted.clamp(all.min(1), all);
        (0..all)
            .map(|i| {
                let take = missing == all - i
                    || self.generator.uniform() * ((all - i) as f64) < missing as f64;
                missing -= usize::from(take && missing > 0);
                take
            })
            .collect()
    }

    /// The rows of the next tree and the others, both ascending.
    fn bag(&mut self) -> (Vec<u32>, Vec<u32>) {
        let rows = 0..self.margins.len() as u32;
        let fraction = self.parameters.bagging_fraction;
        if fraction >= 1.0 {
            return (rows.collect(), Vec::new());
        }
        rows.partition(|_| self.generator.uniform() < fraction)
    }

    fn metrics(&self) -> Vec<(String, f64)> {
        let rows = self.margins.len() as f64;
        let loss = |(&margin, &label): (&f64, &f64)| {
            let p = probability(if label == 1.0 { margin } else { -margin });
            -libm::log(p.max(f64::MIN_POSITIVE))
        };
        let losses: f64 = self.margins.iter().zip(&self.set.labels).map(loss).sum();
        let trees = self.model.trees.len() as f64;
        vec![("log_loss".into(), losses / rows), ("rows".into(), rows), ("trees".into(), trees)]
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Generator(u64);

impl Generator {
    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}
