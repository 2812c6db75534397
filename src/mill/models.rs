//! The models of a pipeline as they stand: what is live, what waits to be promoted, what learns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use tidemill_config::plan::{ModelPlan, PromotePlan};
use tidemill_operators::evaluate::gate::Gate;
use tidemill_operators::learner::{LEARNERS, Learner};
use tidemill_operators::predictor::{PREDICTORS, Predictor, Row};
use tidemill_operators::trainer::TRAINERS;
use tidemill_types::model::ModelVersion;
use tidemill_types::task::TrainingTask;
use tidemill_types::{Error, Id, Micros, Schema};

use super::checks::Measured;
use super::join::Scored;
use super::matrix::Matrix;
use super::sample::Making;
use super::training::Written;
use super::trial::{Canary, KeyFrom, Trial};
use super::trigger::Budget;
use super::watch::Reference;
use crate::engine::check::{ModelInputs, NumberFrom};
use crate::journal::record::Check;

/// One version of a batch model.
#[derive(Clone)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// What scores.
    pub predictor: Arc<dyn Predictor>,
    /// Labels before this time were learnt.
    pub cut: Micros,
    /// The training that made it, among the run's trainings.
    pub training: usize,
    /// A sample of what it was trained on.
    pub reference: Arc<Reference>,
    /// As the registry has it.
    pub manifest: Arc<ModelVersion>,
    /// Bytes of its artifact.
    pub size: u64,
    /// What the gate found of its training set.
    pub checks: Arc<[Check]>,
}

/// A training that has been handed over.
pub struct Running {
    /// The task.
    pub task: TrainingTask,
    /// Rows that it reads.
    pub rows: u64,
    /// The same, among the run's trainings.
    pub training: usize,
    /// When it is deemed to be done; not known of a live run until it is done.
    pub due: Option<Micros>,
    /// Until it is handed over: tells when what it reads is on the disk.
    pub written: Option<Written>,
    /// How far partitions were read when it was triggered.
    pub offsets: Vec<(String, u64)>,
    /// A sample of what it is trained on.
    pub reference: Option<Making>,
}

/// A model that is retrained by tasks.
pub struct Batch {
    /// What serves.
    pub live: Option<Version>,
    /// What waits at the gate.
    pub challenger: Option<(Version, Gate)>,
    /// What is measured of that one.
    pub measured: Measured,
    /// What is on trial.
    pub trial: Option<Trial>,
    /// What waits for the end of that trial.
    pub next: Option<Version>,
    /// Versions that were in charge before, newest last.
    pub line: Vec<Version>,
    /// No version is in charge, because the last one was taken back.
    pub rolled_back: bool,
    /// Who has approved which version.
    pub approvals: BTreeMap<u64, BTreeSet<String>>,
    /// The first version, where the pipeline keeps it for comparison.
    pub frozen: Option<Version>,
    /// The training under way.
    pub running: Option<Running>,
    /// When a training was triggered last.
    pub triggered: Option<Micros>,
    /// What was triggered while a training was under way, or ordered: the newest, and its evidence.
    pub waiting: Option<(String, Vec<(String, f64)>)>,
    /// Labels taken when a training was triggered last.
    pub labels: u64,
    /// How often a training on these labels may still be tried, should the one before have failed.
    pub tries: u8,
    /// What may still be triggered today.
    pub budget: Budget,
    /// Versions made so far.
    pub versions: u64,
    /// The trainer's parameters with all defaults.
    pub parameters: serde_json::Value,
    /// Margins of the rows of the current bundle, by the version that made them.
    cache: Cache,
    /// The same of the first version.
    frozen_cache: Cache,
}

/// A model that learns from every label.
pub struct Online {
    /// What learns.
    pub learner: Box<dyn Learner>,
    /// Versions published so far.
    pub versions: u64,
    /// Labels that the last of them had learnt.
    pub published: u64,
}

/// Either.
pub enum State {
    /// Retrained by tasks.
    Batch(Box<Batch>),
    /// Learns from every label.
    Online(Online),
}

/// A model.
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// As planned.
    pub plan: ModelPlan,
    /// Where its inputs come from.
    pub inputs: ModelInputs,
    /// As it stands.
    pub state: State,
    /// Where the key stands by whose hash a canary is served.
    pub key: Option<KeyFrom>,
    /// Where the features stand that cut its rows into segments.
    pub segments: Vec<KeyFrom>,
}

#[derive(Default)]
struct Cache {
    version: u64,
    from: usize,
    margins: Vec<f64>,
}

impl Model {
    /// A model before its first version.
    ///
    /// # Errors
    /// Only what the static check should have found.
    pub fn new(plan: &ModelPlan, inputs: &ModelInputs, features: &Schema) -> Result<Model, Error> {
        let kind = &plan.section.kind.value;
        let checked = |e: Vec<_>| Error::internal(format!("model {kind} passed the check: {e:?}"));
        let state = if plan.retrain.is_some() {
            let entry = TRAINERS.iter().find(|t| t.name == kind);
            let entry = entry.ok_or_else(|| checked(Vec::new()))?;
            State::Batch(Box::new(Batch {
                live: None,
                challenger: None,
                measured: Measured::default(),
                trial: None,
                next: None,
                line: Vec::new(),
                rolled_back: false,
                approvals: BTreeMap::new(),
                frozen: None,
                running: None,
                triggered: None,
                waiting: None,
                labels: 0,
                tries: 0,
                budget: Budget::default(),
                versions: 0,
                parameters: (entry.parameters)(&plan.section).map_err(checked)?,
                cache: Cache::default(),
                frozen_cache: Cache::default(),
            }))
        } else {
            let entry = LEARNERS.iter().find(|l| l.name == kind);
            let entry = entry.ok_or_else(|| checked(Vec::new()))?;
            let learner = (entry.build)(&plan.section, &inputs.names).map_err(checked)?;
            State::Online(Online { learner, versions: 0, published: 0 })
        };
        let name = Arc::from(plan.name.value.as_str());
        let by = plan.rollout.iter().find_map(|rollout| rollout.by.as_ref());
        let key = by.map(|by| KeyFrom::feature(by.value, features));
        let segments = plan.gate.iter().flat_map(|gate| &gate.segments);
        let segments = segments.map(|at| KeyFrom::feature(at.value, features)).collect();
        Ok(Model { name, plan: plan.clone(), inputs: inputs.clone(), state, key, segments })
    }

    /// The version that serves now; 0 before the first.
    pub fn version(&self) -> u64 {
        match &self.state {
            State::Batch(batch) => batch.live.as_ref().map_or(0, |v| v.number),
            // Without `publish` nobody else is given versions, and it serves from its first label on.
            State::Online(online) if self.plan.publish.is_none() => {
                u64::from(online.learner.learnt() > 0)
            }
            State::Online(online) => online.versions,
        }
    }

    /// Forgets the margins of the last bundle.
    pub fn new_bundle(&mut self) {
        if let State::Batch(batch) = &mut self.state {
            (batch.cache, batch.frozen_cache) = <_>::default();
        }
    }

    /// The margin of a row of a bundle, NaN before the first version, and the version that gives it: the
    /// one in charge, or a canary. `margins` are those of the models before this one. Without an id, a
    /// canary whose share goes by ids serves nobody.
    pub fn margin(
        &mut self,
        rows: &Matrix,
        row: usize,
        margins: &[f64],
        id: Option<&Id>,
    ) -> (f64, u64) {
        let (numbers, categories) = (rows.numbers(row), rows.categories(row));
        if let Some(canary) = self.canary().filter(|c| c.serves(numbers, categories, id)) {
            let (numbers, categories) = self.inputs.of(numbers, categories, margins);
            let inputs = Row { numbers: &numbers, categories: &categories };
            return (canary.predictor.margin(inputs), canary.number);
        }
        let version = self.version();
        (self.margin_in_charge(rows, row, margins), version)
    }

    /// What serves beside the version in charge, if anything does.
    pub fn canary(&self) -> Option<Canary> {
        let State::Batch(batch) = &self.state else { return None };
        batch.trial.as_ref()?.canary(self.plan.rollout.as_ref()?, self.key)
    }

    /// Whether no version is in charge because the last one was taken back.
    pub fn rolled_back(&self) -> bool {
        matches!(&self.state, State::Batch(batch) if batch.rolled_back)
    }

    fn margin_in_charge(&mut self, rows: &Matrix, row: usize, margins: &[f64]) -> f64 {
        let Model { inputs, state, .. } = self;
        match state {
            State::Online(online) => {
                let (numbers, categories) =
                    inputs.of(rows.numbers(row), rows.categories(row), margins);
                online.learner.margin(Row { numbers: &numbers, categories: &categories })
            }
            State::Batch(batch) => match &batch.live {
                None => f64::NAN,
                Some(live) if inputs.is_everything(rows.width, rows.depth) => {
                    batch.cache.margin(live, rows, row)
                }
                Some(live) => {
                    let (numbers, categories) =
                        inputs.of(rows.numbers(row), rows.categories(row), margins);
                    live.predictor.margin(Row { numbers: &numbers, categories: &categories })
                }
            },
        }
    }

    /// The margin that a version gives to a row that was scored before.
    pub fn margin_of(&self, version: &Version, row: &Scored) -> f64 {
        let (numbers, categories) = self.inputs.of(&row.numbers, &row.categories, &row.margins);
        version.predictor.margin(Row { numbers: &numbers, categories: &categories })
    }

    /// The margin that the first version gives to a row of a bundle, where the pipeline keeps it; NaN
    /// before it is there.
    pub fn frozen_margin(&mut self, rows: &Matrix, row: usize, margins: &[f64]) -> f64 {
        let Model { inputs, state: State::Batch(batch), .. } = self else { return f64::NAN };
        match &batch.frozen {
            None => f64::NAN,
            Some(frozen) if inputs.is_everything(rows.width, rows.depth) => {
                batch.frozen_cache.margin(frozen, rows, row)
            }
            Some(frozen) => {
                let (numbers, categories) =
                    inputs.of(rows.numbers(row), rows.categories(row), margins);
                frozen.predictor.margin(Row { numbers: &numbers, categories: &categories })
            }
        }
    }

    /// When a training was triggered last.
    pub fn triggered(&self) -> Option<Micros> {
        match &self.state {
            State::Batch(batch) => batch.triggered,
            State::Online(_) => None,
        }
    }

    /// The margins of challenger and champion for a row that neither was trained on.
    /// `m` is this model's place among the models.
    pub fn contest(&self, m: usize, row: &Scored, labelled: Micros) -> Option<(f64, f64)> {
        let State::Batch(batch) = &self.state else { return None };
        let (challenger, _) = batch.challenger.as_ref()?;
        let champion = batch.live.as_ref()?;
        let fresh = labelled >= challenger.cut && labelled >= champion.cut;
        let scored_by = row.versions.get(m).copied().unwrap_or(0);
        let champions = || match scored_by == champion.number {
            true => row.margins[m],
            false => self.margin_of(champion, row),
        };
        fresh.then(|| (self.margin_of(challenger, row), champions()))
    }

    /// Lets an online model learn a row.
    pub fn learn(&mut self, row: &Scored, label: f64) {
        let Model { inputs, state, .. } = self;
        if let State::Online(online) = state {
            let (numbers, categories) = inputs.of(&row.numbers, &row.categories, &row.margins);
            online.learner.learn(Row { numbers: &numbers, categories: &categories }, label);
        }
    }

    /// Reads an artifact that a training made.
    ///
    /// # Errors
    /// An artifact of another kind or for other inputs.
    pub fn load(&self, kind: &str, bytes: &[u8]) -> Result<Arc<dyn Predictor>, String> {
        let entry = PREDICTORS.iter().find(|p| p.name == kind);
        let entry = entry.ok_or_else(|| format!("nothing here reads artifacts of kind {kind}"))?;
        (entry.load)(bytes, &self.inputs.names).map(Arc::from)
    }

    /// A gate for a challenger of this model.
    pub fn gate(promote: &PromotePlan) -> Gate {
        Gate::new(promote.last, promote.min_rows, promote.margin)
    }
}

/// Rows whose margins are computed on one core before another may help.
const CHUNK: usize = 256;

impl Cache {
    /// Walks the trees for the rest of the bundle at once when the version has changed.
    fn margin(&mut self, live: &Version, rows: &Matrix, row: usize) -> f64 {
        if self.version != live.number || row < self.from {
            let numbers = rows.numbers[row * rows.width..].par_chunks(CHUNK * rows.width.max(1));
            let categories =
                rows.categories[row * rows.depth..].par_chunks(CHUNK * rows.depth.max(1));
            let rest = rows.times.len() - row;
            let margins = |chunk: usize, numbers: &[f64], categories: &[u64]| {
                let mut margins = Vec::with_capacity(CHUNK);
                let n = CHUNK.min(rest - chunk * CHUNK);
                live.predictor.margins(n, numbers, categories, &mut margins);
                margins
            };
            let chunks: Vec<Vec<f64>> = match (rows.width, rows.depth) {
                (0, _) => categories.enumerate().map(|(i, c)| margins(i, &[], c)).collect(),
                (_, 0) => numbers.enumerate().map(|(i, n)| margins(i, n, &[])).collect(),
                _ => numbers
                    .zip(categories)
                    .enumerate()
                    .map(|(i, (n, c))| margins(i, n, c))
                    .collect(),
            };
            self.margins = chunks.concat();
            (self.version, self.from) = (live.number, row);
        }
        self.margins[row - self.from]
    }
}

impl ModelInputs {
    /// Whether the inputs are all features in order, so that a bundle's rows are inputs as they are.
    fn is_everything(&self, width: usize, depth: usize) -> bool {
        let numbers = self.numbers.iter().enumerate().all(|(i, n)| *n == NumberFrom::Feature(i));
        let categories = self.categories.iter().enumerate().all(|(i, c)| i == *c);
        numbers && categories && self.numbers.len() == width && self.categories.len() == depth
    }

    /// One row of inputs.
    pub fn of(&self, numbers: &[f64], categories: &[u64], margins: &[f64]) -> (Vec<f64>, Vec<u64>) {
        let number = |from: &NumberFrom| match from {
            NumberFrom::Feature(i) => numbers[*i],
            NumberFrom::Margin(m) => margins[*m],
        };
        (
            self.numbers.iter().map(number).collect(),
            self.categories.iter().map(|c| categories[*c]).collect(),
        )
    }
}
