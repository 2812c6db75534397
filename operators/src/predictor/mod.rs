//! Predictors: models that were trained elsewhere and only score, read from an artifact.

mod ensemble;
pub mod gradient_boosting;
mod lightgbm;
mod linear;
mod onnx;
mod xgboost;

use serde::{Deserialize, Serialize};

/// Every predictor, in the order of the reference.
pub const PREDICTORS: &[Entry] =
    &[gradient_boosting::ENTRY, lightgbm::ENTRY, xgboost::ENTRY, onnx::ENTRY, linear::ENTRY];

/// What the list says about a predictor.
pub struct Entry {
    /// The artifact's kind.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// Reads an artifact, refusing one that was trained on other inputs.
    pub load: fn(&[u8], &Inputs) -> Result<Box<dyn Predictor>, String>,
}

/// Names and kinds of a model's inputs, in order: numbers first, then categories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Names of the numbers.
    pub numbers: Vec<String>,
    /// Names of the categories.
    pub categories: Vec<String>,
}

/// One row of inputs.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Numbers; NaN stands for NULL.
    pub numbers: &'a [f64],
    /// Categories by [`tidemill_types::key::category`]; 0 stands for NULL.
    pub categories: &'a [u64],
}

/// A model that scores.
pub trait Predictor: Send + Sync {
    /// The log-odds of the label for a row. Never NaN.
    fn margin(&self, row: Row<'_>) -> f64;

    /// The same for many rows: `numbers` and `categories` hold row after row.
    fn margins(&self, rows: usize, numbers: &[f64], categories: &[u64], out: &mut Vec<f64>) {
        for i in 0..rows {
            let (n, c) = (numbers.len() / rows, categories.len() / rows);
            out.push(self.margin(Row {
                numbers: &numbers[i * n..(i + 1) * n],
                categories: &categories[i * c..(i + 1) * c],
            }));
        }
    }

    /// Inputs by how much they helped, the most helpful first; empty where it is not known.
    fn importance(&self) -> Vec<(String, f64)>;
}

/// 1 / (1 + e^-margin), by `libm`, so that it repeats on every machine.
pub fn probability(margin: f64) -> f64 {
    if margin >= 0.0 {
        1.0 / (1.0 + libm::exp(-margin))
    } else {
        let e = libm::exp(margin);
        e / (1.0 + e)
    }
}
