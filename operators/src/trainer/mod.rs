//! Trainers: batch training of a binary classifier on columns of labelled rows.

pub mod gradient_boosting;
mod lightgbm;
mod package;
mod python;
mod scikit_learn;
mod xgboost;

use serde_json::Value as Json;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;

use crate::predictor::Inputs;

/// Every trainer, in the order of the reference.
pub const TRAINERS: &[Entry] = &[
    gradient_boosting::ENTRY,
    lightgbm::ENTRY,
    xgboost::ENTRY,
    scikit_learn::ENTRY,
    python::ENTRY,
];

/// What the list says about a trainer.
pub struct Entry {
    /// The value of `type`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`.
    pub keys: &'static [(&'static str, &'static str, &'static str)],
    /// Reads the keys; the answer, with all defaults, goes into the task.
    pub parameters: fn(&Section) -> Result<Json, Vec<Diagnostic>>,
    /// Trains; the bytes are an artifact of the predictor of the same name. The same set, parameters
    /// and seed give the same bytes for any number of threads. None of a trainer of the Python package
    /// `trainer/`: it needs an executor whose tasks run apart.
    pub train: Option<Train>,
}

/// How a trainer in Rust trains: rows, parameters, seed, threads.
pub type Train = fn(&TrainingSet, &Json, u64, usize) -> Result<Trained, String>;

/// Labelled rows by column, oldest label first.
#[derive(Clone, Debug, Default)]
pub struct TrainingSet {
    /// Names and kinds of the inputs.
    pub inputs: Inputs,
    /// One column a number; NaN stands for NULL.
    pub numbers: Vec<Vec<f64>>,
    /// One column a category, hashed; 0 stands for NULL.
    pub categories: Vec<Vec<u64>>,
    /// 0 or 1.
    pub labels: Vec<f64>,
}

/// What a training made.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The artifact.
    pub bytes: Vec<u8>,
    /// Measures on the training rows, by name.
    pub metrics: Vec<(String, f64)>,
}
