//! Learners: models that change with every label, inside the dataflow.

use std::sync::Arc;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;

use crate::predictor::{Inputs, Row};

mod bytes;
mod logistic_regression;

/// Every learner, in the order of the reference.
pub const LEARNERS: &[Entry] = &[logistic_regression::ENTRY];

/// What the list says about a learner.
pub struct Entry {
    /// The value of `type`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`.
    pub keys: &'static [(&'static str, &'static str, &'static str)],
    /// Makes one for these inputs.
    pub build: fn(&Section, &Inputs) -> Result<Box<dyn Learner>, Vec<Diagnostic>>,
}

/// An online learner of a binary label. Its standardisers, encoders and hashers are part of it and
/// learn at the same moments. The same rows in the same order give the same bits.
pub trait Learner: Send + Sync {
    /// The log-odds of the label for a row. Never NaN.
    fn margin(&self, row: Row<'_>) -> f64;

    /// Learns a labelled row; `label` is 0 or 1.
    fn learn(&mut self, row: Row<'_>, label: f64);

    /// Rows learnt.
    fn learnt(&self) -> u64;

    /// The whole state; equal states give equal bytes. It is the artifact of a published version.
    fn save(&self) -> Vec<u8>;

    /// A copy that scores as this one does now. Cost: that of the state's memory.
    fn snapshot(&self) -> Arc<dyn Learner>;

    /// Takes a saved state over.
    fn restore(&mut self, state: &[u8]) -> Result<(), String>;
}
