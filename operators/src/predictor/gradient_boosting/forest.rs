//! Boosted trees compiled for scoring.
//!
//! A row is first quantised: a number becomes the count of the model's thresholds below it (plus
//! one; 0 is NULL), a category its code. Every test of every tree is then one bit of a set of 256,
//! so numbers, NULLs and categories take the same few instructions without a branch. A leaf leads to
//! itself, which lets several rows go down a tree in step and hide each other's latency.
//!
//! Cost: O(inputs x log thresholds + trees x depth) a row.

use std::collections::BTreeMap;

use super::artifact::{MAX_BINS, Model, Test, Tree};

/// Rows that go down a tree in step.
const LANES: usize = 8;
/// Rows that are quantised together; their bins stay in the first-level cache over all trees.
const BLOCK: usize = 32 * LANES;

/// A set of bins: bit `b % 64` of word `b / 64`.
type Set = [u64; MAX_BINS / 64];

/// A step down a tree: to `first` if the input's bin is not in the set, else to the node after it.
#[derive(Clone, Copy, Debug)]
struct Node {
    first: u32,
    set: u32,
    input: u32,
}

/// The trees, ready to score.
#[derive(Debug)]
pub struct Forest {
    base: f64,
    thresholds: Vec<Vec<f64>>,
    categories: Vec<Codes>,
    sets: Vec<Set>,
    nodes: Vec<Node>,
    /// What a node adds to the margin; 0 unless it is a leaf.
    values: Vec<f64>,
    /// Root and depth of each tree.
    trees: Vec<(u32, u32)>,
}

impl Forest {
    /// Compiles a checked model; fails if a number has too many different thresholds.
    pub fn compile(model: &Model) -> Result<Forest, String> {
        let thresholds = thresholds(model)?;
        let categories: Vec<Codes> = model
            .dictionaries
            .iter()
            .map(|values| Codes::of(values.iter().map(|hash| hash.0)))
            .collect();
        let (sets, nodes, values, trees) = (vec![[0; 4]], Vec::new(), Vec::new(), Vec::new());
        let base = model.base;
        let mut forest = Forest { base, thresholds, categories, sets, nodes, values, trees };
        // The empty set comes first: leaves use it to stay where they are.
        let mut known = BTreeMap::from([([0; 4], 0)]);
        for tree in &model.trees {
            forest.add(tree, &mut known);
        }
        Ok(forest)
    }

    /// Lays out a tree breadth first, so that siblings are neighbours.
    fn add(&mut self, tree: &Tree, known: &mut BTreeMap<Set, u32>) {
        let root = self.nodes.len();
        let start = if tree.splits.is_empty() { -1 } else { 0 };
        let (mut level, mut depth) = (vec![start], 0);
        // `next` is where the children of the nodes of this level start.
        let mut next = root + 1;
        loop {
            let mut below = Vec::new();
            for &child in &level {
                let at = self.nodes.len() as u32;
                let Ok(split) = usize::try_from(child) else {
                    self.nodes.push(Node { first: at, set: 0, input: 0 });
                    self.values.push(tree.leaves[!child as usize]);
                    continue;
                };
                let split = &tree.splits[split];
                let (input, set) = self.question(&split.test);
                let fresh = self.sets.len() as u32;
                let set = *known.entry(set).or_insert_with(|| {
                    self.sets.push(set);
                    fresh
                });
                self.nodes.push(Node { first: (next + below.len()) as u32, set, input });
                self.values.push(0.0);
                below.extend([split.no, split.yes]);
            }
            if below.is_empty() {
                break;
            }
            next += below.len();
            depth += 1;
            level = below;
        }
        self.trees.push((root as u32, depth));
    }

    /// The input of a test and the bins that pass it.
    fn question(&self, test: &Test) -> (u32, Set) {
        let mut set = [0; 4];
        let mut put = |bin: usize| set[bin / 64] |= 1 << (bin % 64);
        let input = match test {
            Test::AtMost { number, threshold, null } => {
                let below = self.thresholds[*number].partition_point(|t| t < threshold);
                (1..=below + 1).for_each(&mut put);
                if *null {
                    put(0);
                }
                *number
            }
            Test::Among { category, codes } => {
                codes.iter().for_each(|&code| put(usize::from(code)));
                self.thresholds.len() + category
            }
        };
        (input as u32, set)
    }

    /// The margin of one row.
    pub fn margin(&self, numbers: &[f64], categories: &[u64]) -> f64 {
        let mut out = Vec::with_capacity(1);
        self.margins(1, numbers, categories, &mut out);
        out[0]
    }

    /// Appends the margins of `rows` rows, given row after row.
    pub fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        let (n, c) = (self.thresholds.len(), self.categories.len());
        assert!(numbers.len() == rows * n && categories.len() == rows * c, "rows of other inputs");
        let mut bins = Vec::new();
        for from in (0..rows).step_by(BLOCK) {
            let to = (from + BLOCK).min(rows);
            self.quantise(
                &numbers[from * n..to * n],
                &categories[from * c..to * c],
                to - from,
                &mut bins,
            );
            let start = out.len();
            out.resize(start + to - from, self.base);
            for &(root, depth) in &self.trees {
                let sums = &mut out[start..];
                let mut lanes = sums.chunks_exact_mut(LANES);
                let mut rest = bins.chunks_exact(LANES * (n + c).max(1));
                for (sums, bins) in lanes.by_ref().zip(rest.by_ref()) {
                    self.descend::<LANES>(root, depth, bins, sums);
                }
                let tail = lanes.into_remainder();
                for (i, sum) in tail.iter_mut().enumerate() {
                    let bins = rest.remainder().get(i * (n + c)..).unwrap_or_default();
                    self.descend::<1>(root, depth, bins, std::slice::from_mut(sum));
                }
            }
        }
    }

    /// Adds to each of `N` sums the leaf value of its row.
    #[inline]
    fn descend<const N: usize>(&self, root: u32, depth: u32, bins: &[u8], sums: &mut [f64]) {
        let width = bins.len() / N;
        let mut at = [root; N];
        for _ in 0..depth {
            let before = at;
            for lane in 0..N {
                let node = self.nodes[at[lane] as usize];
                let bin = bins[lane * width + node.input as usize];
                let word = self.sets[node.set as usize][usize::from(bin >> 6)];
                at[lane] = node.first + ((word >> (bin & 63)) & 1) as u32;
            }
            if at == before {
                break;
            }
        }
        for (sum, at) in sums.iter_mut().zip(at) {
            *sum += self.values[at as usize];
        }
    }

    /// Fills `bins` with the rows' bins, row after row.
    fn quantise(&self, numbers: &[f64], categories: &[u64], rows: usize, bins: &mut Vec<u8>) {
        let (n, c) = (self.thresholds.len(), self.categories.len());
        bins.clear();
        bins.resize(rows * (n + c), 0);
        for (input, thresholds) in self.thresholds.iter().enumerate() {
            for row in 0..rows {
                bins[row * (n + c) + input] = bin(thresholds, numbers[row * n + input]);
            }
        }
        for (input, codes) in self.categories.iter().enumerate() {
            for row in 0..rows {
                bins[row * (n + c) + n + input] = codes.get(categories[row * c + input]);
            }
        }
    }
}

/// 0 for NULL, else one more than how many thresholds lie below.
#[inline]
fn bin(thresholds: &[f64], x: f64) -> u8 {
    if x.is_nan() {
        return 0;
    }
    let x = x.clamp(f64::MIN, f64::MAX);
    // At most MAX_BINS - 2 thresholds.
    (1 + thresholds.partition_point(|&t| t < x)) as u8
}

/// The different thresholds of each number, ascending.
fn thresholds(model: &Model) -> Result<Vec<Vec<f64>>, String> {
    let mut all = vec![Vec::new(); model.inputs.numbers.len()];
    for split in model.trees.iter().flat_map(|tree| &tree.splits) {
        if let Test::AtMost { number, threshold, .. } = split.test {
            all[number].push(threshold);
        }
    }
    for (thresholds, name) in all.iter_mut().zip(&model.inputs.numbers) {
        thresholds.sort_unstable_by(f64::total_cmp);
        thresholds.dedup();
        if thresholds.len() > MAX_BINS - 2 {
            return Err(format!("`{name}` has more than {} thresholds", MAX_BINS - 2));
        }
    }
    Ok(all)
}

/// From a category's hash to its code: open addressing, for the keys are hashes already.
#[derive(Debug)]
struct Codes {
    mask: usize,
    slots: Vec<(u64, u8)>,
}

impl Codes {
    fn of(values: impl ExactSizeIterator<Item = u64>) -> Codes {
        let size = (2 * values.len()).next_power_of_two().max(2);
        let mut codes = Codes { mask: size - 1, slots: vec![(0, 0); size] };
        for (i, value) in values.enumerate() {
            let slot = codes.slot(value);
            codes.slots[slot] = (value, (i + 1) as u8);
        }
        codes
    }

    /// Where a value is, or the free slot where it would be; half of the slots are free.
    #[inline]
    fn slot(&self, value: u64) -> usize {
        let mut slot = value as usize & self.mask;
        while self.slots[slot].1 != 0 && self.slots[slot].0 != value {
            slot = (slot + 1) & self.mask;
        }
        slot
    }

    #[inline]
    fn get(&self, value: u64) -> u8 {
        self.slots[self.slot(value)].1
    }
}
