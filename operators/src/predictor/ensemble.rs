//! Trees of other libraries, walked one question at a time. Cost: O(trees x depth) a row.

use std::collections::BTreeMap;

use tidemill_types::key::category;

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
                    | Node::Among { input, yes, no, .. } => (*input, *yes, *no),
                };
                // Children after their parents: no walk goes round.
                if input >= width
                    || [yes, no].iter().any(|child| *child <= at || *child >= tree.len())
                {
                    return Err(format!("node {at} of tree {t} leads nowhere"));
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
        Ok(Ensemble { codes, numbers: inputs.numbers.len(), trees, short, base, scale })
    }

    /// The margin of a row.
    pub fn margin(&self, row: Row<'_>) -> f64 {
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
            Node::Among { input, set, missing, yes, no } => {
                let x = values[*input];
                let known = (0.0..1e9).contains(&x).then(|| x as usize);
                let answer = known.map_or(*missing, |code| {
                    set.get(code / 64).is_some_and(|word| word >> (code % 64) & 1 == 1)
                });
                if answer { *yes } else { *no }
            }
        };
    }
}

/// Compares the inputs that an artifact names with those that are asked for.
pub(super) fn same_inputs(trained: &Inputs, asked: &Inputs) -> Result<(), String> {
    if trained == asked {
        return Ok(());
    }
    Err(format!(
        "trained on other inputs: numbers {:?} and categories {:?}, not {:?} and {:?}",
        trained.numbers, trained.categories, asked.numbers, asked.categories
    ))
}

/// Inputs by what they gained, the most first; equal ones in the order of the model.
pub(super) fn by_gain(inputs: &Inputs, gains: &[f64]) -> Vec<(String, f64)> {
    let names = inputs.numbers.iter().chain(&inputs.categories).cloned();
    let mut all: Vec<(String, f64)> = names.zip(gains.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}
