//! The pipeline as meant: names bound, durations in microseconds, limits set. Expressions are still
//! texts here; `src/engine/check.rs` of the program types them against the schemas.
//!
//! Every part that a later check may refuse carries the span of bytes it was written in ([`At`]),
//! so that each error can show file, line and excerpt ([`crate::diagnostic`]).

use std::ops::Range;
use std::path::PathBuf;

use tidemill_types::{Micros, Schema};

use crate::gate::GatePlan;
use crate::rollout::RolloutPlan;
use crate::section::Section;

mod window;

pub use window::{Edge, Exclude, Frame, MOST_ROWS, MOST_SOURCES, Period, Series, WindowPlan};

/// Something with the place in the pipeline file where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The thing.
    pub value: T,
    /// Bytes of the pipeline file; empty for a default or an override.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// Without a place: a default, or given on the command line.
    pub fn nowhere(value: T) -> At<T> {
        At { value, span: 0..0 }
    }
}

/// A whole pipeline.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[pipeline]`
    pub pipeline: Pipeline,
    /// `[source.*]`, in the order of the file.
    pub sources: Vec<SourcePlan>,
    /// `[windows]`
    pub windows: Vec<WindowPlan>,
    /// `[features]`
    pub features: Vec<FeaturePlan>,
    /// `[label.*]`
    pub labels: Vec<LabelPlan>,
    /// `[executor.*]`
    pub executors: Vec<ExecutorPlan>,
    /// `[model.*]`, sorted so that a model stands after those whose margin it reads.
    pub models: Vec<ModelPlan>,
    /// `[drift.*]`
    pub drifts: Vec<DriftPlan>,
    /// `[score]`; a pipeline without a model has none.
    pub score: Option<ScorePlan>,
    /// `[online]`: what is held for whoever asks for features and scores.
    pub online: Option<OnlinePlan>,
    /// `[sink.*]`
    pub sinks: Vec<SinkPlan>,
    /// `[checkpoint]`; none with `enabled = false`.
    pub checkpoint: Option<CheckpointPlan>,
    /// `[traces]`: where spans go; none are made without it.
    pub traces: Option<TracesPlan>,
}

/// `[checkpoint]`: it never changes a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// `interval`: from one line to the next; default 5 s.
    pub interval: Micros,
    /// `keep`: whole lines that are retained; default 2.
    pub keep: u64,
    /// `store`, `endpoint` and `region`; default the folder `checkpoints`.
    pub store: StorePlan,
}

/// Where checkpoints are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlan {
    /// A folder, relative to the run's.
    Folder(String),
    /// A bucket of S3, or of a server that speaks as it does.
    Bucket(BucketPlan),
}

/// `store = "s3://BUCKET/PREFIX"`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPlan {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with; empty for the whole bucket.
    pub prefix: String,
    /// `endpoint`: `http://` or `https://`, host and port; that of Amazon without.
    pub endpoint: Option<String>,
    /// `region`; from the environment without.
    pub region: Option<String>,
}

/// `[pipeline]`
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `name`: letters, digits, `_` and `-`.
    pub name: At<String>,
    /// `spine`: index into [`Plan::sources`].
    pub spine: At<usize>,
    /// `mode`: `final` (default) or `at_once`.
    pub mode: Mode,
    /// `tick`: the unit of model visibility; default 1 s.
    pub tick: Micros,
    /// `bundle`: ticks to a bundle; without it the engine chooses. It never changes a result.
    pub bundle: Option<u64>,
    /// `max_ahead`: a time further than this beyond the wall clock is refused; default 1 d.
    pub max_ahead: Micros,
    /// `seed` of all chance; default 0.
    pub seed: u64,
    /// `ahead`: rows of a source that may be under way while it is ahead of others in event time; default
    /// 65,536. One with more than 4 KiB of texts, lists and maps counts for several. It never changes a result.
    pub ahead: u64,
}

/// What cuts an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A tick is taken when the watermark has passed it.
    Final,
    /// Rows are scored as they arrive, and features corrected once.
    AtOnce,
}

/// `[source.NAME]`
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// The name in the file.
    pub name: At<String>,
    /// `type` and the component's own keys.
    pub section: Section,
    /// `format`; without it the component chooses (by the file's extension, `json` on Kafka).
    pub format: Option<At<String>>,
    /// `schema`: the declared columns, in the order of the file.
    pub schema: Schema,
    /// `null`: texts that mean NULL in text formats; default `[""]`.
    pub null: Vec<String>,
    /// `timezone` of naive times; default UTC.
    pub timezone: At<String>,
    /// `where`: rows for which this is not true are dropped (they are no errors).
    pub filter: Option<At<String>>,
    /// `columns`: computed ones, each over the declared columns and the computed ones before it.
    pub columns: Vec<(At<String>, At<String>)>,
    /// `event_time`: a declared or computed column of type timestamp.
    pub event_time: At<String>,
    /// `id`: a declared or computed column.
    pub id: Option<At<String>>,
    /// `lateness`: how far a partition's watermark stands behind its largest time; default 0.
    pub lateness: Micros,
    /// `sort`: a bounded reorder buffer before everything else; default none.
    pub sort: Option<Micros>,
    /// `hold`: how long a live source at its end may hold others back; default: for ever.
    pub hold: Option<Micros>,
    /// `idle_after`: after standing at its end so long, a live partition is idle; default 10 s.
    pub idle_after: Micros,
    /// `until`: `"end"` makes a bounded source, `"stopped"` a live one; default: the component's.
    pub until: Option<Until>,
}

/// Where a source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the end as fixed when the run starts.
    End,
    /// When the run is stopped.
    Stopped,
}

/// One of `[features]`.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    /// The feature's name.
    pub name: At<String>,
    /// Its expression.
    pub text: At<String>,
}

/// `[label.NAME]`
#[derive(Clone, Debug)]
pub struct LabelPlan {
    /// The label's name.
    pub name: At<String>,
    /// `over`: index into [`Plan::sources`]; joined to the spine by id.
    pub source: usize,
    /// `value`: an expression over that source, of type bool or a number.
    pub value: At<String>,
    /// `wait`: how long after the spine row's event time a label is awaited.
    pub wait: Micros,
    /// `otherwise`: what counts when none came: nothing ("drop") or a value.
    pub otherwise: Option<f64>,
    /// `settled`: labels count when the wait is over, in the order of their rows, and not when they come.
    pub settled: bool,
}

/// `[model.NAME]`
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// The model's name.
    pub name: At<String>,
    /// `type` and the learner's or trainer's own keys.
    pub section: Section,
    /// `label`: index into [`Plan::labels`].
    pub label: usize,
    /// `inputs`: default every feature.
    pub inputs: Vec<ModelInput>,
    /// Those of them that are named one by one, as indices into [`Plan::features`].
    pub named: Vec<At<usize>>,
    /// `publish`: an online model's state becomes a version so often (event time).
    pub publish: Option<Micros>,
    /// `retrain`; its presence makes this a batch model.
    pub retrain: Option<RetrainPlan>,
    /// `rollout`: how a new version of a batch model comes into charge step by step; without it
    /// `promote` decides at once.
    pub rollout: Option<RolloutPlan>,
    /// `gate`: what a new version of a batch model must pass first.
    pub gate: Option<GatePlan>,
}

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelInput {
    /// Index into [`Plan::features`].
    Feature(usize),
    /// The margin (log-odds) of another model: index into [`Plan::models`].
    Margin(usize),
}

/// `retrain = {...}`, `training = {...}` and `promote = {...}` of a batch model.
#[derive(Clone, Debug)]
pub struct RetrainPlan {
    /// `on = ["every 7d"]`: intervals of event time, counted from 1970-01-01T00:00 (a Thursday).
    pub every: Vec<Micros>,
    /// `on = ["drift.features"]`: indices into [`Plan::drifts`].
    pub drifts: Vec<usize>,
    /// `cooldown`: a drift, new labels or a loss trigger no sooner than this after the last trigger.
    pub cooldown: Micros,
    /// `takes`: how long a training is deemed to take in a bounded replay; default 0.
    pub takes: Micros,
    /// `on = ["labels 20000"]`: so many new labels since the last trigger.
    pub labels: Option<u64>,
    /// `on = ["loss above 0.45"]`: the mean log loss of what was served, over the rows labelled last.
    pub loss: Option<f64>,
    /// `budget`: trainings that may be triggered in a day of event time, by hand or not; default 24.
    pub budget: u64,
    /// `executor`: tried in order, by the size of the task; default `in_process`.
    pub executor: Vec<ExecutorChoice>,
    /// `training.last`: label times from T - last on; default all.
    pub last: Option<Micros>,
    /// `training.max_rows`: at most so many, the newest; default 1,000,000.
    pub max_rows: u64,
    /// `training.min_rows`: fewer are not enough to train; default 1,000.
    pub min_rows: u64,
    /// `promote`
    pub promote: PromotePlan,
}

/// `executor = "here"` or `executor = ["cluster above 500000 rows", "here"]`
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorChoice {
    /// An `[executor.*]`, or a type whose keys all have defaults.
    pub name: At<String>,
    /// For trainings that read more rows than this; 0 for all.
    pub above: u64,
}

/// `[executor.NAME]`
#[derive(Clone, Debug)]
pub struct ExecutorPlan {
    /// The name; `retrain.executor` says it.
    pub name: At<String>,
    /// `type` and the component's own keys.
    pub section: Section,
    /// `fallback`: where a training goes that cannot be run here; the name of an executor. Without one the
    /// training fails and the model stays as it is.
    pub fallback: Option<At<String>>,
}

/// `promote = { when = "not_worse", by = "log_loss", margin = 0.002, last = "7d", min_rows = 2000 }`
#[derive(Clone, Debug)]
pub struct PromotePlan {
    /// `when`: `not_worse` (default) or `always`.
    pub when: Promotion,
    /// `margin`: the mean paired log-loss difference must be below it; default 0.002.
    pub margin: f64,
    /// `last`: rows labelled this long ago or less are compared; default 7 d.
    pub last: Micros,
    /// `min_rows`: with fewer, the gate waits; default 2,000.
    pub min_rows: u64,
}

/// When a new version of a model takes over from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// When the gate's point estimate is below the margin.
    NotWorse,
    /// At once.
    Always,
}

/// `[drift.NAME]`
#[derive(Clone, Debug)]
pub struct DriftPlan {
    /// The name; `retrain.on` says `drift.NAME`.
    pub name: At<String>,
    /// `of`: what is watched.
    pub of: DriftOf,
    /// The features of it that are named one by one, as indices into [`Plan::features`].
    pub named: Vec<At<usize>>,
    /// `detect`: `type` names in the list of detectors, each with its own keys.
    pub detect: Vec<Section>,
    /// `model`: index of the batch model whose training set is the reference; default the only one.
    pub model: Option<usize>,
    /// `reference_rows`: bottom-k by hash of the id; default 10,000.
    pub reference_rows: u64,
    /// `window`: rows of the spine this recent are compared; default 7 d.
    pub window: Micros,
    /// `every`: how often the statistics are read, in event time; default 1 h.
    pub every: Micros,
}

/// What a drift section watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriftOf {
    /// `of = "*"`: every feature and the score; or `of = ["a", "b", "score"]`.
    Inputs {
        /// Indices into [`Plan::features`].
        features: Vec<usize>,
        /// Whether the score is watched too.
        score: bool,
    },
    /// `of = "loss"`: the log loss of what was served, row by row as labels land.
    Loss,
}

/// `[score]`
#[derive(Clone, Debug)]
pub struct ScorePlan {
    /// `champion`: index into [`Plan::models`].
    pub champion: usize,
    /// `challengers`: scored beside it, never served.
    pub challengers: Vec<usize>,
    /// `fallback`: tried in order until the champion has a version; the last one is a constant.
    pub fallback: Vec<Fallback>,
    /// `freeze = "trees"`: the first version of that model is kept for comparison for ever.
    pub freeze: Option<usize>,
    /// `spans = { spring = "2013-03-01/2013-06-01" }`: ranges of event time that the summary judges
    /// apart; the end is not part of a range.
    pub spans: Vec<(String, Micros, Micros)>,
}

/// What is served while the champion cannot be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// Another model.
    Model(usize),
    /// A constant probability.
    Constant(f64),
}

/// `[traces]`: it never changes a result.
#[derive(Clone, Debug)]
pub struct TracesPlan {
    /// `endpoint`: the collector's address, `http://` or `https://`, without `/v1/traces`.
    pub endpoint: String,
    /// `protocol`: how it is spoken to.
    pub protocol: TracesProtocol,
    /// `headers`: what goes with each message, names in small letters.
    pub headers: Vec<(String, String)>,
    /// `ca`: PEM, who signs the certificate of an `https://` endpoint; without it those whom this machine trusts.
    pub ca: Option<PathBuf>,
}

/// The protocols of OTLP (<https://opentelemetry.io/docs/specs/otlp/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracesProtocol {
    /// `http/protobuf`, which the specification recommends.
    HttpProtobuf,
    /// `http/json`.
    HttpJson,
    /// `grpc`.
    Grpc,
}

/// `[online]`: the newest feature row of each entity, for requests.
#[derive(Clone, Debug)]
pub struct OnlinePlan {
    /// `entity`: columns of the spine that together name an entity; one or more.
    pub entity: Vec<At<String>>,
    /// `max_entities`: beyond it the entity that was updated longest ago leaves; default 1,000,000.
    pub max_entities: u64,
    /// `max_age`: features older than this, in event time, are answered as stale; default never.
    pub max_age: Option<Micros>,
    /// `recent`: so many of the newest scored rows can be asked for by id; default 100,000.
    pub recent: u64,
    /// `edge`: where the windows of an entity end that is asked for; default `event_time`.
    pub edge: LeadingEdge,
}

/// Where the windows of an entity end that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeadingEdge {
    /// At the event time of its newest row.
    #[default]
    EventTime,
    /// At the moment of the request, or at one that the request names.
    WallClock,
}

/// `[sink.NAME]`
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// The name in the file.
    pub name: At<String>,
    /// The name of the pipeline.
    pub pipeline: String,
    /// `of`: which stream it takes; default: the stream of its own name.
    pub stream: Stream,
    /// `type` and the component's own keys.
    pub section: Section,
    /// `format`; without it the component chooses.
    pub format: Option<At<String>>,
    /// `columns`: which columns of the stream are written, in this order; all of them without it.
    pub columns: Option<Vec<At<String>>>,
}

/// What may be sent to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// One row per spine row: id, event time, model, version, score, degraded, diff.
    Scores,
    /// One row per spine row: id, event time, every feature, diff.
    Features,
    /// Every new version of every model.
    Models,
    /// Drift alerts.
    Alerts,
    /// Records that could not be used.
    DeadLetters,
    /// Events that came later than the lateness allows.
    Late,
}

impl Stream {
    /// Every stream with the name that a file uses.
    pub const ALL: [(Stream, &'static str); 6] = [
        (Stream::Scores, "scores"),
        (Stream::Features, "features"),
        (Stream::Models, "models"),
        (Stream::Alerts, "alerts"),
        (Stream::DeadLetters, "dead_letters"),
        (Stream::Late, "late"),
    ];

    /// The name that a file uses.
    pub fn name(self) -> &'static str {
        Stream::ALL.iter().find(|(s, _)| *s == self).map_or("", |(_, name)| name)
    }
}
