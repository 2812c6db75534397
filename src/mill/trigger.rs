//! What makes a model be trained anew, and how often it may be.

use tidemill_types::time::DAY;
use tidemill_types::{Error, Micros};

use super::Mill;
use super::models::State;

/// Trainings triggered in the day of event time that is under way.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Budget {
    day: i64,
    spent: u64,
}

impl Budget {
    /// Whether another of so many a day is left.
    pub fn allows(&self, now: Micros, most: u64) -> bool {
        self.day != now.div_euclid(DAY) || self.spent < most
    }

    /// Takes one.
    pub fn spend(&mut self, now: Micros) {
        let day = now.div_euclid(DAY);
        self.spent = if self.day == day { self.spent + 1 } else { 1 };
        self.day = day;
    }
}

impl Mill {
    /// Triggers the trainings that were ordered, whose time has come, or whose model has got too many labels or
    /// too bad.
    pub(super) fn keep_schedules(&mut self, before: Micros, now: Micros) -> Result<(), Error> {
        for m in 0..self.models.len() {
            self.trigger_waiting(m, now)?;
            let Some(retrain) = &self.models[m].plan.retrain else { continue };
            if self.knows_all(m) {
                continue;
            }
            let due =
                retrain.every.iter().find(|period| self.comes(**period, before, now)).copied();
            if let Some(period) = due {
                let why = format!("every {}", tidemill_config::units::show_duration(period));
                self.trigger(m, why, Vec::new(), now)?;
            } else if let Some((why, evidence)) = self.called_for(m, now) {
                self.trigger(m, why, vec![evidence], now)?;
            }
        }
        Ok(())
    }

    /// A trigger by what was counted or measured, once the model has cooled down.
    fn called_for(&self, m: usize, now: Micros) -> Option<(String, (String, f64))> {
        let (retrain, State::Batch(batch)) =
            (self.models[m].plan.retrain.as_ref()?, &self.models[m].state)
        else {
            return None;
        };
        let cooled =
            batch.triggered.is_none_or(|last| now.saturating_sub(last) >= retrain.cooldown);
        if !cooled || batch.running.is_some() {
            return None;
        }
        let taken = self.training[self.models[m].plan.label].as_ref().map_or(0, |t| t.taken());
        let fresh = taken - batch.labels;
        if let Some(most) = retrain.labels.filter(|most| fresh >= *most) {
            return Some((format!("labels {most}"), ("new labels".to_string(), fresh as f64)));
        }
        let loss = self.judge.settled_log_loss()?;
        let most = retrain.loss.filter(|most| loss > *most)?;
        Some((format!("loss above {most}"), ("log loss".to_string(), loss)))
    }

    /// From when on, and how many of, the labelled rows will be read again by this model or by another of its
    /// label; nothing while such a one is being trained on them.
    pub(super) fn wanted_of(&self, m: usize, now: Micros) -> Option<(Micros, u64)> {
        let label = self.models[m].plan.label;
        let mut wanted = (now, 0);
        for (other, model) in self.models.iter().enumerate() {
            let (Some(retrain), State::Batch(batch)) = (&model.plan.retrain, &model.state) else {
                continue;
            };
            if model.plan.label != label {
                continue;
            }
            if other != m && batch.running.is_some() {
                return None;
            }
            let oldest = retrain.last.map_or(Micros::MIN, |last| now.saturating_sub(last));
            wanted = (wanted.0.min(oldest), wanted.1.max(retrain.max_rows));
        }
        Some(wanted)
    }

    /// Labelled rows that are known for a training of this model.
    pub(super) fn rows_for(&self, m: usize) -> u64 {
        self.training[self.models[m].plan.label].as_ref().map_or(0, |t| t.rows())
    }

    /// Whether the newest version, or training under way, knows every label there is: another one would learn nothing.
    /// Only a person may want it all the same.
    pub(super) fn knows_all(&self, m: usize) -> bool {
        let State::Batch(batch) = &self.models[m].state else { return false };
        let taken = self.training[self.models[m].plan.label].as_ref().map_or(0, |t| t.taken());
        let over = batch.running.is_some() || batch.tries == 0;
        batch.triggered.is_some() && batch.labels == taken && over
    }

    /// Why a model cannot be trained now.
    pub(super) fn cannot_train(&self, m: usize, now: Micros) -> Option<String> {
        let model = &self.models[m];
        let State::Batch(batch) = &model.state else { return None };
        let retrain = model.plan.retrain.as_ref()?;
        let rows = self.rows_for(m);
        if rows < retrain.min_rows {
            let wanted = retrain.min_rows;
            return Some(format!("{rows} labelled rows are known, and a training wants {wanted}"));
        }
        let most = retrain.budget;
        let spent = !batch.budget.allows(now, most);
        spent.then(|| format!("{most} trainings were triggered today, and no more are allowed"))
    }

    /// Triggers what had to wait, for a training that has ended or for the labels of this tick.
    pub(super) fn trigger_waiting(&mut self, m: usize, now: Micros) -> Result<(), Error> {
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        match batch.waiting.take_if(|_| batch.running.is_none()) {
            Some((why, evidence)) => self.trigger(m, why, evidence, now),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_for_a_day() {
        let mut budget = Budget::default();
        let day = 15_000 * DAY;
        for spent in 0..3 {
            assert!(budget.allows(day + spent, 3));
            budget.spend(day + spent);
        }
        assert!(!budget.allows(day + DAY - 1, 3));
        assert!(budget.allows(day + DAY, 3));
        budget.spend(day + DAY);
        assert!(budget.allows(day + DAY, 2) && !budget.allows(day + DAY, 1));
    }
}
