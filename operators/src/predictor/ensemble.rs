//! Trees of other libraries. Those that ask what our own trees ask are compiled as ours are; the others are
//! walked one question at a time. Cost: O(trees x depth) a row.

use std::cmp::Ordering::Less;
use std::collections::BTreeMap;

use tidemill_types::key::category;

use super::gradient_boosting::artifact::{Hash, Model, Split, Test, Tree};
use super::gradient_boosting::forest::Forest;
use super::{Inputs, Row};

/// What a value that is missing does at a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Missing {
    /// NULL counts as 0 and is compared.
    Zero,
    /// NULL takes the side that was learnt: whether that is `yes`.
    Null(bool),
    /// NULL and 0 take it.
    NullOrZero(bool),
}

/// A question, or an answer.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// What this tree adds.
    Leaf(f64),
    /// Is the number at most this?
    AtMost { input: usize, threshold: f64, missing: Missing, yes: usize, no: usize },
    /// Is the number below this?
    Below { input: usize, threshold: f64, missing: Missing, yes: usize, no: usize },
    /// Is it one of these numbers, which ascend?
    OneOf { input: usize, values: Vec<f64>, missing: Missing, yes: usize, no: usize },
    /// Is the code in this set of bits? `missing` says whether a code that is not known counts as yes.
    Among { input: usize, set: Vec<u64>, missing: bool, yes: usize, no: usize },
}

/// Trees whose leaves are added up.
#[derive(Debug)]
pub(super) struct Ensemble {
    /// Codes of each category by the hash of its value.
    codes: Vec<BTreeMap<u64, f64>>,
    numbers: usize,
    trees: Vec<Vec<Node>>,
    /// The same trees, compiled.
    forest: Option<Forest>,
    /// Inputs and sums are rounded to 32 bits, as the library does.
    short: bool,
    base: f64,
    scale: f64,
}

impl Ensemble {
    /// Checks that every walk ends at a finite leaf. `values` are those of each category, in the order of
    /// their codes.
    pub fn new(
        inputs: &Inputs,
        values: &[Vec<String>],
        trees: Vec<Vec<Node>>,
        base: f64,
        scale: f64,
        short: bool,
    ) -> Result<Ensemble, String> {
        if values.len() != inputs.categories.len() {
            return Err(format!(
                "the artifact knows values of {} categories, not of {}",
                values.len(),
                inputs.categories.len()
            ));
        }
        let width = inputs.numbers.len() + inputs.categories.len();
        let mut largest = base.abs();
        for (t, tree) in trees.iter().enumerate() {
            let mut most = 0.0_f64;
            // A node that two lead to would be copied by whoever lays the tree out, and theirs by those above.
            let mut led_to = vec![false; tree.len()];
            for (at, node) in tree.iter().enumerate() {
                let (input, yes, no) = match node {
                    Node::Leaf(value) => {
                        most = most.max(value.abs());
                        if value.is_finite() {
                            continue;
                        }
                        return Err(format!("tree {t} has a leaf that is no finite number"));
                    }
                    Node::AtMost { input, yes, no, .. }
                    | Node::Below { input, yes, no, .. }
                    | Node::OneOf { input, yes, no, .. }
                    | Node::Among { input, yes, no, .. } => (*input, *yes, *no),
                };
                // Children after their parents: no walk goes round.
                if input >= width
                    || [yes, no].iter().any(|child| *child <= at || *child >= tree.len())
                {
                    return Err(format!("node {at} of tree {t} leads nowhere"));
                }
                for child in [yes, no] {
                    if std::mem::replace(&mut led_to[child], true) {
                        return Err(format!("node {child} of tree {t} is led to twice"));
                    }
                }
            }
            if tree.is_empty() {
                return Err(format!("tree {t} is empty"));
            }
            largest += most;
        }
        if !(largest * scale.abs()).is_finite() {
            return Err("the sum of the leaves is not finite".to_string());
        }
        let place = |(code, value): (usize, &String)| (category(value), code as f64);
        let codes =
            values.iter().map(|values| values.iter().enumerate().map(place).collect()).collect();
        let forest = compiled(inputs, values, &trees, base, short);
        let numbers = inputs.numbers.len();
        Ok(Ensemble { codes, numbers, trees, forest, short, base, scale })
    }

    /// The margin of a row.
    pub fn margin(&self, row: Row<'_>) -> f64 {
        match &self.forest {
            Some(forest) => forest.margin(row.numbers, row.categories) * self.scale,
            None => self.walk(row),
        }
    }

    /// Appends the margins of rows, given row after row.
    pub fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        if let Some(forest) = &self.forest {
            let from = out.len();
            forest.margins(rows, numbers, categories, out);
            out[from..].iter_mut().for_each(|margin| *margin *= self.scale);
            return;
        }
        let (n, c) = (self.numbers, self.codes.len());
        out.extend((0..rows).map(|r| {
            let (numbers, categories) = (&numbers[r * n..][..n], &categories[r * c..][..c]);
            self.walk(Row { numbers, categories })
        }));
    }

    fn walk(&self, row: Row<'_>) -> f64 {
        assert_eq!(row.numbers.len(), self.numbers, "a row of other inputs");
        let codes = self.codes.iter().zip(row.categories);
        let codes = codes.map(|(codes, hash)| codes.get(hash).copied().unwrap_or(f64::NAN));
        let round = |x: f64| if self.short { f64::from(x as f32) } else { x };
        let values: Vec<f64> = row.numbers.iter().map(|x| round(*x)).chain(codes).collect();
        let leaves = self.trees.iter().map(|tree| leaf(tree, &values));
        let sum = match self.short {
            true => f64::from(leaves.fold(self.base as f32, |sum, leaf| sum + leaf as f32)),
            false => leaves.fold(self.base, |sum, leaf| sum + leaf),
        };
        sum * self.scale
    }
}

/// As LightGBM: closer to 0 than this is 0.
const ZERO: f64 = 1e-35;

fn leaf(tree: &[Node], values: &[f64]) -> f64 {
    let mut at = 0;
    loop {
        let compare =
            |input: usize, missing: Missing, yes: usize, no: usize, test: &dyn Fn(f64) -> bool| {
                let x = values[input];
                let answer = match missing {
                    Missing::Null(side) if x.is_nan() => side,
                    Missing::NullOrZero(side) if x.is_nan() || x.abs() <= ZERO => side,
                    _ => test(if x.is_nan() { 0.0 } else { x }),
                };
                if answer { yes } else { no }
            };
        at = match &tree[at] {
            Node::Leaf(value) => return *value,
            Node::AtMost { input, threshold, missing, yes, no } => {
                compare(*input, *missing, *yes, *no, &|x| x <= *threshold)
            }
            Node::Below { input, threshold, missing, yes, no } => {
                compare(*input, *missing, *yes, *no, &|x| x < *threshold)
            }
            Node::OneOf { input, values: known, missing, yes, no } => {
                compare(*input, *missing, *yes, *no, &|x| {
                    known.binary_search_by(|value| value.partial_cmp(&x).unwrap_or(Less)).is_ok()
                })
            }
            Node::Among { input, set, missing, yes, no } => {
                let x = values[*input];
                let known = (0.0..1e9).contains(&x).then_some(x as usize);
                let answer = known.map_or(*missing, |code| {
                    set.get(code / 64).is_some_and(|word| word >> (code % 64) & 1 == 1)
                });
                if answer { *yes } else { *no }
            }
        };
    }
}

/// The trees as ours; nothing if they ask anything else, or too much of one input.
fn compiled(
    inputs: &Inputs,
    values: &[Vec<String>],
    trees: &[Vec<Node>],
    base: f64,
    short: bool,
) -> Option<Forest> {
    let numbers = inputs.numbers.len();
    let at_most = |number: usize, threshold: f64, null: bool| {
        // There, an infinite number is compared as if it were the largest finite one.
        let same = threshold == f64::INFINITY || (f64::MIN..f64::MAX).contains(&threshold);
        let threshold = if short { rounds_to(threshold as f32) } else { threshold };
        same.then_some(Test::AtMost { number, threshold, null })
    };
    let tree = |nodes: &Vec<Node>| -> Option<Tree> {
        // The place of each node among the splits, or among the leaves.
        let (mut splits, mut leaves) = (0, 0);
        let place = |node: &Node| match node {
            Node::Leaf(_) => {
                leaves += 1;
                -leaves
            }
            _ => {
                splits += 1;
                splits - 1
            }
        };
        let places: Vec<i32> = nodes.iter().map(place).collect();
        let mut out = Tree { splits: Vec::new(), leaves: Vec::new() };
        for node in nodes {
            let (test, yes, no) = match node {
                Node::Leaf(value) => {
                    out.leaves.push(*value);
                    continue;
                }
                Node::AtMost { input, threshold, missing, yes, no } if *input < numbers => {
                    let null = match missing {
                        Missing::Zero => 0.0 <= *threshold,
                        Missing::Null(side) => *side,
                        Missing::NullOrZero(_) => return None,
                    };
                    (at_most(*input, *threshold, null)?, yes, no)
                }
                // Of numbers of 32 bits, those below one are those that are at most its neighbour.
                Node::Below { input, threshold, missing: Missing::Null(null), yes, no }
                    if short && *input < numbers =>
                {
                    let neighbour = f64::from((*threshold as f32).next_down());
                    (at_most(*input, neighbour, *null)?, yes, no)
                }
                Node::Among { input, set, missing, yes, no } => {
                    let category = input.checked_sub(numbers)?;
                    let known = 1..=u8::try_from(values[category].len()).ok()?;
                    let has = |code: &u8| {
                        let bit = usize::from(*code) - 1;
                        set.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
                    };
                    let unknown = missing.then_some(0);
                    let codes = unknown.into_iter().chain(known.filter(has)).collect();
                    (Test::Among { category, codes }, yes, no)
                }
                Node::AtMost { .. } | Node::Below { .. } | Node::OneOf { .. } => return None,
            };
            out.splits.push(Split { test, yes: places[*yes], no: places[*no] });
        }
        Some(out)
    };
    let hashes = |values: &Vec<String>| values.iter().map(|text| Hash(category(text))).collect();
    let model = Model {
        inputs: inputs.clone(),
        dictionaries: values.iter().map(hashes).collect(),
        gains: Vec::new(),
        base,
        trees: trees.iter().map(tree).collect::<Option<_>>()?,
    };
    let forest = Forest::compile(&model).ok()?;
    Some(if short { forest.with_short_sums() } else { forest })
}

/// The largest number that rounds to this one of 32 bits, or to one below it: whoever compares with it
/// need not round.
fn rounds_to(threshold: f32) -> f64 {
    if threshold.is_infinite() {
        return f64::from(threshold);
    }
    // After the largest comes 2^128, were there such a number.
    let beyond = 2.0 * f64::from(2_f32.powi(127));
    let next = if threshold == f32::MAX { beyond } else { threshold.next_up().into() };
    let middle = f64::midpoint(threshold.into(), next);
    if middle as f32 <= threshold { middle } else { middle.next_down() }
}

/// Compares the inputs that an artifact names with those that are asked for.
pub(super) fn same_inputs(trained: &Inputs, asked: &Inputs) -> Result<(), String> {
    if trained == asked {
        return Ok(());
    }
    let names = |of: &[String]| if of.is_empty() { "none".to_string() } else { of.join(", ") };
    Err(format!(
        "trained on other inputs: its numbers are {} and its categories {}, and those of the pipeline {} and {}",
        names(&trained.numbers),
        names(&trained.categories),
        names(&asked.numbers),
        names(&asked.categories)
    ))
}

/// Inputs by what they gained, the most first; equal ones in the order of the model.
pub(super) fn by_gain(inputs: &Inputs, gains: &[f64]) -> Vec<(String, f64)> {
    let names = inputs.numbers.iter().chain(&inputs.categories).cloned();
    let mut all: Vec<(String, f64)> = names.zip(gains.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same each time (SplitMix64).
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % n
        }

        /// Few different numbers, so that thresholds are met exactly.
        fn number(&mut self) -> f64 {
            match self.below(12) {
                0 => f64::NAN,
                1 => f64::INFINITY,
                2 => f64::NEG_INFINITY,
                3 => 0.0,
                _ => self.below(20) as f64 / 4.0 - 2.0,
            }
        }
    }

    fn tree(chance: &mut Chance, strange: bool) -> Vec<Node> {
        let splits = chance.below(12) as usize;
        let mut nodes = Vec::new();
        // Each split but the root is a child of one before it; what is open is a leaf.
        let mut open = vec![];
        for at in 0..splits {
            let (yes, no) = (usize::MAX, usize::MAX);
            if at > 0 {
                let parent = chance.below(open.len() as u64) as usize;
                let (split, side): (usize, bool) = open.swap_remove(parent);
                let (Node::AtMost { yes, no, .. } | Node::Among { yes, no, .. }) =
                    &mut nodes[split]
                else {
                    unreachable!("leaves come later")
                };
                *(if side { yes } else { no }) = at;
            }
            open.extend([(at, true), (at, false)]);
            let input = chance.below(4) as usize;
            nodes.push(if input == 3 {
                let set = vec![chance.below(u64::MAX), chance.below(u64::MAX)];
                Node::Among { input, set, missing: chance.below(2) == 0, yes, no }
            } else {
                let missing = match chance.below(if strange { 3 } else { 2 }) {
                    0 => Missing::Zero,
                    1 => Missing::Null(chance.below(2) == 0),
                    _ => Missing::NullOrZero(chance.below(2) == 0),
                };
                let threshold = match chance.below(9) {
                    0 => f64::INFINITY,
                    n => (n * chance.below(3)) as f64 / 4.0 - 2.0,
                };
                Node::AtMost { input, threshold, missing, yes, no }
            });
        }
        for (split, side) in open {
            let leaf = nodes.len();
            nodes.push(Node::Leaf(chance.below(1_000) as f64 / 7.0 - 70.0));
            let (Node::AtMost { yes, no, .. } | Node::Among { yes, no, .. }) = &mut nodes[split]
            else {
                unreachable!("splits come first")
            };
            *(if side { yes } else { no }) = leaf;
        }
        if nodes.is_empty() {
            nodes.push(Node::Leaf(1.5));
        }
        nodes
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let inputs = Inputs { numbers: vec!["a".to_string()], categories: Vec::new() };
        let split = |at: usize| {
            let missing = Missing::Null(false);
            Node::AtMost { input: 0, threshold: 0.0, missing, yes: at + 1, no: at + 1 }
        };
        // Forty questions, both answers of each leading to the next: as a tree it would have 2^40 nodes.
        let nodes = (0..40).map(split).chain([Node::Leaf(1.0)]).collect();
        let refused = Ensemble::new(&inputs, &[], vec![nodes], 0.0, 1.0, false);
        assert!(refused.is_err_and(|why| why.contains("twice")));
    }

    /// The same trees as XGBoost and ONNX have them, in 32 bits.
    fn short(tree: Vec<Node>, chance: &mut Chance) -> Vec<Node> {
        let node = |node| match node {
            Node::Leaf(value) => Node::Leaf(f64::from(value as f32)),
            Node::AtMost { input, threshold, yes, no, .. } => {
                let missing = Missing::Null(chance.below(2) == 0);
                match chance.below(2) {
                    0 => Node::AtMost { input, threshold, missing, yes, no },
                    _ => Node::Below { input, threshold, missing, yes, no },
                }
            }
            other => other,
        };
        tree.into_iter().map(node).collect()
    }

    #[test]
    fn compiled_trees_say_what_a_walk_says() {
        let names = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let inputs = Inputs { numbers: names(&["a", "b", "c"]), categories: names(&["word"]) };
        let words: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
        let mut chance = Chance(7);
        for round in 0..120 {
            let (strange, in_short) = (round % 6 == 5, round % 2 == 0);
            let mut trees: Vec<_> = (0..20).map(|_| tree(&mut chance, strange)).collect();
            if in_short {
                trees = trees.into_iter().map(|tree| short(tree, &mut chance)).collect();
            }
            let values = [words.clone()];
            let ensemble =
                Ensemble::new(&inputs, &values, trees, 0.25, 0.7, in_short).expect("trees");
            assert!(ensemble.forest.is_some() != strange, "what is compiled in round {round}");
            let rows = 203;
            // Beside a threshold by up to twice what rounding to 32 bits takes away, ties among them.
            let near = |x: f64, by: u64| x + x * (by as f64 - 4.0) / f64::from(1 << 25);
            let numbers: Vec<f64> =
                (0..3 * rows).map(|_| near(chance.number(), chance.below(9))).collect();
            let categories: Vec<u64> =
                (0..rows).map(|_| category(&format!("w{}", chance.below(110)))).collect();
            let mut many = Vec::new();
            ensemble.margins(rows, &numbers, &categories, &mut many);
            for r in 0..rows {
                let row =
                    Row { numbers: &numbers[3 * r..3 * r + 3], categories: &categories[r..=r] };
                let walked = ensemble.walk(row).to_bits();
                assert_eq!((ensemble.margin(row).to_bits(), many[r].to_bits()), (walked, walked));
            }
        }
    }
}
