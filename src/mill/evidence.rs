//! Trials as others see them: how far each has come, and the evidence as it grows.

use serde::Serialize;
use tidemill_operators::evaluate::sequential::Evidence;
use tidemill_types::Micros;

use super::Mill;
use super::models::State;

/// Points of the growth of a trial's evidence; when there are more, every second one goes.
pub const POINTS: usize = 120;

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnTrial {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// The version that it is compared with.
    pub against: u64,
    /// `shadow`, `canary` or `probation`.
    pub stage: &'static str,
    /// The share of the keys that it serves.
    pub share: f64,
    /// When this stage began, in event time.
    pub since: Micros,
    /// Rows compared.
    pub rows: u64,
    /// Mean paired difference of the losses, in nats; below 0 it is the better one.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// What it takes to be found better, and worse: a capital of a gambler who begins with 1.
    pub bounds: (f64, f64),
    /// Rows, and the capitals of who bets on better and on worse; the newest last.
    pub growth: Vec<(u64, f64, f64)>,
}

impl OnTrial {
    /// Takes what the test says now, and goes on from what was shown of the same trial before.
    fn grow(&mut self, before: Option<&OnTrial>, evidence: &Evidence) {
        let same = before.filter(|b| (b.version, b.against) == (self.version, self.against));
        // A test that has begun anew, for another stage, has fewer rows.
        self.growth = same.map_or_else(Vec::new, |before| before.growth.clone());
        self.growth.retain(|(rows, ..)| *rows < evidence.rows);
        if self.growth.len() >= POINTS {
            let mut n = 0;
            self.growth.retain(|_| {
                n += 1;
                n % 2 == 1
            });
        }
        self.growth.push((evidence.rows, evidence.better, evidence.worse));
    }
}

impl Mill {
    /// Lets others see the trials, where anybody may ask.
    pub(super) fn show_trials(&self) {
        if self.online.is_none() {
            return;
        }
        let before = self.status.trials();
        let trials = self.models.iter().filter_map(|model| {
            let State::Batch(batch) = &model.state else { return None };
            let (trial, plan) = (batch.trial.as_ref()?, model.plan.rollout.as_ref()?);
            let evidence = trial.duel.evidence();
            let mut shown = OnTrial {
                model: model.name.to_string(),
                version: trial.new.number,
                against: trial.old.number,
                stage: trial.stage.name(),
                share: trial.share(plan),
                since: trial.since,
                rows: evidence.rows,
                mean: evidence.mean,
                standard_error: evidence.standard_error,
                bounds: (1.0 / plan.false_promotion, 1.0 / plan.false_abort),
                growth: Vec::new(),
            };
            shown.grow(before.iter().find(|known| known.model == shown.model), &evidence);
            Some(shown)
        });
        self.status.show_trials(trials.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(version: u64) -> OnTrial {
        OnTrial {
            model: "trees".into(),
            version,
            against: 1,
            stage: "shadow",
            share: 0.0,
            since: 0,
            rows: 0,
            mean: 0.0,
            standard_error: 0.0,
            bounds: (100.0, 100.0),
            growth: Vec::new(),
        }
    }

    #[test]
    fn evidence_grows_within_bounds_and_begins_anew_with_another_version() {
        let mut shown: Option<OnTrial> = None;
        for rows in 0..10_000 {
            let better = rows as f64;
            let evidence = Evidence { rows, mean: -0.1, standard_error: 0.1, better, worse: 1.0 };
            let mut next = trial(2);
            next.grow(shown.as_ref(), &evidence);
            // Looked at again without a new row it says the same.
            let mut again = trial(2);
            again.grow(Some(&next), &evidence);
            assert_eq!(again.growth, next.growth);
            assert!(next.growth.len() <= POINTS);
            shown = Some(next);
        }
        let growth = &shown.as_ref().expect("shown").growth;
        assert!(growth.len() > POINTS / 3 && growth[0].0 == 0, "{}", growth.len());
        assert_eq!(growth.last(), Some(&(9_999, 9_999.0, 1.0)));
        assert!(growth.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let evidence =
            Evidence { rows: 3, mean: 0.0, standard_error: 0.0, better: 1.0, worse: 1.0 };
        let mut other = trial(3);
        other.grow(shown.as_ref(), &evidence);
        assert_eq!(other.growth, [(3, 1.0, 1.0)]);
    }
}
