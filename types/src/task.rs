//! A task: what is handed to an executor, a training or a part of a backfill, and what comes back.

use std::collections::BTreeMap;
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
    /// The feature columns, in the order that the model expects: numbers, then categories.
    pub features: Vec<String>,
    /// How many of them are categories.
    pub categories: usize,
    /// Fingerprint of the feature schema.
    pub schema: String,
    /// The seed of all chance.
    pub seed: u64,
    /// When it was triggered, in event time, and by what.
    pub triggered: (Micros, String),
}

/// A part of a backfill: the feature rows of some keys and a range of event time. Its id is a hash of all that
/// decides them, so that no part is computed twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillTask {
    /// What the backfill calls it, `part-3-of-7` for example.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline as it was given.
    pub given: PipelineText,
    /// The program's fingerprint of it: a runner that compiles another one refuses, for its variables of the
    /// environment are others.
    pub fingerprint: String,
    /// Event times: from (inclusive) and to (exclusive), microseconds.
    pub range: (Micros, Micros),
    /// Which part it is, from 0, of how many.
    pub part: (u32, u32),
    /// How far each source is read, so that all parts read the same.
    pub reads: Vec<Reads>,
}

/// A pipeline file with what was changed in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineText {
    /// The file's name, for messages.
    pub name: String,
    /// Its text; variables of the environment are not put in, so that no secret travels.
    pub text: String,
    /// Where the relative paths in it start.
    pub folder: PathBuf,
    /// What `--set` changed.
    pub set: Vec<(String, String)>,
    /// Where the relative paths in those start.
    pub working_folder: PathBuf,
}

/// How far a source is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reads {
    /// The source.
    pub source: String,
    /// Its files: path, length in bytes and XXH3-128 of the bytes, hex.
    pub files: Vec<(PathBuf, u64, String)>,
    /// Of a topic, by partition, the first offset that is read and the first that is not any more.
    pub offsets: BTreeMap<u32, (u64, u64)>,
}

/// What an executor may be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Task {
    /// A training.
    Train(TrainingTask),
    /// A part of a backfill.
    Backfill(BackfillTask),
}

impl Task {
    /// How whoever asks for it calls it.
    pub fn id(&self) -> &str {
        match self {
            Task::Train(task) => &task.id,
            Task::Backfill(task) => &task.id,
        }
    }
}

impl From<TrainingTask> for Task {
    fn from(task: TrainingTask) -> Task {
        Task::Train(task)
    }
}

impl From<BackfillTask> for Task {
    fn from(task: BackfillTask) -> Task {
        Task::Backfill(task)
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOutcome {
    /// The task's id.
    pub task: String,
    /// The artifact, or why there is none.
    pub result: Result<Artifact, Failure>,
    /// Attempts that came to nothing before, in order, and executors that were passed over.
    pub setbacks: Vec<Setback>,
    /// Wall time of the training in seconds; for people, never for decisions.
    pub seconds: f64,
}

/// What kind of failure it is: it decides whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// The rows: another schema, none at all, labels of one kind only. The same rows fail again.
    Data,
    /// The trainer: an exception, an unknown parameter, another version of a library.
    Code,
    /// The world: a host, a network, a scheduler, a disk. Trying again may help.
    Infra,
    /// More memory than the task was allowed.
    Oom,
    /// It took longer than the task was allowed.
    Timeout,
    /// A person, or the end of the run, gave it up.
    Cancelled,
}

/// Why a task, or one attempt at it, came to nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind it is.
    pub class: FailureClass,
    /// A word for programs, `SCHEMA_MISMATCH` for example.
    pub code: String,
    /// What happened, for people.
    pub message: String,
}

impl Failure {
    /// A failure of this class.
    pub fn new(class: FailureClass, code: &str, message: impl Into<String>) -> Failure {
        Failure { class, code: code.to_string(), message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::new(FailureClass::Code, "TRAINING_FAILED", message)
    }
}

/// An attempt that came to nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setback {
    /// The executor, as the pipeline names it.
    pub executor: String,
    /// Which attempt; 0 if it was passed over without one.
    pub attempt: u32,
    /// Why.
    #[serde(flatten)]
    pub failure: Failure,
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

/// The version of the forms below; a runner refuses another.
pub const PROTOCOL: u32 = 1;

/// `task.json`: everything that a runner on another machine needs to know. Written once.
///
/// The id is a hash of what decides the outcome: the trainer with its parameters and seed, the code that
/// runs it, which rows and columns are read, and the bytes that hold them. What merely says how it is to
/// be run (deadline, memory, heartbeat) is not in it, so that a change there does not train again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFile {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Hex, 32 digits; also the name of the task's folder.
    pub task_id: String,
    /// `train` or `backfill`.
    pub kind: String,
    /// What is asked for.
    pub task: Task,
    /// Identity of the code that is to run it: a runner of other code refuses.
    pub code: Option<String>,
    /// The files to read, in order.
    pub inputs: Vec<Input>,
    /// How it is to be run.
    pub limits: Limits,
    /// Where it comes from.
    pub lineage: TaskLineage,
}

/// One file of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Relative to the run's folder, which is two folders above that of `task.json`.
    pub path: PathBuf,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Fingerprint of the feature schema, as the file's metadata has it.
    pub schema_fingerprint: String,
    /// Label times in the file: first and last, RFC 3339.
    pub labels: (String, String),
    /// Offsets up to which each source and partition was read, `source/partition` to offset.
    pub offsets: serde_json::Value,
}

/// How a task is to be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// An attempt that takes longer is given up.
    pub deadline_s: f64,
    /// How often a runner shows that it lives.
    pub heartbeat_s: f64,
    /// Cores: also the number of threads that a trainer uses. No result depends on it.
    pub cpus: u32,
    /// GPUs to ask a cluster for.
    pub gpus: u32,
    /// A runner that takes more resident memory ends itself.
    pub memory_mb: u64,
}

/// Where a task comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskLineage {
    /// The id under which the journal has it.
    pub request: String,
    /// What triggered it, and when in event time (RFC 3339).
    pub trigger: (String, String),
    /// The version of Tidemill that asked for it.
    pub tidemill: String,
}

/// `attempt-N/heartbeat.json`, replaced so often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts from 1.
    pub beat: u64,
    /// Seconds since the attempt began.
    pub seconds: f64,
    /// The largest resident memory so far.
    pub peak_mb: f64,
    /// `reading`, `training` or `writing`.
    pub phase: String,
}

/// `attempt-N/result.json`, and `result.json` once the attempt was accepted. Written once each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Of which task.
    pub task_id: String,
    /// By which attempt.
    pub attempt: u32,
    /// The component that reads the artifact.
    pub kind: String,
    /// SHA-256 of the artifact, hex: its name among the blobs.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Rows learnt.
    pub rows: u64,
    /// Measures taken by the trainer, by name.
    pub metrics: Vec<(String, f64)>,
    /// What it took.
    pub usage: Usage,
    /// What made it: interpreter, libraries and their versions.
    pub environment: serde_json::Value,
}

/// What an attempt took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall time.
    pub wall_s: f64,
    /// Processor time, of all threads.
    pub cpu_s: f64,
    /// The largest resident memory.
    pub peak_mb: f64,
}

/// Exit codes of a runner.
pub mod exit {
    /// It wrote its result.
    pub const DONE: i32 = 0;
    /// It failed, and `failure.json` says why.
    pub const FAILED: i32 = 10;
    /// The deadline passed.
    pub const TIMEOUT: i32 = 11;
    /// Another attempt has the lease.
    pub const FENCED: i32 = 12;
    /// It was given up.
    pub const CANCELLED: i32 = 14;
}
