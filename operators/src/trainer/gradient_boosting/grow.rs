//! Growing one tree, the leaf with the most to gain first.

use rayon::prelude::*;

use super::Parameters;
use super::bins::{Binned, WIDTH};
use super::histogram::{self, Block, Scale, Sum};
use super::split::{Search, Split, contains};

/// The histograms of all features.
type Histograms = Vec<Block>;

/// Below so many rows, a histogram is made by one thread: waking another takes longer.
const WORTH_THREADS: usize = 1024;

/// A leaf of the growing tree: a range of [`Grower::rows`].
struct Leaf {
    from: usize,
    to: usize,
    depth: usize,
    sum: Sum,
    value: f64,
    /// Which split led here and by which answer.
    parent: Option<(usize, usize)>,
    /// Kept while the leaf may be split.
    histograms: Option<Histograms>,
    best: Option<Split>,
}

/// Grows a tree.
pub struct Grower<'a> {
    binned: &'a Binned,
    parameters: &'a Parameters,
    scale: Scale,
    /// By row.
    sums: &'a [Sum],
    /// Which features may be asked.
    features: &'a [bool],
    /// The tree's rows; those of a leaf are neighbours, ascending.
    rows: Vec<u32>,
    leaves: Vec<Leaf>,
    splits: Vec<Split>,
    /// Rows and sums on their way; kept between splits to spare the allocator.
    moved: Vec<u32>,
    gathered: Vec<Sum>,
    free: Vec<Histograms>,
}

impl<'a> Grower<'a> {
    /// A tree of one leaf, which has all of `rows`.
    pub fn new(
        binned: &'a Binned,
        parameters: &'a Parameters,
        scale: Scale,
        sums: &'a [Sum],
        features: &'a [bool],
        rows: Vec<u32>,
    ) -> Grower<'a> {
        let mut sum = Sum::default();
        rows.iter().for_each(|&row| sum.add(sums[row as usize]));
        let root = Leaf {
            from: 0,
            to: rows.len(),
            depth: 0,
            sum,
            value: 0.0,
            parent: None,
            histograms: None,
            best: None,
        };
        Grower {
            binned,
            parameters,
            scale,
            sums,
            features,
            moved: Vec::with_capacity(rows.len()),
            rows,
            leaves: vec![root],
            splits: Vec::new(),
            gathered: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The splits in the order in which they were made; nothing if the root is not worth one.
    pub fn grow(&mut self) -> Option<Vec<Split>> {
        self.look(0, None);
        while self.leaves.len() < self.parameters.leaves {
            let Some(leaf) = self.most_to_gain() else { break };
            let parent = self.split(leaf);
            if self.leaves.len() < self.parameters.leaves {
                self.look_at_children(leaf, self.leaves.len() - 1, parent);
            }
        }
        (!self.splits.is_empty()).then(|| self.splits.clone())
    }

    /// Each leaf's rows and what it adds to their margins, in the order of the leaves.
    pub fn leaves(&self) -> impl Iterator<Item = (&[u32], f64)> {
        self.leaves.iter().map(|leaf| (&self.rows[leaf.from..leaf.to], leaf.value))
    }

    /// What each leaf adds.
    pub fn leaf_values(&self) -> Vec<f64> {
        self.leaves.iter().map(|leaf| leaf.value).collect()
    }

    fn most_to_gain(&self) -> Option<usize> {
        let mut most = (0.0, None);
        for (i, leaf) in self.leaves.iter().enumerate() {
            if let Some(best) = leaf.best.as_ref().filter(|best| best.gain > most.0) {
                most = (best.gain, Some(i));
            }
        }
        most.1
    }

    /// Splits a leaf as found: rows that pass keep its number, the others get the next one. Returns
    /// the histograms it had.
    fn split(&mut self, at: usize) -> Option<Histograms> {
        let other = self.leaves.len();
        let leaf = &mut self.leaves[at];
        let (from, to, depth) = (leaf.from, leaf.to, leaf.depth + 1);
        let histograms = leaf.histograms.take();
        let Some(mut split) = leaf.best.take() else { return histograms };
        if let Some((parent, answer)) = leaf.parent {
            self.splits[parent].next[answer] = self.splits.len() as i32;
        }
        split.next = [-1 - other as i32, -1 - at as i32];
        let middle = from + self.partition(from, to, &split);
        let child = |from, to, (sum, value): (Sum, f64), answer| Leaf {
            from,
            to,
            depth,
            sum,
            value,
            parent: Some((self.splits.len(), answer)),
            histograms: None,
            best: None,
        };
        let (yes, no) = (child(from, middle, split.yes, 1), child(middle, to, split.no, 0));
        self.leaves[at] = yes;
        self.leaves.push(no);
        self.splits.push(split);
        histograms
    }

    /// Puts the rows that pass first, keeping the order on both sides; returns how many pass.
    fn partition(&mut self, from: usize, to: usize, split: &Split) -> usize {
        let bins = &self.binned.blocks[split.feature / WIDTH];
        let lane = split.feature % WIDTH;
        let rows = &mut self.rows[from..to];
        self.moved.clear();
        self.moved.resize(rows.len(), 0);
        let (mut passed, mut moved) = (0, 0);
        // Writing to both sides and moving one on has no branch to mispredict.
        for i in 0..rows.len() {
            let row = rows[i];
            let pass = contains(&split.set, bins[row as usize][lane]);
            rows[passed] = row;
            self.moved[moved] = row;
            passed += pass;
            moved += 1 - pass;
        }
        rows[passed..].copy_from_slice(&self.moved[..moved]);
        passed
    }

    fn may_split(&self, leaf: &Leaf) -> bool {
        let limit = self.parameters.depth;
        leaf.to - leaf.from >= 2 * self.parameters.min_rows_per_leaf
            && (limit == 0 || leaf.depth < limit)
    }

    /// Finds the best splits of two new leaves, given the histograms of the leaf they were.
    fn look_at_children(&mut self, a: usize, b: usize, parent: Option<Histograms>) {
        let length = |leaf: &Leaf| leaf.to - leaf.from;
        let (small, large) =
            if length(&self.leaves[a]) <= length(&self.leaves[b]) { (a, b) } else { (b, a) };
        match parent {
            // A small leaf that may be split has a large sibling that may be, too.
            Some(parent) if self.may_split(&self.leaves[large]) => {
                self.look(small, Some((large, parent)));
            }
            Some(parent) => self.free.push(parent),
            None => {}
        }
    }

    /// Makes a leaf's histograms from its rows and its larger sibling's from the parent's, block by
    /// block, and finds the best splits of both.
    fn look(&mut self, at: usize, sibling: Option<(usize, Histograms)>) {
        let mut own = self.free.pop().unwrap_or_default();
        own.clear();
        own.resize(self.binned.blocks.len(), histogram::EMPTY);
        let rows = &self.rows[self.leaves[at].from..self.leaves[at].to];
        self.gathered.clear();
        self.gathered.extend(rows.iter().map(|&row| self.sums[row as usize]));

        let search = self.search(at);
        let alone = |(block, own): (usize, &mut Block)| {
            histogram::add(&self.binned.blocks[block], rows, &self.gathered, own);
            self.best(search.as_ref(), block, own)
        };
        let step = if rows.len() < WORTH_THREADS { usize::MAX } else { 1 };
        let (found, sibling) = match sibling {
            None => {
                let blocks = own.par_iter_mut().enumerate().with_min_len(step);
                (blocks.map(alone).collect::<Vec<_>>(), None)
            }
            Some((large, mut theirs)) => {
                let other = self.search(large);
                let both = |(block, (own, theirs)): (usize, (&mut Block, &mut Block))| {
                    let found = alone((block, own));
                    histogram::subtract(theirs, own);
                    (found, self.best(other.as_ref(), block, theirs))
                };
                let blocks = own.par_iter_mut().zip(&mut theirs).enumerate().with_min_len(step);
                let (found, others): (Vec<_>, Vec<_>) =
                    blocks.map(both).collect::<Vec<_>>().into_iter().unzip();
                (found, Some((large, theirs, others)))
            }
        };
        self.keep(at, own, found);
        if let Some((large, theirs, others)) = sibling {
            self.keep(large, theirs, others);
        }
    }

    fn search(&self, leaf: usize) -> Option<Search<'a>> {
        let leaf = &self.leaves[leaf];
        self.may_split(leaf).then(|| Search::new(self.parameters, self.scale, leaf.sum))
    }

    /// The best split on a feature of a block; the first among equals.
    fn best(&self, search: Option<&Search<'_>>, block: usize, own: &Block) -> Option<Split> {
        let features = self.binned.features.iter().zip(self.features).enumerate();
        let candidates = features.skip(block * WIDTH).zip(own);
        let splits = candidates.filter_map(|((index, (feature, asked)), histogram)| {
            search.filter(|_| *asked)?.best(index, feature, histogram)
        });
        splits.reduce(better)
    }

    /// Stores what was found for a leaf; its histograms only if they will be needed.
    fn keep(&mut self, at: usize, histograms: Histograms, found: Vec<Option<Split>>) {
        let leaf = &mut self.leaves[at];
        leaf.best = found.into_iter().flatten().reduce(better);
        if leaf.best.is_some() {
            leaf.histograms = Some(histograms);
        } else {
            self.free.push(histograms);
        }
    }
}

/// The second only if it gains more.
fn better(a: Split, b: Split) -> Split {
    if b.gain > a.gain { b } else { a }
}

/// The leaf of a row in a grown tree.
pub fn leaf_of(splits: &[Split], binned: &Binned, row: usize) -> usize {
    let mut at = 0;
    loop {
        let split: &Split = &splits[at];
        let next = split.next[contains(&split.set, binned.bin(split.feature, row))];
        match usize::try_from(next) {
            Ok(next) => at = next,
            Err(_) => return !next as usize,
        }
    }
}
