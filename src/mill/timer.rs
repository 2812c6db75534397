//! How long it takes from the trigger of a training to the first score by what came of it: what nobody sees
//! who looks at a training alone, the writing of its rows, the wait for an executor, the gate and the rollout.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Mill;
use crate::observe::summary::FirstScore;

/// Trainings and versions that have scored nothing yet. One that is turned away is forgotten, and so is what
/// an earlier run triggered.
#[derive(Default)]
pub struct Timer {
    /// By training.
    triggered: BTreeMap<usize, Instant>,
    /// By model and version.
    trained: BTreeMap<(usize, u64), Instant>,
}

impl Timer {
    /// A training was triggered.
    pub fn begin(&mut self, training: usize) {
        self.triggered.insert(training, Instant::now());
    }

    /// It has made a version; or none.
    pub fn ended(&mut self, training: usize, made: Option<(usize, u64)>) {
        let began = self.triggered.remove(&training);
        if let (Some(began), Some(version)) = (began, made) {
            self.trained.insert(version, began);
        }
    }

    /// A version will not serve.
    pub fn forget(&mut self, model: usize, version: u64) {
        self.trained.remove(&(model, version));
    }
}

impl Mill {
    /// A row was scored by these versions of all models.
    pub(super) fn first_scores(&mut self, versions: &[u64]) {
        if self.timer.trained.is_empty() {
            return;
        }
        for (m, version) in versions.iter().enumerate() {
            let Some(began) = self.timer.trained.remove(&(m, *version)) else { continue };
            let (model, seconds) = (self.models[m].name.to_string(), began.elapsed().as_secs_f64());
            self.status.first_score(&model, seconds);
            self.results.first_scores.push(FirstScore { model, version: *version, seconds });
        }
    }
}
