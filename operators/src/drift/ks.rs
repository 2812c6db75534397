//! Kolmogorov-Smirnov: the largest distance between two distribution functions, here of a window
//! of any size and of a fixed reference, exactly, ties included.
//!
//! The reference's distinct values cut the line into leaves: one for each value and one for each
//! gap between values. Rows of the window are counted by leaf; where in a gap they lie does not
//! matter, for within a gap the reference's function is flat and the window's only rises, so that
//! the largest distance is at an end. D is an integer, |n R - m W| at the worst leaf, until it is
//! divided by n m at the very end (exact up to 2^31 rows a side). The state is a function of the
//! rows in the window.
//!
//! Reading in about sqrt(leaves): counts are also kept by block of leaves. Both functions rise, so
//! the distance inside a block cannot pass max(R_end - W_start, W_end - R_start); only blocks that
//! could beat the best distance found so far are opened.
//!
//! The p-value is Kolmogorov's asymptotic one with Stephens' correction (1970): that of
//! (e + 0.12 + 0.11 / e) D, e = sqrt(n m / (n + m)). With ties it errs on the safe side.
//! NULL is left out on both sides: PSI counts it.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::drift::Reading;

use super::special::kolmogorov_tail;
use super::{Build, CategoryStatistic, Entry, Levels, Statistic, StatisticFactory};

pub(super) const ENTRY: Entry = Entry {
    name: "ks",
    summary: "two-sample Kolmogorov-Smirnov distance of a window from the reference, exact; numbers only",
    keys: &[
        ("threshold", "float, 0.2", "drift at this distance or above, if the p-value agrees"),
        ("warning", "float, 0.1", "warning at this distance or above, if the p-value agrees"),
        (
            "significance",
            "float, 0.001",
            "the p-value of one look must be at most this; 1 asks it of none",
        ),
    ],
    build: Build::Statistic(build),
};

/// Leaves in a block: a power of two, even, so that a block starts with a gap.
const BLOCK: usize = 32;

/// Values that are compared at once rather than halved.
const SHELF: usize = 16;

fn build(section: &Section) -> Result<Box<dyn StatisticFactory>, Vec<Diagnostic>> {
    let mut keys = section.params();
    let levels = Levels::read(&mut keys, 0.2, 0.1, 1.0);
    keys.finish()?;
    Ok(Box::new(Factory { levels }))
}

struct Factory {
    levels: Levels,
}

impl StatisticFactory for Factory {
    fn bounds(&self) -> (f64, f64) {
        self.levels.bounds()
    }

    fn numbers(&self, reference: &[f64]) -> Option<Box<dyn Statistic>> {
        Some(Box::new(Distance::new(reference, self.levels)))
    }

    fn categories(&self, _: &[u64]) -> Option<Box<dyn CategoryStatistic>> {
        None
    }
}

struct Distance {
    /// The reference's distinct values, rising, in shelves of [`SHELF`]; the last is filled up with
    /// NaN, which is neither below nor equal to anything.
    values: Vec<[f64; SHELF]>,
    /// The first value of each shelf: few enough to stay in the nearest cache.
    heads: Vec<f64>,
    /// Reference rows at or below each value.
    below: Vec<u32>,
    /// Reference rows up to the start of each block, and up to the end of the last.
    reference: Vec<u32>,
    /// Window rows by leaf, whole blocks: the gap before value i is leaf 2i, the value 2i + 1.
    leaves: Vec<u32>,
    /// Window rows by block.
    blocks: Vec<u32>,
    /// Window rows that are not NULL.
    rows: u64,
    levels: Levels,
}

fn shelf(values: &[f64]) -> [f64; SHELF] {
    std::array::from_fn(|i| values.get(i).copied().unwrap_or(f64::NAN))
}

impl Distance {
    fn new(reference: &[f64], levels: Levels) -> Distance {
        let mut sorted: Vec<f64> = reference.iter().copied().filter(|x| !x.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (mut values, mut below) = (Vec::new(), Vec::new());
        let mut seen = 0;
        // Equal, not identical: the two zeros are one value.
        for same in sorted.chunk_by(|a, b| a == b) {
            seen += same.len() as u32;
            values.push(same[0]);
            below.push(seen);
        }
        let blocks = (2 * values.len() + 1).div_ceil(BLOCK);
        let at_start = |block: usize| match (block * BLOCK / 2).min(values.len()) {
            0 => 0,
            values_before => below[values_before - 1],
        };
        Distance {
            reference: (0..=blocks).map(at_start).collect(),
            heads: values.iter().copied().step_by(SHELF).collect(),
            values: values.chunks(SHELF).map(shelf).collect(),
            leaves: vec![0; blocks * BLOCK],
            blocks: vec![0; blocks],
            rows: 0,
            levels,
            below,
        }
    }

    /// The largest |n R - m W| over all leaves.
    fn worst(&self, n: i64, m: i64) -> i64 {
        let mut best = 0;
        let mut seen = 0;
        for (block, &rows) in self.blocks.iter().enumerate() {
            seen += i64::from(rows);
            best = best.max((n * i64::from(self.reference[block + 1]) - m * seen).abs());
        }
        seen = 0;
        for (block, &rows) in self.blocks.iter().enumerate() {
            let start = seen;
            seen += i64::from(rows);
            let from = i64::from(self.reference[block]);
            let to = i64::from(self.reference[block + 1]);
            if (n * to - m * start).max(m * seen - n * from) > best {
                best = best.max(self.worst_inside(block, start, n, m));
            }
        }
        best
    }

    fn worst_inside(&self, block: usize, mut seen: i64, n: i64, m: i64) -> i64 {
        let leaves = &self.leaves[block * BLOCK..(block + 1) * BLOCK];
        let first = block * BLOCK / 2;
        let mut before = n * i64::from(self.reference[block]);
        let mut best = 0;
        for (pair, &below) in leaves.chunks_exact(2).zip(&self.below[first.min(self.below.len())..])
        {
            seen += i64::from(pair[0]);
            best = best.max((before - m * seen).abs());
            seen += i64::from(pair[1]);
            before = n * i64::from(below);
            best = best.max((before - m * seen).abs());
        }
        // After the last gap, behind all values, both functions are 1: no distance is left.
        best
    }
}

impl Statistic for Distance {
    fn locate(&self, value: f64) -> u32 {
        if value.is_nan() {
            return u32::MAX;
        }
        // Halving without a branch: which half is a coin toss that no predictor wins.
        let (mut shelf, mut length) = (0, self.heads.len());
        while length > 1 {
            let half = length / 2;
            shelf += usize::from(self.heads[shelf + half] < value) * half;
            length -= half;
        }
        let Some(values) = self.values.get(shelf) else { return 0 };
        let before: usize = values.iter().map(|&x| usize::from(x < value)).sum();
        let hit = values.get(before).is_some_and(|&x| x == value)
            || before == SHELF && self.heads.get(shelf + 1) == Some(&value);
        (2 * (shelf * SHELF + before) + usize::from(hit)) as u32
    }

    fn insert(&mut self, at: u32) {
        if at != u32::MAX {
            self.leaves[at as usize] += 1;
            self.blocks[at as usize / BLOCK] += 1;
            self.rows += 1;
        }
    }

    fn evict(&mut self, at: u32) {
        if at != u32::MAX {
            self.leaves[at as usize] -= 1;
            self.blocks[at as usize / BLOCK] -= 1;
            self.rows -= 1;
        }
    }

    fn read(&self) -> Option<Reading> {
        let m = u64::from(self.below.last().copied().unwrap_or(0));
        let n = self.rows;
        if n == 0 || m == 0 {
            return None;
        }
        let statistic = self.worst(n as i64, m as i64) as f64 / (n as f64 * m as f64);
        let e = libm::sqrt(n as f64 * m as f64 / (n + m) as f64);
        let p_value = kolmogorov_tail((e + 0.12 + 0.11 / e) * statistic);
        Some(self.levels.reading(statistic, p_value))
    }
}
