//! LightGBM's text models of a binary objective, as its libraries save them
//! (<https://github.com/microsoft/LightGBM>, versions 3 and 4 of the format).
//!
//! Values of categories stand in the line `pandas_categorical:`, where LightGBM's Python package keeps those of
//! pandas; names that its own line of names cannot hold are in a line `tidemill_features:` of our trainer.

use std::collections::BTreeMap;

use super::ensemble::{Ensemble, Missing, Node, by_gain, same_inputs};
use super::{Entry, Inputs, Predictor, Row};

/// The entry of the list.
pub const ENTRY: Entry =
    Entry { name: "lightgbm", summary: "LightGBM's text models of a binary objective", load };

struct LightGbm {
    ensemble: Ensemble,
    importance: Vec<(String, f64)>,
}

impl Predictor for LightGbm {
    fn margin(&self, row: Row<'_>) -> f64 {
        self.ensemble.margin(row)
    }

    fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        self.ensemble.margins(rows, numbers, categories, out);
    }

    fn importance(&self) -> Vec<(String, f64)> {
        self.importance.clone()
    }
}

fn load(bytes: &[u8], inputs: &Inputs) -> Result<Box<dyn Predictor>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the artifact is no text".to_string())?;
    let (head, rest) = text.split_once("\nTree=").ok_or("the artifact has no tree")?;
    let (trees, tail) = rest.split_once("\nend of trees").ok_or("the artifact is cut off")?;
    let head = fields(head);
    let word = |key: &str| head.get(key).copied().unwrap_or("");
    if !text.starts_with("tree") || word("num_class") != "1" {
        return Err("not a LightGBM model of one class".to_string());
    }
    let scale = objective(word("objective"))?;
    let line = |key: &str| tail.lines().rev().find_map(|line| line.strip_prefix(key));
    let names: Vec<String> = word("feature_names").split(' ').map(str::to_string).collect();
    match line("tidemill_features:") {
        Some(json) => {
            let trained: Inputs =
                serde_json::from_str(json).map_err(|e| format!("tidemill_features: {e}"))?;
            same_inputs(&trained, inputs)?;
        }
        None => {
            let (numbers, categories) = names.split_at(inputs.numbers.len().min(names.len()));
            let trained = Inputs { numbers: numbers.to_vec(), categories: categories.to_vec() };
            same_inputs(&trained, inputs)?;
        }
    }
    // Cut off before its last line, it would score every category as unknown.
    let values =
        line("pandas_categorical:").ok_or("the artifact has no line pandas_categorical")?;
    let values: Option<Vec<Vec<String>>> =
        serde_json::from_str(values).map_err(|e| format!("pandas_categorical: {e}"))?;
    let mut gains = vec![0.0; names.len()];
    let mut all = Vec::new();
    for (t, tree) in trees.split("\nTree=").enumerate() {
        all.push(nodes(&fields(tree), &mut gains).map_err(|e| format!("tree {t}: {e}"))?);
    }
    // A forest's leaves are averaged.
    let average = head.contains_key("average_output") || text.contains("\naverage_output\n");
    let scale = if average { scale / all.len() as f64 } else { scale };
    let values = values.unwrap_or_default();
    let ensemble = Ensemble::new(inputs, &values, all, 0.0, scale, false)?;
    Ok(Box::new(LightGbm { ensemble, importance: by_gain(inputs, &gains) }))
}

/// `key=value` lines.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// What a sum of leaves is multiplied by to be log-odds.
fn objective(text: &str) -> Result<f64, String> {
    let mut words = text.split(' ');
    match words.next() {
        Some("binary") => {
            let sigmoid = words.find_map(|word| word.strip_prefix("sigmoid:"));
            sigmoid.unwrap_or("1").parse().map_err(|_| format!("objective `{text}`"))
        }
        Some("cross_entropy") => Ok(1.0),
        _ => Err(format!("objective `{text}` gives no log-odds: train with `binary`")),
    }
}

fn list<T: std::str::FromStr>(fields: &BTreeMap<&str, &str>, key: &str) -> Result<Vec<T>, String> {
    let text = fields.get(key).copied().unwrap_or("");
    let words = text.split(' ').filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("`{word}` in {key}"))).collect()
}

fn nodes(tree: &BTreeMap<&str, &str>, gains: &mut [f64]) -> Result<Vec<Node>, String> {
    if tree.get("is_linear").is_some_and(|linear| *linear != "0") {
        return Err("leaves are linear models: train without `linear_tree`".to_string());
    }
    let leaves: Vec<f64> = list(tree, "leaf_value")?;
    let input: Vec<usize> = list(tree, "split_feature")?;
    let threshold: Vec<f64> = list(tree, "threshold")?;
    let kind: Vec<u8> = list(tree, "decision_type")?;
    let (left, right): (Vec<i64>, Vec<i64>) =
        (list(tree, "left_child")?, list(tree, "right_child")?);
    let bounds: Vec<usize> = list(tree, "cat_boundaries")?;
    let words: Vec<u64> = list(tree, "cat_threshold")?;
    let gain: Vec<f64> = list(tree, "split_gain")?;
    let n = input.len();
    if [threshold.len(), kind.len(), left.len(), right.len(), gain.len()].iter().any(|m| *m != n)
        || leaves.len() != n + 1
    {
        return Err("its lists differ in length".to_string());
    }
    // Splits first, then leaves; a child below 0 is a leaf.
    let place = |child: i64| usize::try_from(child).unwrap_or(n + !child as usize);
    let mut out = Vec::with_capacity(2 * n + 1);
    for at in 0..n {
        let (yes, no) = (place(left[at]), place(right[at]));
        let input = input[at];
        *gains.get_mut(input).ok_or("a split on an input that is not there")? += gain[at];
        if kind[at] & 1 == 1 {
            let set = threshold[at] as usize;
            let (Some(from), Some(to)) = (bounds.get(set), bounds.get(set + 1)) else {
                return Err("a split on a set that is not there".to_string());
            };
            let words = words.get(*from..*to).ok_or("a set that is not there")?;
            let set =
                words.chunks(2).map(|w| w[0] | w.get(1).copied().unwrap_or(0) << 32).collect();
            out.push(Node::Among { input, set, missing: false, yes, no });
            continue;
        }
        let side = kind[at] & 2 == 2;
        let missing = match kind[at] >> 2 & 3 {
            0 => Missing::Zero,
            1 => Missing::NullOrZero(side),
            2 => Missing::Null(side),
            other => return Err(format!("missing type {other}")),
        };
        out.push(Node::AtMost { input, threshold: threshold[at], missing, yes, no });
    }
    out.extend(leaves.into_iter().map(Node::Leaf));
    Ok(out)
}
