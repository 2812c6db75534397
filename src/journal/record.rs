//! What is journaled: everything that may change a result and is not in the event log.
//!
//! No record holds a wall-clock time, a host, a worker or a duration, so that two runs over the
//! same log under the same commands write the same bytes.

use serde::{Deserialize, Serialize};
use tidemill_types::Micros;
use tidemill_types::model::ModelVersion;
use tidemill_types::task::{Setback, TrainingTask};

/// The version of the journal's form; a reader refuses a greater one.
pub const FORMAT: u32 = 1;

/// One step of the history of a run, in the order in which it took effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Who writes: the first record, and again after each restart.
    Header(Header),
    /// A partition stood at its end so long that it no longer holds the watermark.
    Idle(Passed),
    /// A source that holds nobody (`hold = "0s"`) was let pass.
    Hold(Passed),
    /// A training was asked for.
    Task {
        /// Everything that decides its outcome.
        task: TrainingTask,
        /// What was seen that triggered it, by name: a statistic, its threshold.
        evidence: Vec<(String, f64)>,
    },
    /// How a training ended. On replay it is taken from here and never trained again.
    Outcome {
        /// The task's id.
        task: String,
        /// The first epoch that knows of it.
        epoch: u64,
        /// The model, or why there is none.
        outcome: Outcome,
        /// Attempts that came to nothing, and executors that were passed over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        setbacks: Vec<Setback>,
    },
    /// A version entered the registry.
    Version {
        /// Its manifest.
        version: ModelVersion,
    },
    /// A look of the gate at a challenger.
    Gate(Gate),
    /// A version took over.
    Promoted(Switch),
    /// A version was turned away for good.
    Refused(Switch),
    /// What the gate found of a version.
    Report(Report),
    /// A version on trial came to a stage, or to its end.
    Rollout(Look),
    /// A version was taken back: `to` is in charge again, or, where it is 0, none.
    RolledBack(Switch),
    /// A version was delivered to a models sink.
    Published {
        /// The model.
        model: String,
        /// Its version.
        version: u64,
        /// The sink's name in the pipeline.
        sink: String,
        /// The epoch from which on it may be used.
        epoch: u64,
    },
    /// What a person asked for; refusals are kept too.
    Command(Command),
    /// What a caller of the service did, or was refused: in the access journal.
    Access {
        /// Who.
        who: String,
        /// What: the method and the path.
        what: String,
        /// Why it was refused; empty if it was not.
        why: String,
        /// Whether it was done.
        allowed: bool,
    },
    /// The input ended, and all that follows from it was decided and handed to the sinks. Where one of them fails after
    /// that, the next run repeats the journal to this record.
    Finished {
        /// Counts by name, sorted by it.
        counts: Vec<(String, u64)>,
    },
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// SHA-256 of the resolved plan, hex.
    pub plan: String,
    /// The version of Tidemill.
    pub build: String,
    /// The CPU architecture, as Rust names it.
    pub cpu: String,
}

impl Header {
    /// The header of this build.
    pub fn new(pipeline: impl Into<String>, plan: impl Into<String>) -> Header {
        Header {
            format: FORMAT,
            pipeline: pipeline.into(),
            plan: plan.into(),
            build: env!("CARGO_PKG_VERSION").into(),
            cpu: std::env::consts::ARCH.into(),
        }
    }
}

/// How far a partition was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The source's name in the pipeline.
    pub source: String,
    /// The partition; 0 for a file.
    pub partition: u32,
    /// The next offset to read.
    pub offset: u64,
}

/// A partition that was let pass, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The first epoch for which it held nobody.
    pub epoch: u64,
    /// The source's name in the pipeline.
    pub source: String,
    /// The partition.
    pub partition: u32,
    /// How far every partition was read then.
    pub offsets: Vec<Position>,
    /// The watermark that was let through.
    pub watermark: Option<Micros>,
}

/// How a training ended; without its wall time, which differs from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A model came out.
    Trained {
        /// SHA-256 of the artifact, hex.
        artifact: String,
        /// The component that reads it.
        kind: String,
        /// Rows learnt.
        rows: u64,
        /// Measures taken by the trainer, by name.
        metrics: Vec<(String, f64)>,
    },
    /// None came out.
    Failed {
        /// Why.
        error: String,
        /// A word for programs.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        code: String,
    },
}

/// A look of the gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The model.
    pub model: String,
    /// The version that asks to take over.
    pub challenger: u64,
    /// The version in charge.
    pub champion: u64,
    /// Mean paired loss difference, challenger minus champion.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Rows compared.
    pub rows: u64,
    /// What came of it.
    pub decision: Decision,
}

/// What the gate made of its look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Too few rows yet.
    Wait,
    /// The challenger takes over.
    Promote,
    /// The challenger is turned away.
    Refuse,
}

/// What the gate found of a version before it served anybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// The epoch at which it was checked.
    pub epoch: u64,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One check of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked: `nulls`, `segment`, `latency`.
    pub name: String,
    /// What was found.
    pub value: f64,
    /// What is allowed.
    pub limit: f64,
    /// Whether it passed.
    pub passed: bool,
    /// Where it was found, for people.
    pub detail: String,
}

/// What a person asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Tells it from every other.
    pub id: String,
    /// Who.
    pub who: String,
    /// Whether their token proved it.
    pub proven: bool,
    /// What: `rollback trees 3`.
    pub what: String,
    /// Why, in their words.
    pub why: String,
    /// The first epoch for which it holds.
    pub epoch: u64,
    /// The event time at which it was taken up.
    pub event_time: Micros,
    /// Why it was not carried out; nothing if it was.
    pub refused: Option<String>,
}

/// A version on trial, and the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The model.
    pub model: String,
    /// The version on trial.
    pub version: u64,
    /// The version that it is compared with.
    pub against: u64,
    /// `shadow`, `canary` or `probation`.
    pub stage: String,
    /// The share of the keys that it serves.
    pub share: f64,
    /// The first epoch for which this holds.
    pub epoch: u64,
    /// The event time at which it was decided.
    pub event_time: Micros,
    /// Labelled rows compared.
    pub rows: u64,
    /// Mean loss of the version less that of the other.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The capital of the one who bets that it is better: evidence that may be read at any time.
    pub better: f64,
    /// The same for worse.
    pub worse: f64,
    /// What ended the trial; empty while it goes on.
    pub why: String,
}

/// From which version to which, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The model.
    pub model: String,
    /// The version in charge before; 0 if there was none.
    pub from: u64,
    /// The version that takes over, or was turned away.
    pub to: u64,
    /// The first epoch for which this holds.
    pub epoch: u64,
    /// The event time at which it was decided.
    pub event_time: Micros,
    /// Why, for people.
    pub why: String,
}
