//! The artifact of boosted trees: two lines of JSON.
//!
//! The first line is the header: `{"format":"tidemill.gradient_boosting","version":1,"hash":"…"}`,
//! where `hash` is the FNV-1a hash (64 bits, hexadecimal) of the second line. The second line is
//! the [`Model`]. The same model gives the same bytes; floats are written in the shortest form that
//! reads back to the same bits.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::predictor::Inputs;

const FORMAT: &str = "tidemill.gradient_boosting";
const VERSION: u64 = 1;

/// The most bins an input can have, bin 0 included.
pub const MAX_BINS: usize = 256;

/// Boosted trees as they are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What the trees were trained on.
    pub inputs: Inputs,
    /// For each category of the inputs, the values known from training. A value's code is its place
    /// here plus one; all other values have code 0.
    pub dictionaries: Vec<Vec<Hash>>,
    /// The total gain of the splits on each input: numbers first, then categories.
    pub gains: Vec<f64>,
    /// The margin before any tree.
    pub base: f64,
    /// A row's margin is `base` plus the value of its leaf in each tree, added in this order.
    pub trees: Vec<Tree>,
}

/// A category's hash, written in hexadecimal because many JSON readers cut integers to 53 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub u64);

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        format!("{:016x}", hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(text: String) -> Result<Hash, String> {
        u64::from_str_radix(&text, 16).map(Hash).map_err(|e| format!("hash `{text}`: {e}"))
    }
}

/// One tree. The first split is the root; a tree without splits has one leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The splits; a child stands after its parent.
    pub splits: Vec<Split>,
    /// What each leaf adds to the margin.
    pub leaves: Vec<f64>,
}

/// A question and where each answer leads: to a split if not negative, else to leaf `-1 - child`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The question.
    pub test: Test,
    /// The next step for rows that pass the test.
    pub yes: i32,
    /// The next step for all others.
    pub no: i32,
}

/// A question about one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Test {
    /// Is the number at most this?
    AtMost {
        /// Index into the inputs' numbers.
        number: usize,
        /// The threshold. An infinity is compared as if it were the largest finite number.
        threshold: f64,
        /// The answer for NULL.
        null: bool,
    },
    /// Is the category one of these?
    Among {
        /// Index into the inputs' categories.
        category: usize,
        /// Codes of the dictionary, ascending.
        codes: Vec<u8>,
    },
}

/// The header line, its fields in the order in which they are written.
#[derive(Serialize)]
struct Header<'a> {
    format: &'a str,
    version: u64,
    hash: Hash,
}

impl Model {
    /// The artifact.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let body = serde_json::to_string(self).map_err(|e| e.to_string())?;
        Ok(format!("{}\n{body}", header(&body)?).into_bytes())
    }

    /// Reads an artifact and checks all that scoring relies on.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, String> {
        let text =
            std::str::from_utf8(bytes).map_err(|e| format!("the artifact is broken: {e}"))?;
        let (first, body) = text.split_once('\n').ok_or("the artifact is broken: no header")?;
        check_version(first)?;
        if first != header(body)? {
            return Err("the artifact is broken: its hash does not match".into());
        }
        let model: Model =
            serde_json::from_str(body).map_err(|e| format!("the artifact is broken: {e}"))?;
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), String> {
        let inputs = self.inputs.numbers.len() + self.inputs.categories.len();
        if self.dictionaries.len() != self.inputs.categories.len() || self.gains.len() != inputs {
            return Err("dictionaries or gains do not match the inputs".into());
        }
        if self.dictionaries.iter().any(|d| d.len() >= MAX_BINS) {
            return Err(format!("a dictionary has more than {} values", MAX_BINS - 1));
        }
        // The bound makes every partial sum finite, hence no margin NaN.
        let largest = |tree: &Tree| tree.leaves.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let sum = self.trees.iter().map(largest).fold(self.base.abs(), |a, b| a + b);
        let nan = self.trees.iter().any(|t| t.leaves.iter().any(|v| v.is_nan()));
        if nan || !sum.is_finite() || !self.gains.iter().all(|g| g.is_finite()) {
            return Err("a value is not finite".into());
        }
        self.trees.iter().enumerate().try_for_each(|(i, tree)| {
            self.check_tree(tree).map_err(|reason| format!("tree {i}: {reason}"))
        })
    }

    /// Every split but the root and every leaf is led to exactly once, from before.
    fn check_tree(&self, tree: &Tree) -> Result<(), String> {
        let (mut splits, mut leaves) = (vec![0; tree.splits.len()], vec![0; tree.leaves.len()]);
        let root = if tree.splits.is_empty() { &mut leaves } else { &mut splits };
        *root.first_mut().ok_or("it has neither split nor leaf")? += 1;
        for (i, split) in tree.splits.iter().enumerate() {
            self.check_test(&split.test)?;
            for child in [split.yes, split.no] {
                let visits = match usize::try_from(child) {
                    Ok(child) if child > i => splits.get_mut(child),
                    Ok(_) => None,
                    Err(_) => leaves.get_mut(!child as usize),
                };
                *visits.ok_or_else(|| format!("split {i} leads nowhere"))? += 1;
            }
        }
        if splits.iter().chain(&leaves).any(|&visits| visits != 1) {
            return Err("it is not a tree".into());
        }
        Ok(())
    }

    fn check_test(&self, test: &Test) -> Result<(), String> {
        match test {
            Test::AtMost { number, threshold, .. } => {
                if *number >= self.inputs.numbers.len() || !threshold.is_finite() {
                    return Err("a test on a number that is not there, or without end".into());
                }
            }
            Test::Among { category, codes } => {
                let known = self.dictionaries.get(*category).map_or(0, Vec::len);
                if codes.iter().any(|&code| code == 0 || usize::from(code) > known) {
                    return Err("a test on a category that is not there".into());
                }
            }
        }
        Ok(())
    }
}

fn header(body: &str) -> Result<String, String> {
    let header = Header { format: FORMAT, version: VERSION, hash: Hash(fnv1a(body.as_bytes())) };
    serde_json::to_string(&header).map_err(|e| e.to_string())
}

/// Tells another version or another format from a broken file.
fn check_version(header: &str) -> Result<(), String> {
    let json: Json =
        serde_json::from_str(header).map_err(|e| format!("the artifact is broken: {e}"))?;
    if json["format"] != FORMAT {
        return Err(format!("not an artifact of format {FORMAT}: {}", json["format"]));
    }
    if json["version"] != VERSION {
        return Err(format!("version {} of {FORMAT} is not known", json["version"]));
    }
    Ok(())
}

/// FNV-1a (Fowler, Noll, Vo): each step is one to one, so a single altered byte always shows.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
