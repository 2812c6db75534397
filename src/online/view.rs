//! The models of a pipeline at one moment, able to score.

use std::sync::Arc;

use tidemill_config::plan::{Fallback, ScorePlan};
use tidemill_operators::learner::Learner;
use tidemill_operators::predictor::{Predictor, Row, probability};
use tidemill_types::Id;

use crate::engine::check::ModelInputs;
use crate::mill::trial::Canary;

/// All models at one moment.
#[derive(Clone, Default)]
pub struct View {
    /// In the order of the plan: a model stands after those whose margin it reads.
    pub models: Vec<ModelView>,
}

/// One of them.
#[derive(Clone)]
pub struct ModelView {
    /// Its name.
    pub name: Arc<str>,
    /// The version in charge; 0 before the first.
    pub version: u64,
    /// Labels that it has learnt, where it learns by itself.
    pub learnt: u64,
    /// Where its inputs come from.
    pub inputs: Arc<ModelInputs>,
    /// What scores.
    pub judge: Judge,
    /// A new version that serves some of the keys.
    pub canary: Option<Canary>,
    /// No version is in charge, because the last one was taken back.
    pub rolled_back: bool,
}

/// What scores.
#[derive(Clone)]
pub enum Judge {
    /// Nothing yet.
    Nobody,
    /// A model that was trained.
    Trained(Arc<dyn Predictor>),
    /// A copy of one that learns.
    Learnt(Arc<dyn Learner>),
}

/// What is served for a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The model; nothing for the constant of a fallback.
    pub model: Option<usize>,
    /// Its version.
    pub version: u64,
    /// The probability.
    pub score: f64,
    /// Whether it is not the champion's.
    pub degraded: bool,
}

/// What is served for these margins: the champion's score, or that of the first fallback that has one.
/// `versions` are those that gave the margins, 0 before a model's first.
pub fn choose(score: &ScorePlan, margins: &[f64], versions: &[u64]) -> Option<Choice> {
    let of = |m: usize, degraded: bool| {
        let version = versions[m];
        let usable = version > 0 && !margins[m].is_nan();
        usable.then(|| Choice { model: Some(m), version, score: probability(margins[m]), degraded })
    };
    of(score.champion, false).or_else(|| {
        score.fallback.iter().find_map(|fallback| match fallback {
            Fallback::Model(m) => of(*m, true),
            Fallback::Constant(p) => {
                Some(Choice { model: None, version: 0, score: *p, degraded: true })
            }
        })
    })
}

impl View {
    /// The margin of every model for a row, NaN where it has none yet, and the versions that gave them.
    /// Without an id, a canary whose share goes by ids serves nobody; without `canaries` none does.
    pub fn margins(
        &self,
        numbers: &[f64],
        categories: &[u64],
        id: Option<&Id>,
        canaries: bool,
    ) -> (Vec<f64>, Vec<u64>) {
        let mut margins = Vec::with_capacity(self.models.len());
        let mut versions = Vec::with_capacity(self.models.len());
        for model in &self.models {
            let inputs = || model.inputs.of(numbers, categories, &margins);
            let canary = model.canary.as_ref().filter(|_| canaries);
            let canary = canary.filter(|c| c.serves(numbers, categories, id));
            let (margin, version) = match (canary, &model.judge) {
                (Some(canary), _) => {
                    (with(&inputs(), |r| canary.predictor.margin(r)), canary.number)
                }
                (_, Judge::Nobody) => (f64::NAN, model.version),
                (_, Judge::Trained(p)) => (with(&inputs(), |r| p.margin(r)), model.version),
                (_, Judge::Learnt(l)) => (with(&inputs(), |r| l.margin(r)), model.version),
            };
            margins.push(margin);
            versions.push(version);
        }
        (margins, versions)
    }

    /// Where a model stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.models.iter().position(|model| *model.name == *name)
    }

    /// The version in charge of a model.
    pub fn version(&self, model: usize) -> u64 {
        self.models.get(model).map_or(0, |model| model.version)
    }
}

fn with((numbers, categories): &(Vec<f64>, Vec<u64>), margin: impl Fn(Row) -> f64) -> f64 {
    margin(Row { numbers, categories })
}
