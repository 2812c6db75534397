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
/// Eight bytes, so that a tree of 31 leaves takes eight cache lines.
#[derive(Clone, Copy, Debug)]
struct Node {
    set: u32,
    /// Counted from the tree's root.
    first: u16,
    input: u16,
}

/// Where a tree's nodes are, and how many steps its deepest leaf is away.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: usize,
    to: usize,
    depth: usize,
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
    trees: Vec<Place>,
    /// Sums are of 32 bits.
    short: bool,
}

impl Forest {
    /// Compiles a checked model; fails if a number has too many different
    /// thresholds, or if a tree or the inputs are beyond 16 bits.
    pub fn compile(model: &Model) -> Result<Forest, String> {
        let inputs = model.inputs.numbers.len() + model.inputs.categories.len();
        let nodes = |tree: &Tree| tree.splits.len() + tree.leaves.len();
        if inputs.max(model.trees.iter().map(nodes).max().unwrap_or(0)) > usize::from(u16::MAX) {
            return Err("a tree, or the list of inputs, is too long".into());
        }
        let thresholds = thresholds(model)?;
        let categories: Vec<Codes> = model
            .dictionaries
            .iter()
            .map(|values| Codes::of(values.iter().map(|hash| hash.0)))
            .collect();
        let (sets, nodes, values, trees) = (vec![[0; 4]], Vec::new(), Vec::new(), Vec::new());
        let base = model.base;
        let short = false;
        let mut forest = Forest { base, thresholds, categories, sets, nodes, values, trees, short };
        // The empty set comes first: leaves use it to stay where they are.
        let mut known = BTreeMap::from([([0; 4], 0)]);
        for tree in &model.trees {
            forest.add(tree, &mut known);
        }
        Ok(forest)
    }

    /// Adds up in 32 bits from here on, one tree after the other, as XGBoost does. Leaves and the base are
    /// numbers of 32 bits already.
    pub fn with_short_sums(self) -> Forest {
        Forest { short: true, ..self }
    }

    /// Lays out a tree breadth first, so that siblings are neighbours.
    fn add(&mut self, tree: &Tree, known: &mut BTreeMap<Set, u32>) {
        let from = self.nodes.len();
        let mut level = vec![if tree.splits.is_empty() { -1 } else { 0 }];
        let mut depth = 0;
        loop {
            let mut below = Vec::new();
            let next = self.nodes.len() - from + level.len();
            for &child in &level {
                let at = (self.nodes.len() - from) as u16;
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
                self.nodes.push(Node { first: (next + below.len()) as u16, set, input });
                self.values.push(0.0);
                below.extend([split.no, split.yes]);
            }
            if below.is_empty() {
                break;
            }
            depth += 1;
            level = below;
        }
        self.trees.push(Place { from, to: self.nodes.len(), depth });
    }

    /// The input of a test and the bins that pass it.
    fn question(&self, test: &Test) -> (u16, Set) {
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
        (input as u16, set)
    }

    /// The margin of one row.
    pub fn margin(&self, numbers: &[f64], categories: &[u64]) -> f64 {
        let mut bins = Vec::with_capacity(numbers.len() + categories.len());
        bins.extend(self.thresholds.iter().zip(numbers).map(|(t, &x)| bin(t, x)));
        bins.extend(self.categories.iter().zip(categories).map(|(codes, &x)| codes.get(x)));
        assert_eq!(bins.len(), self.inputs(), "a row of other inputs");
        match self.short {
            true => self.sum_over_trees::<true>(&bins),
            false => self.sum_over_trees::<false>(&bins),
        }
    }

    /// Appends the margins of `rows` rows, given row after row.
    pub fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        let (n, c) = (self.thresholds.len(), self.categories.len());
        assert!(numbers.len() == rows * n && categories.len() == rows * c, "rows of other inputs");
        let whole = rows - rows % LANES;
        let mut bins = Vec::new();
        for from in (0..whole).step_by(BLOCK) {
            let to = (from + BLOCK).min(whole);
            self.quantise(&numbers[from * n..to * n], &categories[from * c..to * c], &mut bins);
            let start = out.len();
            out.resize(start + to - from, self.base);
            let (sums, _) = out[start..].as_chunks_mut::<LANES>();
            for &tree in &self.trees {
                for (group, sums) in sums.iter_mut().enumerate() {
                    let bins = &bins[group * (n + c)..(group + 1) * (n + c)];
                    match self.short {
                        true => self.descend::<true>(tree, bins, sums),
                        false => self.descend::<false>(tree, bins, sums),
                    }
                }
            }
        }
        for row in whole..rows {
            let (numbers, categories) = (&numbers[row * n..], &categories[row * c..]);
            out.push(self.margin(&numbers[..n], &categories[..c]));
        }
    }

    fn inputs(&self) -> usize {
        self.thresholds.len() + self.categories.len()
    }

    /// Where a row with this bin goes from a node; counted from the tree's root.
    #[inline(always)]
    fn step(&self, node: Node, bin: u8) -> usize {
        let word = self.sets[node.set as usize][usize::from(bin >> 6)];
        usize::from(node.first) + (word >> (bin & 63) & 1) as usize
    }

    /// Takes rows down a tree in step and adds to each sum the value of the row's leaf.
    #[inline]
    fn descend<const SHORT: bool>(
        &self,
        tree: Place,
        bins: &[[u8; LANES]],
        sums: &mut [f64; LANES],
    ) {
        let nodes = &self.nodes[tree.from..tree.to];
        let mut at = [0; LANES];
        for _ in 0..tree.depth {
            let mut moved = 0;
            for lane in 0..LANES {
                let node = nodes[at[lane]];
                let next = self.step(node, bins[usize::from(node.input)][lane]);
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if moved == 0 {
                break;
            }
        }
        let values = &self.values[tree.from..tree.to];
        sums.iter_mut().zip(at).for_each(|(sum, at)| *sum = plus::<SHORT>(*sum, values[at]));
    }

    /// Takes one row down several trees in step; adds up in the order of the trees, as
    /// [`Forest::margins`] does.
    fn sum_over_trees<const SHORT: bool>(&self, bins: &[u8]) -> f64 {
        let mut sum = self.base;
        let (groups, rest) = self.trees.as_chunks::<LANES>();
        for group in groups {
            let mut at = [0; LANES];
            let depth = group.iter().map(|tree| tree.depth).max().unwrap_or(0);
            for _ in 0..depth {
                let mut moved = 0;
                for lane in 0..LANES {
                    let node = self.nodes[group[lane].from + at[lane]];
                    let next = self.step(node, bins[usize::from(node.input)]);
                    moved |= next ^ at[lane];
                    at[lane] = next;
                }
                if moved == 0 {
                    break;
                }
            }
            for (tree, at) in group.iter().zip(at) {
                sum = plus::<SHORT>(sum, self.values[tree.from + at]);
            }
        }
        for tree in rest {
            let mut at = 0;
            for _ in 0..tree.depth {
                let node = self.nodes[tree.from + at];
                at = self.step(node, bins[usize::from(node.input)]);
            }
            sum = plus::<SHORT>(sum, self.values[tree.from + at]);
        }
        sum
    }

    /// Fills `bins` with the bins of whole groups of rows: group after group, input after input.
    fn quantise(&self, numbers: &[f64], categories: &[u64], bins: &mut Vec<[u8; LANES]>) {
        let (n, c) = (self.thresholds.len(), self.categories.len());
        let width = n + c;
        let groups = (numbers.len() + categories.len()) / (LANES * width).max(1);
        bins.clear();
        bins.resize(groups * width, [0; LANES]);
        for (input, thresholds) in self.thresholds.iter().enumerate() {
            for (row, numbers) in numbers.chunks_exact(n).enumerate() {
                bins[row / LANES * width + input][row % LANES] = bin(thresholds, numbers[input]);
            }
        }
        for (input, codes) in self.categories.iter().enumerate() {
            for (row, categories) in categories.chunks_exact(c).enumerate() {
                bins[row / LANES * width + n + input][row % LANES] = codes.get(categories[input]);
            }
        }
    }
}

#[inline(always)]
fn plus<const SHORT: bool>(sum: f64, leaf: f64) -> f64 {
    if SHORT { f64::from(sum as f32 + leaf as f32) } else { sum + leaf }
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
