//! A training task: what is handed to an executor, and what comes back.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Micros};

/// Everything that decides the outcome of a training. Its id is a hash of all of it, so that the
/// same task is never run twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingTask {
    /// Hex hash over the other fields that decide the outcome.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// The trainer's name in the list of trainers, `gradient_boosting` for example.
    pub trainer: String,
    /// The trainer's parameters.
    pub parameters: serde_json::Value,
    /// Parquet files with the labelled rows, in the order of their label times.
    pub data: Vec<PathBuf>,
    /// Label times: from (inclusive) and to (exclusive).
    pub labels: (Micros, Micros),
    /// At most so many rows, the newest by (label time, id).
    pub max_rows: u64,
    /// The feature columns, in the order that the model expects.
    pub features: Vec<String>,
    /// Fingerprint of the feature schema.
    pub schema: String,
    /// The seed of all chance.
    pub seed: u64,
    /// When it was triggered, in event time, and by what.
    pub triggered: (Micros, String),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOutcome {
    /// The task's id.
    pub task: String,
    /// The artifact, or why there is none.
    pub result: Result<Artifact, String>,
    /// Wall time of the training in seconds; for people, never for decisions.
    pub seconds: f64,
}

/// A trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The component that reads it.
    pub kind: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Rows learnt.
    pub rows: u64,
    /// Measures taken by the trainer, by name.
    pub metrics: Vec<(String, f64)>,
}

/// How a task is carried out in this process: the engine hands it to the `in_process` executor, so
/// that connectors need not know the learners. The second argument is the number of threads.
pub type Train = Arc<dyn Fn(&TrainingTask, usize) -> Result<Artifact, Error> + Send + Sync>;
