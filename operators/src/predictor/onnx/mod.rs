//! ONNX graphs of one row: trees and linear models of ai.onnx.ml, and the operators that converters put around
//! them (<https://onnx.ai/onnx/operators>). Everything is computed in 32 bits, as ONNX Runtime does.
//!
//! The graph's one input is a matrix of floats: the numbers of a row, NaN for NULL, then the codes of its
//! categories. A code is the place of the value in the list that the property `tidemill_categories` has; values
//! that are not there are NaN. `tidemill_inputs` names both, and `tidemill_output` says what the graph gives:
//! `probability`, which is the default of classifiers, or `log_odds`. `tidemill_trainer.to_onnx` writes all three.

mod attributes;
mod classes;
mod graph;
mod messages;
mod operator;
mod trees;

use std::collections::BTreeMap;

use prost::Message;
use tidemill_types::key::category;

use self::graph::{Score, Steps};
use self::operator::Operator;
use super::ensemble::same_inputs;
use super::{Entry, Inputs, Predictor, Row};

/// The entry of the list.
pub const ENTRY: Entry =
    Entry { name: "onnx", summary: "ONNX graphs of trees or of a linear model", load };

/// Bytes of an artifact at most: a list of short texts may take fifty times as many in memory.
const MOST: usize = 128 << 20;

/// Rows that are put together for the trees.
const BLOCK: usize = 256;

struct Onnx {
    steps: Steps,
    /// The graph gives log-odds, not a probability.
    log_odds: bool,
    numbers: usize,
    /// Codes of each category by the hash of its value.
    codes: Vec<BTreeMap<u64, f64>>,
}

fn load(bytes: &[u8], inputs: &Inputs) -> Result<Box<dyn Predictor>, String> {
    if bytes.len() > MOST {
        return Err(format!("the artifact has {} bytes, more than {MOST}", bytes.len()));
    }
    let model = messages::Model::decode(bytes).map_err(|e| format!("no ONNX model: {e}"))?;
    let graph = model.graph.ok_or("the ONNX model has no graph")?;
    let property = |key: &str| model.properties.iter().find(|p| p.key == key).map(|p| &p.value[..]);
    let needed = |key: &str| {
        property(key).ok_or_else(|| {
            format!(
                "the ONNX model has no property `{key}`: write it with tidemill_trainer.to_onnx, or set it with \
                 onnx.helper.set_model_props"
            )
        })
    };
    let read = |e: serde_json::Error| format!("a property of the ONNX model: {e}");
    let trained: Inputs = serde_json::from_str(needed("tidemill_inputs")?).map_err(read)?;
    same_inputs(&trained, inputs)?;
    let values: Vec<Vec<String>> = match inputs.categories.is_empty() {
        true => Vec::new(),
        false => serde_json::from_str(needed("tidemill_categories")?).map_err(read)?,
    };
    if values.len() != inputs.categories.len() {
        return Err(format!("the ONNX model knows values of {} categories", values.len()));
    }
    let steps = Steps::of(&graph, inputs.numbers.len() + inputs.categories.len())?;
    let classifier = graph.nodes.iter().any(|node| node.operator.ends_with("Classifier"));
    let log_odds = match property("tidemill_output") {
        Some("log_odds") => true,
        Some("probability") => false,
        None if classifier => false,
        other => {
            let found = other.map_or("missing".to_string(), |other| format!("\"{other}\""));
            return Err(format!(
                "property `tidemill_output` is {found}: say \"probability\" or \"log_odds\""
            ));
        }
    };
    let code = |(code, value): (usize, &String)| (category(value), code as f64);
    let codes = values.iter().map(|v| v.iter().enumerate().map(code).collect()).collect();
    Ok(Box::new(Onnx { steps, log_odds, numbers: inputs.numbers.len(), codes }))
}

impl Onnx {
    fn extend(&self, numbers: &[f64], categories: &[u64], row: &mut Vec<f64>) {
        assert_eq!(numbers.len(), self.numbers, "a row of other inputs");
        row.extend_from_slice(numbers);
        let codes = self.codes.iter().zip(categories);
        row.extend(codes.map(|(codes, hash)| codes.get(hash).copied().unwrap_or(f64::NAN)));
    }

    fn margin_of(&self, score: Score) -> f64 {
        let margin = match score {
            Score::LogOdds(margin) => margin,
            Score::Given(score) if self.log_odds => f64::from(score),
            Score::Given(score) => logit(score),
        };
        // What a graph makes of two infinities, or of NULL where nothing stands for it.
        if margin.is_nan() { 0.0 } else { margin }
    }
}

/// The log-odds of a probability of 32 bits. 1 and 0 are the nearest that are neither: forests say them of
/// rows on which all trees agree.
fn logit(probability: f32) -> f64 {
    let p = f64::from(probability).max(f64::from(f32::MIN_POSITIVE));
    let rest = (1.0 - f64::from(probability)).max(f64::from(f32::EPSILON) / 4.0);
    libm::log(p) - libm::log(rest)
}

impl Predictor for Onnx {
    fn margin(&self, row: Row<'_>) -> f64 {
        let mut all = Vec::with_capacity(self.numbers + self.codes.len());
        self.extend(row.numbers, row.categories, &mut all);
        self.margin_of(self.steps.score(&all))
    }

    fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        let (n, c) = (self.numbers, self.codes.len());
        let mut block = Vec::new();
        for from in (0..rows).step_by(BLOCK) {
            let to = (from + BLOCK).min(rows);
            block.clear();
            for r in from..to {
                self.extend(&numbers[r * n..][..n], &categories[r * c..][..c], &mut block);
            }
            match self.steps.only() {
                Some(Operator::Trees(trees)) => {
                    out.extend(trees.scores_of_many(to - from, &block).into_iter().map(|scores| {
                        let given = || Score::Given(trees.after.apply(scores)[1]);
                        let log_odds = trees.after.log_odds(scores);
                        self.margin_of(log_odds.map_or_else(given, Score::LogOdds))
                    }));
                }
                _ => {
                    let rows = block.chunks_exact((n + c).max(1));
                    out.extend(rows.map(|row| self.margin_of(self.steps.score(row))));
                }
            }
        }
    }

    /// A graph does not say it.
    fn importance(&self) -> Vec<(String, f64)> {
        Vec::new()
    }
}
