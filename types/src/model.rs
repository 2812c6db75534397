//! Models: their versions and where these come from.

use serde::{Deserialize, Serialize};

use crate::Micros;

/// One version of one model, as the registry keeps it and the models sink delivers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model's name in the pipeline.
    pub model: String,
    /// Counts from 1 within the model; 0 is a model before its first version.
    pub version: u64,
    /// The component that reads the artifact, `gradient_boosting` for example.
    pub kind: String,
    /// SHA-256 of the artifact, hex: the artifact's name in the registry.
    pub artifact: String,
    /// The event time from which on it may be used.
    pub since: Micros,
    /// Where it comes from.
    pub lineage: Lineage,
    /// Measures taken at training or publishing, by name.
    pub metrics: Vec<(String, f64)>,
}

/// From what a version was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The version of Tidemill that made it.
    pub tidemill: String,
    /// Fingerprint of the feature schema.
    pub schema: String,
    /// Identity of the training task, empty for an online model.
    pub task: String,
    /// What triggered it.
    pub trigger: String,
    /// Rows learnt.
    pub rows: u64,
    /// Label times learnt: from (inclusive) and to (exclusive).
    pub labels: (Micros, Micros),
    /// Highest offset read per source and partition, `source/partition` to offset.
    pub offsets: Vec<(String, u64)>,
    /// The seed of all chance.
    pub seed: u64,
}
