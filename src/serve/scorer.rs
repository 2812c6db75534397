//! What the server asks of the engine.

use std::sync::Arc;

use serde_json::Value as Json;
use tidemill_types::{DataType, Error, Micros, Value};

/// Scores on request: a read of what the dataflow holds, which changes nothing in it.
///
/// Methods are called from threads of the server, several at a time; they may block for some
/// milliseconds. A hanging call costs one of [`Options::concurrency`](super::Options) until it returns.
pub trait Scorer: Send + Sync + 'static {
    /// The models that can be asked, in the order of the pipeline file.
    fn metadata(&self) -> Vec<ModelInfo>;

    /// The versions of one of them; nothing if there is no such model. Asked at each request.
    fn state(&self, model: &str) -> Option<ModelState>;

    /// Whether the pipeline has caught up and its champion (or a fallback) can score.
    fn ready(&self) -> bool;

    /// Scores the rows of a question. Cost: below 10 us for one row of some tens of features.
    fn infer(&self, asked: &Asked, question: &Question) -> Result<Answer, Refusal>;

    /// The features of the rows of a question, those named or all.
    fn features(&self, question: &Question, wanted: &[String]) -> Result<FeatureRows, Refusal>;

    /// A row as it was scored, and what its features did. Cost: a score a feature.
    fn explain(&self, id: &str) -> Result<Json, Refusal>;

    /// The last readings of the drift detectors, of one feature or of all.
    fn drift(&self, feature: Option<&str>) -> Json;

    /// The versions of a model, oldest first. Reads the registry from the disk.
    fn history(&self, model: &str) -> Result<Json, Error>;

    /// What names an entity, in the order of its key, and what its rows know.
    fn store(&self) -> StoreInfo;
}

/// What is asked about: rows by id, entities by the columns that name them, or rows as given. Values
/// that are given take the place of those that are held: features as they are, columns of the spine by
/// computing the features that read them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Ids of rows that were scored, if they are asked for.
    pub ids: Option<Vec<String>>,
    /// Features, columns of the spine, and columns that name entities.
    pub given: Features,
    /// All features that the model reads, in one tensor.
    pub matrix: Option<FeatureMatrix>,
    /// The moment as of which the windows of entities are wanted; without it the pipeline's choice.
    pub as_of: Option<Micros>,
}

/// Features of several rows in the order in which a model reads them ([`ModelInfo::features`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureMatrix {
    /// The tensor's name.
    pub name: String,
    /// How many features there are of each row, more than one.
    pub width: usize,
    /// Row by row; NULL is NaN.
    pub values: Vec<f64>,
}

/// Names and types, shared by all requests.
pub type Typed = Arc<[(String, DataType)]>;

/// What can be asked of the feature store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreInfo {
    /// The pipeline.
    pub pipeline: String,
    /// Columns that name an entity; empty where the pipeline names none.
    pub entity: Typed,
    /// Columns of the spine that features read themselves: what may be given on demand.
    pub on_demand: Typed,
    /// All features, lists and maps too.
    pub features: Typed,
    /// Entities held.
    pub entities: usize,
    /// Entities that had to leave for others.
    pub evicted: u64,
}

/// Features of several rows.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRows {
    /// Names and types.
    pub fields: Vec<(String, DataType)>,
    /// Values by feature, then by row.
    pub columns: Vec<Vec<Value>>,
    /// Of each row: the event time of what was held of it; nothing where nothing is held.
    pub times: Vec<Option<Micros>>,
    /// Of each row: whether what was held is older than the pipeline allows.
    pub stale: Vec<bool>,
    /// As of when windows were read; nothing where they are those of the rows held.
    pub windows_at: Option<Micros>,
    /// The event time up to which features are complete.
    pub as_of: Option<Micros>,
}

/// Which model was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name; the server has checked that it is there.
    pub model: String,
    /// Its version; without it, the one in charge. One of [`ModelInfo::versions`].
    pub version: Option<u64>,
}

/// The versions of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelState {
    /// Those that can be asked for, oldest first.
    pub versions: Vec<u64>,
    /// The one in charge; nothing before the first.
    pub current: Option<u64>,
    /// Whether it can score now, by a fallback if need be.
    pub scores: bool,
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
    /// The version that scored the last row.
    pub version: u64,
    /// The version of each row: a canary serves some of the keys.
    pub versions: Vec<u64>,
    /// The epoch as of which it scored.
    pub epoch: u64,
    /// The event time up to which features are complete.
    pub as_of: Micros,
    /// The event time of the oldest features that were looked up; nothing where none were.
    pub features_at: Option<Micros>,
    /// As of when windows were read; nothing where they are those of the rows held.
    pub windows_at: Option<Micros>,
    /// Why not all is well; nothing when it is. `warming_up`: a fallback scored; `unknown_entity`: of
    /// some row nothing was held and features are NULL; `stale_features`: some are older than allowed.
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
