//! Population stability index: how far the window's shares of the reference's bins have moved.
//!
//! PSI = sum over bins of (w - r) ln(w / r), w and r the shares of the bin in window and reference:
//! the symmetrised Kullback-Leibler divergence of the two histograms. 0.1 and 0.25 are the usual
//! marks of "look" and "act". Without drift PSI is about (1/n + 1/m) times a chi-square with one
//! degree of freedom less than there are bins (Yurdakul 2018), n and m the rows of window and
//! reference: a small window passes 0.25 by chance, so the p-value is asked too.
//!
//! A share of nothing would be infinitely far: an empty bin counts as half a row, and no bin as
//! less than a share of 1e-4. Bins that are empty on both sides count nothing.
//!
//! Cost: `locate` compares with all edges at once (numbers) or halves 50 hashes (categories);
//! `insert` and `evict` add to one integer; `read` is two logarithms a bin. The state is a function
//! of the rows in the window, whatever the order in which they came and went.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::drift::Reading;

use super::special::chi_square_tail;
use super::{Build, CategoryStatistic, Entry, Levels, Statistic, StatisticFactory};

pub(super) const ENTRY: Entry = Entry {
    name: "psi",
    summary: "population stability index of a window against the reference, in quantile bins",
    keys: &[
        ("bins", "integer, 10", "quantile bins of a number, 2 to 100; NULL has one more"),
        ("threshold", "float, 0.25", "drift at this value or above, if the p-value agrees"),
        ("warning", "float, 0.1", "warning at this value or above, if the p-value agrees"),
        (
            "significance",
            "float, 0.001",
            "the p-value of one look must be at most this; 1 asks it of none",
        ),
    ],
    build: Build::Statistic(build),
};

/// The rarest categories beyond this many share a bin with those the reference never saw.
const MOST_CATEGORIES: usize = 50;

/// No bin has a smaller share.
const LEAST_SHARE: f64 = 1e-4;

fn build(section: &Section) -> Result<Box<dyn StatisticFactory>, Vec<Diagnostic>> {
    let mut keys = section.params();
    let bins = keys.integer("bins", 10, 2..=100) as usize;
    let levels = Levels::read(&mut keys, 0.25, 0.1, f64::MAX);
    keys.finish()?;
    Ok(Box::new(Factory { bins, levels }))
}

struct Factory {
    bins: usize,
    levels: Levels,
}

impl StatisticFactory for Factory {
    fn bounds(&self) -> (f64, f64) {
        self.levels.bounds()
    }

    fn numbers(&self, reference: &[f64]) -> Option<Box<dyn Statistic>> {
        let bounds = bounds(reference, self.bins);
        let mut psi = Numbers { shares: Shares::new(bounds.len() + 2, self.levels), bounds };
        for &value in reference {
            let at = psi.locate(value) as usize;
            psi.shares.reference[at] += 1;
        }
        Some(Box::new(psi))
    }

    fn categories(&self, reference: &[u64]) -> Option<Box<dyn CategoryStatistic>> {
        let known = commonest(reference);
        let mut psi = Categories { shares: Shares::new(known.len() + 2, self.levels), known };
        for &value in reference {
            let at = psi.locate(value) as usize;
            psi.shares.reference[at] += 1;
        }
        Some(Box::new(psi))
    }
}

/// Upper bounds, inclusive, of all bins of numbers but the last: the reference's quantiles. A value
/// so frequent that several quantiles fall on it gives one bound, and the value below it another,
/// so that it has a bin of its own: a constant that falls is seen as well as one that rises.
fn bounds(reference: &[f64], bins: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = reference.iter().copied().filter(|x| !x.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.is_empty() {
        return Vec::new();
    }
    let mut bounds: Vec<f64> = Vec::with_capacity(2 * bins);
    for i in 1..bins {
        let quantile = sorted[(i * sorted.len()).div_ceil(bins) - 1];
        if bounds.last() != Some(&quantile) {
            bounds.push(quantile);
            continue;
        }
        let below = quantile.next_down();
        let before = bounds.len() - 1;
        if quantile > f64::NEG_INFINITY && (before == 0 || bounds[before - 1] < below) {
            bounds.insert(before, below);
        }
    }
    bounds
}

/// The commonest categories but NULL, sorted by hash; equally common ones by hash too.
fn commonest(reference: &[u64]) -> Vec<u64> {
    let mut sorted: Vec<u64> = reference.iter().copied().filter(|&hash| hash != 0).collect();
    sorted.sort_unstable();
    let mut counted: Vec<(usize, u64)> =
        sorted.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0])).collect();
    counted.sort_unstable_by_key(|&(count, hash)| (usize::MAX - count, hash));
    counted.truncate(MOST_CATEGORIES);
    let mut known: Vec<u64> = counted.into_iter().map(|(_, hash)| hash).collect();
    known.sort_unstable();
    known
}

/// Rows by bin, on both sides.
struct Shares {
    reference: Vec<u64>,
    window: Vec<u64>,
    rows: u64,
    levels: Levels,
}

impl Shares {
    fn new(bins: usize, levels: Levels) -> Shares {
        Shares { reference: vec![0; bins], window: vec![0; bins], rows: 0, levels }
    }

    fn insert(&mut self, at: u32) {
        self.window[at as usize] += 1;
        self.rows += 1;
    }

    fn evict(&mut self, at: u32) {
        self.window[at as usize] -= 1;
        self.rows -= 1;
    }

    fn read(&self) -> Option<Reading> {
        let (n, m) = (self.rows as f64, self.reference.iter().sum::<u64>() as f64);
        if n == 0.0 || m == 0.0 {
            return None;
        }
        let share = |count: u64, of: f64| {
            let rows = if count == 0 { 0.5 } else { count as f64 };
            (rows / of).max(LEAST_SHARE)
        };
        let (mut statistic, mut used) = (0.0, 0);
        for (&w, &r) in self.window.iter().zip(&self.reference) {
            if w + r > 0 {
                let (w, r) = (share(w, n), share(r, m));
                statistic += (w - r) * libm::log(w / r);
                used += 1;
            }
        }
        let p_value = if used > 1 {
            chi_square_tail(statistic / (1.0 / n + 1.0 / m), f64::from(used - 1))
        } else {
            1.0
        };
        Some(self.levels.reading(statistic, p_value))
    }
}

/// Bins of numbers in order, then that of NULL.
struct Numbers {
    bounds: Vec<f64>,
    shares: Shares,
}

impl Statistic for Numbers {
    fn locate(&self, value: f64) -> u32 {
        if value.is_nan() {
            return self.bounds.len() as u32 + 1;
        }
        self.bounds.iter().map(|&bound| u32::from(bound < value)).sum()
    }

    fn insert(&mut self, at: u32) {
        self.shares.insert(at);
    }

    fn evict(&mut self, at: u32) {
        self.shares.evict(at);
    }

    fn read(&self) -> Option<Reading> {
        self.shares.read()
    }
}

/// Bins of the known categories by hash, then NULL, then all others.
struct Categories {
    known: Vec<u64>,
    shares: Shares,
}

impl CategoryStatistic for Categories {
    fn locate(&self, value: u64) -> u32 {
        let others = self.known.len() + 1;
        let bin = if value == 0 {
            self.known.len()
        } else {
            self.known.binary_search(&value).unwrap_or(others)
        };
        bin as u32
    }

    fn insert(&mut self, at: u32) {
        self.shares.insert(at);
    }

    fn evict(&mut self, at: u32) {
        self.shares.evict(at);
    }

    fn read(&self) -> Option<Reading> {
        self.shares.read()
    }
}
