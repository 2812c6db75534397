//! A version on trial: how far it has come, whom it serves, and what comes next. No clock, no file.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_config::rollout::RolloutPlan;
use tidemill_operators::evaluate::in_order::InOrder;
use tidemill_operators::evaluate::sequential::{Duel, Terms, Verdict};
use tidemill_operators::predictor::Predictor;
use tidemill_types::key::canonical;
use tidemill_types::{DataType, Field, Id, Key, Micros, Schema, Value};

use super::checks::Measured;
use super::join::Scored;
use super::models::Version;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It serves nobody.
    Shadow,
    /// It serves the share of this step.
    Canary(usize),
    /// It is in charge, and compared with the one before.
    Probation,
}

/// A version on trial against the one that it is to take the place of, or has taken.
pub struct Trial {
    /// On trial.
    pub new: Version,
    /// What it is compared with.
    pub old: Version,
    /// How far it has come.
    pub stage: Stage,
    /// When its shadow began.
    pub began: Micros,
    /// When this stage began.
    pub since: Micros,
    /// The test.
    pub duel: Duel,
    /// Labels and margins of new and old, by row.
    pub rows: InOrder<Id, Compared>,
    /// What the gate will judge.
    pub measured: Measured,
    /// What an alert said that ends the trial.
    pub alarm: Option<String>,
}

/// A version on trial that serves a share of the keys.
#[derive(Clone)]
pub struct Canary {
    /// The version.
    pub number: u64,
    /// What scores.
    pub predictor: Arc<dyn Predictor>,
    /// The share, above 0 and up to 1.
    share: f64,
    /// Where the key stands; the row's id if nowhere.
    by: Option<KeyFrom>,
}

impl Canary {
    /// Whether it serves this row. Which keys it serves differs from version to version, so that it is
    /// not always the same ones that try what is new; a key that one step serves is served by the next.
    /// Nobody is served whose key is not known.
    pub fn serves(&self, numbers: &[f64], categories: &[u64], id: Option<&Id>) -> bool {
        let Some(key) = key_of(self.by, numbers, categories, id) else { return false };
        let mut bytes = self.number.to_le_bytes().to_vec();
        bytes.extend_from_slice(&key);
        let place = (Key::of_bytes(&bytes).0 >> 75) as f64 / (1u64 << 53) as f64;
        place < self.share
    }
}

/// A row whose label is known, with the margins of new and old.
pub type Compared = (Arc<Scored>, bool, f64, f64);

/// What comes next.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// Nothing yet.
    Stay,
    /// The stage after this one.
    Enter(Stage),
    /// It takes over.
    Promote,
    /// It is turned away, and somebody is to know.
    Abort(String),
    /// As an abort, but nobody need be woken.
    GiveUp(String),
    /// The one before is put back.
    RollBack(String),
    /// Its probation is over.
    Proven,
}

impl Trial {
    /// One that begins now.
    pub fn new(new: Version, old: Version, stage: Stage, plan: &RolloutPlan, now: Micros) -> Trial {
        let terms = Terms {
            false_promotion: plan.false_promotion,
            false_abort: plan.false_abort,
            margin: plan.margin,
            clip: plan.clip,
        };
        Trial {
            new,
            old,
            stage,
            began: now,
            since: now,
            duel: Duel::new(terms),
            rows: InOrder::default(),
            measured: Measured::default(),
            alarm: None,
        }
    }

    /// The share of the keys that the new version serves beside the old one.
    pub fn share(&self, plan: &RolloutPlan) -> f64 {
        match self.stage {
            Stage::Shadow => 0.0,
            Stage::Canary(step) => plan.canary.get(step).map_or(0.0, |step| step.share),
            Stage::Probation => 1.0,
        }
    }

    /// What serves beside the version in charge, if anything does.
    pub fn canary(&self, plan: &RolloutPlan, by: Option<KeyFrom>) -> Option<Canary> {
        let Stage::Canary(_) = self.stage else { return None };
        let predictor = Arc::clone(&self.new.predictor);
        Some(Canary { number: self.new.number, predictor, share: self.share(plan), by })
    }

    /// The next time at which something may be due by the clock alone.
    pub fn due(&self, plan: &RolloutPlan, clock: Micros) -> Option<Micros> {
        let step = self.since.saturating_add(self.lasts(plan));
        let give_up = self.began.saturating_add(plan.give_up);
        [step, give_up].into_iter().filter(|time| *time > clock).min()
    }

    fn lasts(&self, plan: &RolloutPlan) -> Micros {
        match self.stage {
            Stage::Shadow => plan.shadow,
            Stage::Canary(step) => plan.canary.get(step).map_or(0, |step| step.lasts),
            Stage::Probation => plan.probation,
        }
    }

    /// What comes next at this time; nobody is served before enough people have approved it.
    pub fn turn(&self, plan: &RolloutPlan, now: Micros) -> Turn {
        let passed = |from: Micros, time: Micros| now.saturating_sub(from) >= time;
        let found = self.duel.verdict();
        let probation = self.stage == Stage::Probation;
        let worse = (found == Verdict::Worse).then(|| "it is found worse".to_string());
        if let Some(why) = worse.or_else(|| self.alarm.clone()) {
            return if probation { Turn::RollBack(why) } else { Turn::Abort(why) };
        }
        if probation {
            return if passed(self.since, plan.probation) { Turn::Proven } else { Turn::Stay };
        }
        if passed(self.began, plan.give_up) {
            return Turn::GiveUp("it was found neither better nor worse in time".to_string());
        }
        let rows = self.duel.evidence().rows;
        if !passed(self.since, self.lasts(plan)) || rows < plan.min_rows {
            return Turn::Stay;
        }
        let next = match self.stage {
            Stage::Canary(step) => step + 1,
            _ => 0,
        };
        match (next < plan.canary.len(), found) {
            (true, _) => Turn::Enter(Stage::Canary(next)),
            (false, Verdict::Better) => Turn::Promote,
            (false, _) => Turn::Stay,
        }
    }
}

impl Stage {
    /// As the journal has it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Shadow => "shadow",
            Stage::Canary(_) => "canary",
            Stage::Probation => "probation",
        }
    }
}

/// Where a feature stands in a row as models read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrom {
    /// Among the numbers.
    Number(usize),
    /// Among the categories.
    Category(usize),
}

impl KeyFrom {
    /// Of the feature of this index.
    pub fn feature(index: usize, features: &Schema) -> KeyFrom {
        let text = |field: &&Field| field.data_type == DataType::String;
        let texts = features.fields[..index].iter().filter(text).count();
        match text(&&features.fields[index]) {
            true => KeyFrom::Category(texts),
            false => KeyFrom::Number(index - texts),
        }
    }
}

/// The value of a feature: the bits of a number, the hash of a text.
pub fn value_of(by: KeyFrom, numbers: &[f64], categories: &[u64]) -> u64 {
    match by {
        KeyFrom::Number(i) => numbers[i].to_bits(),
        KeyFrom::Category(i) => categories[i],
    }
}

/// The bytes that a row's share is found by: the value of a feature, or its id.
fn key_of(
    by: Option<KeyFrom>,
    numbers: &[f64],
    categories: &[u64],
    id: Option<&Id>,
) -> Option<Vec<u8>> {
    if let Some(by) = by {
        return Some(value_of(by, numbers, categories).to_le_bytes().to_vec());
    }
    let id = id?;
    let mut bytes = Vec::with_capacity(24);
    let value = match id {
        Id::Int(i) => Value::Int(*i),
        other => Value::Text(other.to_string().into()),
    };
    canonical(&value, &mut bytes);
    Some(bytes)
}
