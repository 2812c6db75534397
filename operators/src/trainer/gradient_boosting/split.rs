//! The best split of a leaf on one feature.
//!
//! A leaf with sums G and H of first and second derivatives reaches -G / (H + l2) and lowers twice
//! the loss by G^2 / (H + l2); a split gains what its sides lower more than the leaf does.

use super::Parameters;
use super::bins::{Binned, Feature};
use super::histogram::{BINS, Histogram, Scale, Sum, Totals};
use crate::predictor::gradient_boosting::artifact::{self, Test};

/// Up to so many categories, each is tried against the rest; beyond, they are sorted.
const ONE_AGAINST_REST: usize = 4;

/// A set of bins: bit `b % 64` of word `b / 64`.
pub type Set = [u64; BINS / 64];

/// Whether a bin is in a set, as 0 or 1.
#[inline]
pub fn contains(set: &Set, bin: u8) -> usize {
    (set[usize::from(bin >> 6)] >> (bin & 63) & 1) as usize
}

fn insert(set: &mut Set, bin: usize) {
    set[bin / 64] |= 1 << (bin % 64);
}

/// A split of a leaf.
#[derive(Clone, Debug)]
pub struct Split {
    /// The feature asked.
    pub feature: usize,
    /// What it gains.
    pub gain: f64,
    /// The bins whose rows pass.
    pub set: Set,
    /// The rows that pass, and the step they take.
    pub yes: (Sum, f64),
    /// The rows that do not, and theirs.
    pub no: (Sum, f64),
    /// Where both lead: a split, or `-1 - leaf`; set while the tree grows.
    pub next: [i32; 2],
}

impl Split {
    /// As it is written to the artifact.
    pub fn stored(&self, binned: &Binned) -> artifact::Split {
        let last = (1..BINS).rev().find(|&bin| contains(&self.set, bin as u8) == 1).unwrap_or(1);
        let test = match &binned.features[self.feature] {
            Feature::Number(bounds) => Test::AtMost {
                number: self.feature,
                threshold: bounds[last - 1],
                null: contains(&self.set, 0) == 1,
            },
            Feature::Category(_) => Test::Among {
                category: self.feature - binned.numbers,
                codes: (1..=255).filter(|&bin| contains(&self.set, bin) == 1).collect(),
            },
        };
        artifact::Split { test, yes: self.next[1], no: self.next[0] }
    }
}

/// Looks for the best split of one leaf.
pub struct Search<'a> {
    parameters: &'a Parameters,
    scale: Scale,
    total: Sum,
    totals: Totals,
    /// What a split's sides must exceed together.
    floor: f64,
}

/// The best so far: what its sides lower, its set and the rows that pass.
struct Best {
    score: f64,
    set: Set,
    yes: Sum,
}

impl<'a> Search<'a> {
    /// A search in a leaf with these sums.
    pub fn new(parameters: &'a Parameters, scale: Scale, total: Sum) -> Search<'a> {
        let totals = scale.totals(total);
        let floor = lowers(totals, parameters.l2) + parameters.min_gain;
        Search { parameters, scale, total, totals, floor }
    }

    /// The best split on a feature; among equals, the first found.
    pub fn best(&self, index: usize, feature: &Feature, histogram: &Histogram) -> Option<Split> {
        let mut l2 = self.parameters.l2;
        let best = match feature {
            Feature::Number(_) => self.threshold(&histogram[..feature.bins()]),
            Feature::Category(values) if values.len() <= ONE_AGAINST_REST => {
                self.one_against_rest(&histogram[..feature.bins()])
            }
            Feature::Category(_) => {
                l2 += self.parameters.category_l2;
                self.sorted(&histogram[..feature.bins()], l2)
            }
        }?;
        let no = self.total.minus(best.yes);
        let step = |sum: Sum| {
            let totals = self.scale.totals(sum);
            -totals.gradient / (totals.hessian + l2) * self.parameters.learning_rate
        };
        Some(Split {
            feature: index,
            gain: best.score - lowers(self.totals, self.parameters.l2),
            set: best.set,
            yes: (best.yes, step(best.yes)),
            no: (no, step(no)),
            next: [0; 2],
        })
    }

    /// What both sides lower, if both are large enough.
    #[inline]
    fn score(&self, yes: Sum, l2: f64) -> Option<f64> {
        let a = self.scale.totals(yes);
        let b = Totals {
            gradient: self.totals.gradient - a.gradient,
            hessian: self.totals.hessian - a.hessian,
            rows: self.totals.rows - a.rows,
        };
        let (rows, hessian) = (self.parameters.min_rows_per_leaf, self.parameters.min_hessian);
        let fits = a.rows.min(b.rows) >= rows && a.hessian.min(b.hessian) >= hessian;
        fits.then(|| lowers(a, l2) + lowers(b, l2))
    }

    /// A number: bins up to some bin pass; NULLs pass or not, whichever is better.
    fn threshold(&self, histogram: &[Sum]) -> Option<Best> {
        let (nulls, l2) = (histogram[0], self.parameters.l2);
        let (mut score, mut found) = (self.floor, None);
        let mut below = Sum::default();
        for (bin, &sum) in histogram.iter().enumerate().skip(1) {
            if sum.is_empty() {
                continue;
            }
            below.add(sum);
            if let Some(s) = self.score(below, l2).filter(|&s| s > score) {
                (score, found) = (s, Some((bin, false, below)));
            }
            if !nulls.is_empty() {
                let mut with = below;
                with.add(nulls);
                if let Some(s) = self.score(with, l2).filter(|&s| s > score) {
                    (score, found) = (s, Some((bin, true, with)));
                }
            }
        }
        let (last, null, yes) = found?;
        let mut set = [0; 4];
        (1..=last).for_each(|bin| insert(&mut set, bin));
        // NULLs that training never met here follow the larger side.
        let more = 2 * self.scale.totals(yes).rows > self.totals.rows;
        if null || nulls.is_empty() && more {
            insert(&mut set, 0);
        }
        Some(Best { score, set, yes })
    }

    /// Few categories: one passes.
    fn one_against_rest(&self, histogram: &[Sum]) -> Option<Best> {
        let mut best: Option<Best> = None;
        for (bin, &yes) in histogram.iter().enumerate().skip(1) {
            let floor = best.as_ref().map_or(self.floor, |b| b.score);
            if let Some(score) = self.score(yes, self.parameters.l2).filter(|&s| s > floor) {
                let mut set = [0; 4];
                insert(&mut set, bin);
                best = Some(Best { score, set, yes });
            }
        }
        best
    }

    /// Many categories: sorted by their own step, some from either end pass. For a convex loss one
    /// such set is the best of all sets (Fisher 1958); the limits keep noise from choosing it.
    fn sorted(&self, histogram: &[Sum], l2: f64) -> Option<Best> {
        let smoothing = self.parameters.category_smoothing;
        let mut order: Vec<(f64, usize)> = Vec::with_capacity(histogram.len());
        for (bin, &sum) in histogram.iter().enumerate().skip(1) {
            let totals = self.scale.totals(sum);
            if totals.rows > 0 && totals.rows as f64 >= smoothing {
                // Without smoothing the second derivatives alone may round to nothing.
                let weight = (totals.hessian + smoothing).max(f64::MIN_POSITIVE);
                order.push((totals.gradient / weight, bin));
            }
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let limit = self.parameters.category_limit.min(order.len().div_ceil(2));
        let up = order.iter().take(limit).map(|&(_, bin)| bin);
        let down = order.iter().rev().take(limit).map(|&(_, bin)| bin);
        let up = self.prefix(histogram, up, l2, self.floor);
        let floor = up.as_ref().map_or(self.floor, |best| best.score);
        self.prefix(histogram, down, l2, floor).or(up)
    }

    /// The best set of leading categories that lowers more than `floor`.
    fn prefix(
        &self,
        histogram: &[Sum],
        order: impl Iterator<Item = usize>,
        l2: f64,
        floor: f64,
    ) -> Option<Best> {
        let group = self.parameters.category_min_rows;
        let (mut set, mut yes, mut since) = ([0; 4], Sum::default(), 0);
        let mut best: Option<Best> = None;
        for bin in order {
            insert(&mut set, bin);
            yes.add(histogram[bin]);
            since += self.scale.totals(histogram[bin]).rows;
            let rest = self.totals.rows - self.scale.totals(yes).rows;
            if rest < group.max(self.parameters.min_rows_per_leaf) {
                break;
            }
            if since < group {
                continue;
            }
            let floor = best.as_ref().map_or(floor, |b| b.score);
            if let Some(score) = self.score(yes, l2) {
                since = 0;
                if score > floor {
                    best = Some(Best { score, set, yes });
                }
            }
        }
        best
    }
}

/// By how much a leaf lowers twice the loss.
#[inline]
fn lowers(totals: Totals, l2: f64) -> f64 {
    totals.gradient * totals.gradient / (totals.hessian + l2)
}
