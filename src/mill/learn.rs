//! Labels land: rows are learnt from, judged, and kept for trainings.

use std::sync::Arc;

use tidemill_config::plan::Plan;
use tidemill_operators::dataflow::Labels;
use tidemill_operators::evaluate::log_loss::{log_loss, log_loss_of_margin};
use tidemill_operators::predictor::probability;
use tidemill_types::{Error, Micros};

use super::join::{Joined, Scored};
use super::models::{Model, State};
use super::{Landed, Mill};

/// Those who are judged: what was served, every model, first versions that are kept, and the base
/// rate.
pub fn contenders(plan: &Plan) -> Vec<String> {
    let Some(score) = &plan.score else { return Vec::new() };
    let mut names = vec!["served".to_string()];
    names.extend(plan.models.iter().map(|model| match &model.retrain {
        Some(_) => format!("{} (retrained)", model.name.value),
        None => format!("{} (online)", model.name.value),
    }));
    names.extend(score.freeze.map(|m| format!("{} (first version)", plan.models[m].name.value)));
    names.push("base rate".to_string());
    names
}

impl Mill {
    /// Labels came out of the dataflow; NULL is no label.
    pub(super) fn land(&mut self, labels: Labels) {
        let Labels { label, times, ids, values } = labels;
        let all = times.into_iter().zip(ids).zip(values).filter(|(_, value)| !value.is_nan());
        self.landed.extend(all.map(|((time, id), value)| Landed { time, id, label, value }));
    }

    /// Learns every label that landed before this time, in (label time, id) order.
    pub(super) fn learn_before(&mut self, now: Micros) -> Result<(), Error> {
        while self.labels.front().is_some_and(|label| label.time < now) {
            let Some(label) = self.labels.pop_front() else { break };
            self.learn_label(label)?;
        }
        Ok(())
    }

    /// Joins a label to its row and learns it.
    pub(super) fn learn_label(&mut self, landed: Landed) -> Result<(), Error> {
        // Whose time was over before this label landed gets none.
        self.time_out_of(landed.label, landed.time)?;
        let joined = self.joins[landed.label].label(&landed.id, landed.time, landed.value);
        joined.map_or(Ok(()), |joined| self.joined(landed.label, joined))
    }

    /// Gives up waiting where the time is over.
    pub(super) fn time_out(&mut self, now: Micros) -> Result<(), Error> {
        (0..self.joins.len()).try_for_each(|label| self.time_out_of(label, now))
    }

    fn time_out_of(&mut self, label: usize, now: Micros) -> Result<(), Error> {
        let over = self.joins[label].time_out(now);
        over.into_iter().try_for_each(|joined| self.joined(label, joined))
    }

    fn joined(&mut self, label: usize, joined: Joined) -> Result<(), Error> {
        let (row, time, value) = match joined {
            Joined::Labelled(row, time, value) => (row, time, value),
            Joined::TimedOut(row) => {
                self.settle_in_trials(label, &row, None);
                return Ok(());
            }
        };
        self.settle_in_trials(label, &row, Some(value));
        self.judge_row(label, &row, value)?;
        for m in 0..self.models.len() {
            if self.models[m].plan.label == label {
                self.learn_row(m, &row, time, value);
            }
        }
        match &mut self.training[label] {
            Some(training) => training.add(row, time, value),
            None => Ok(()),
        }
    }

    /// Compares everybody's score with what happened.
    fn judge_row(&mut self, label: usize, row: &Scored, value: f64) -> Result<(), Error> {
        let Some(score) = &self.compiled.plan.score else { return Ok(()) };
        if self.models[score.champion].plan.label != label {
            return Ok(());
        }
        let happened = value > 0.5;
        let mut scores = Vec::with_capacity(self.models.len() + 3);
        scores.push(row.served);
        let of = |margin: &f64| if margin.is_nan() { f64::NAN } else { probability(*margin) };
        scores.extend(row.margins.iter().map(of));
        scores.extend(score.freeze.map(|_| of(&row.frozen)));
        scores.push(row.base_rate);
        self.judge.add(row.time, happened, &scores);
        self.base.0 += f64::from(u8::from(happened));
        self.base.1 += 1;
        if row.served.is_nan() { Ok(()) } else { self.watch_loss(log_loss(happened, row.served)) }
    }

    /// A model gets to know a labelled row.
    fn learn_row(&mut self, m: usize, row: &Arc<Scored>, time: Micros, value: f64) {
        if let Some(sample) = &mut self.samples[m] {
            sample.offer(row, time, value > 0.5);
        }
        let model = &mut self.models[m];
        if let Some((challenger, champion)) = model.contest(m, row, time) {
            let happened = value > 0.5;
            let Model { segments, state, .. } = &mut *model;
            if let State::Batch(batch) = state {
                batch.measured.add(row, segments, happened, challenger, champion);
                if let Some((_, gate)) = &mut batch.challenger {
                    let loss = |margin| log_loss_of_margin(happened, margin);
                    gate.add(time, loss(challenger), loss(champion));
                }
            }
        }
        model.learn(row, f64::from(u8::from(value > 0.5)));
    }
}
