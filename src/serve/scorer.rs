//! What the server asks of the engine.

use tidemill_types::{DataType, Micros, Value};

/// Scores on request: a read of what the dataflow holds, which changes nothing in it.
///
/// Methods are called from threads of the server, several at a time; they may block for some
/// milliseconds. A hanging call costs one of [`Options::concurrency`](super::Options) until it returns.
pub trait Scorer: Send + Sync + 'static {
    /// The models that can be asked, in the order of the pipeline file.
    fn metadata(&self) -> Vec<ModelInfo>;

    /// Whether the pipeline has caught up and its champion (or a fallback) can score.
    fn ready(&self) -> bool;

    /// Scores known rows of the spine by id, from the features as they are now. A value in `overrides`
    /// takes the place of the one looked up; its rows are those of `ids`.
    fn infer_by_id(
        &self,
        asked: &Asked,
        ids: &[String],
        overrides: &Features,
    ) -> Result<Answer, Refusal>;

    /// Scores given features. A feature that is not given is NULL.
    fn infer_features(&self, asked: &Asked, rows: &Features) -> Result<Answer, Refusal>;
}

/// Which model was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name; the server has checked that it is there.
    pub model: String,
    /// Its version; without it, the one in charge. One of [`ModelInfo::versions`].
    pub version: Option<u64>,
}

/// What is known of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name in the pipeline.
    pub name: String,
    /// The component that scores, `logistic_regression` for example.
    pub kind: String,
    /// The versions that can be asked for, oldest first.
    pub versions: Vec<u64>,
    /// The version in charge; nothing before the first.
    pub current: Option<u64>,
    /// The features that it reads, in order.
    pub features: Vec<(String, DataType)>,
}

/// Values of features, by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Rows; every column has so many values.
    pub rows: usize,
    /// Name and values; each name once, in the order of the request.
    pub columns: Vec<(String, Vec<Value>)>,
}

/// Scores, and what they were made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One for each row asked, in the same order.
    pub scores: Vec<f64>,
    /// The version that scored.
    pub version: u64,
    /// The epoch as of which it scored.
    pub epoch: u64,
    /// The event time up to which features are complete.
    pub as_of: Micros,
    /// The degraded mode, `warming_up` for example; nothing when all is well.
    pub degraded: Option<String>,
}

/// Why there is no score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No row of the spine has this id, or it is held no longer: 404.
    UnknownId(String),
    /// What was asked makes no sense, a feature of the wrong type for example: 400.
    Invalid(String),
    /// Not now, before the first version for example; trying again may help: 503.
    Unavailable(String),
}
