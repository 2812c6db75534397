//! XGBoost's JSON models of a logistic objective (<https://xgboost.readthedocs.io>, `save_model` to JSON).
//!
//! Names of inputs and values of categories are attributes that our trainer sets: `tidemill_inputs` and
//! `tidemill_categories`. XGBoost rounds inputs, thresholds and sums to 32 bits; so does this.

use serde::Deserialize;
use serde_json::Value as Json;

use super::ensemble::{Ensemble, Missing, Node, by_gain, same_inputs};
use super::{Entry, Inputs, Predictor, Row};

/// The entry of the list.
pub const ENTRY: Entry =
    Entry { name: "xgboost", summary: "XGBoost's JSON models of a logistic objective", load };

struct XgBoost {
    ensemble: Ensemble,
    importance: Vec<(String, f64)>,
}

impl Predictor for XgBoost {
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
    let json: Json =
        serde_json::from_slice(bytes).map_err(|e| format!("the artifact is no JSON: {e}"))?;
    let learner = &json["learner"];
    let booster = &learner["gradient_booster"];
    if booster["name"] != "gbtree" {
        return Err(format!("booster {} is not read: train with `gbtree`", booster["name"]));
    }
    let objective = learner["objective"]["name"].as_str().unwrap_or_default();
    if !matches!(objective, "binary:logistic" | "binary:logitraw" | "reg:logistic") {
        return Err(format!(
            "objective `{objective}` gives no log-odds: train with binary:logistic"
        ));
    }
    let attribute = |key: &str| -> Result<&str, String> {
        let text = learner["attributes"][key].as_str();
        text.ok_or_else(|| format!("the artifact has no attribute `{key}`"))
    };
    let read = |e: serde_json::Error| format!("attributes: {e}");
    let trained: Inputs = serde_json::from_str(attribute("tidemill_inputs")?).map_err(read)?;
    same_inputs(&trained, inputs)?;
    let values: Vec<Vec<String>> =
        serde_json::from_str(attribute("tidemill_categories")?).map_err(read)?;
    let trees: Vec<Tree> = serde_json::from_value(booster["model"]["trees"].clone())
        .map_err(|e| format!("trees: {e}"))?;
    let mut gains = vec![0.0; inputs.numbers.len() + inputs.categories.len()];
    let nodes = trees
        .iter()
        .enumerate()
        .map(|(t, tree)| tree.nodes(&mut gains).map_err(|reason| format!("tree {t}: {reason}")));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let base = base(&learner["learner_model_param"]["base_score"], objective)?;
    let ensemble = Ensemble::new(inputs, &values, nodes, base, 1.0, true)?;
    Ok(Box::new(XgBoost { ensemble, importance: by_gain(inputs, &gains) }))
}

/// The margin before any tree; the file has the probability, since version 3 as a list of one.
fn base(score: &Json, objective: &str) -> Result<f64, String> {
    let text = score.as_str().unwrap_or_default().trim_matches(['[', ']']);
    let score: f32 = text.parse().map_err(|_| format!("base score `{text}`"))?;
    if objective == "binary:logitraw" {
        return Ok(f64::from(score));
    }
    if !(score > 0.0 && score < 1.0) {
        return Err(format!("base score {score} is no probability"));
    }
    Ok(f64::from(-libm::logf(1.0 / score - 1.0)))
}

#[derive(Deserialize)]
struct Tree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<usize>,
    split_conditions: Vec<f32>,
    default_left: Vec<u8>,
    loss_changes: Vec<f64>,
    #[serde(default)]
    split_type: Vec<u8>,
    #[serde(default)]
    categories: Vec<usize>,
    #[serde(default)]
    categories_nodes: Vec<usize>,
    #[serde(default)]
    categories_segments: Vec<usize>,
    #[serde(default)]
    categories_sizes: Vec<usize>,
}

impl Tree {
    fn nodes(&self, gains: &mut [f64]) -> Result<Vec<Node>, String> {
        let n = self.left_children.len();
        let lengths = [
            self.right_children.len(),
            self.split_indices.len(),
            self.split_conditions.len(),
            self.default_left.len(),
            self.loss_changes.len(),
        ];
        if lengths.iter().any(|length| *length != n) {
            return Err("its lists differ in length".to_string());
        }
        let child = |of: i64| usize::try_from(of).map_err(|_| "half a split".to_string());
        (0..n)
            .map(|at| {
                let condition = f64::from(self.split_conditions[at]);
                if self.left_children[at] < 0 {
                    return Ok(Node::Leaf(condition));
                }
                let (left, right) =
                    (child(self.left_children[at])?, child(self.right_children[at])?);
                let input = self.split_indices[at];
                *gains.get_mut(input).ok_or("a split on an input that is not there")? +=
                    self.loss_changes[at];
                let side = self.default_left[at] != 0;
                if self.split_type.get(at).copied().unwrap_or(0) == 0 {
                    let missing = Missing::Null(side);
                    return Ok(Node::Below {
                        input,
                        threshold: condition,
                        missing,
                        yes: left,
                        no: right,
                    });
                }
                // Codes in the set go right.
                let set = self.set(at)?;
                Ok(Node::Among { input, set, missing: !side, yes: right, no: left })
            })
            .collect()
    }

    fn set(&self, node: usize) -> Result<Vec<u64>, String> {
        let broken = || format!("node {node} has no categories");
        let at = self.categories_nodes.iter().position(|n| *n == node).ok_or_else(broken)?;
        let (from, size) = (self.categories_segments.get(at), self.categories_sizes.get(at));
        let (from, size) = (*from.ok_or_else(broken)?, *size.ok_or_else(broken)?);
        let end = from.checked_add(size).ok_or_else(broken)?;
        let codes = self.categories.get(from..end).ok_or_else(broken)?;
        let most = codes.iter().max().copied().unwrap_or(0);
        if most > 1 << 24 {
            return Err(broken());
        }
        let mut set = vec![0; most / 64 + 1];
        codes.iter().for_each(|code| set[code / 64] |= 1 << (code % 64));
        Ok(set)
    }
}
