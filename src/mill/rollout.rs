//! A new version on its way into charge: shadow, canary, probation.
//!
//! In the shadow it scores beside the champion and serves nobody; as a canary it serves a growing
//! share of the keys; in charge it is on probation against the one before. All the while both score
//! the same rows, and a sequential test compares their losses as labels come, in the order of the rows:
//! worse aborts it at once, better lets it take over when its steps are over.

use std::sync::Arc;

use tidemill_config::rollout::RolloutPlan;
use tidemill_operators::evaluate::sequential::Evidence;
use tidemill_types::{Error, Micros};

use super::Mill;
use super::join::Scored;
use super::models::{Batch, Model, State, Version};
use super::trial::{Stage, Trial, Turn};
use crate::journal::record::{Look, Record, Switch};
use crate::observe::summary::Fate;
use crate::report::Step;

/// A capital for people: what is far above any bound needs no digits.
pub fn evidence_told(capital: f64) -> String {
    if capital < 1e4 { format!("{capital:.2}") } else { format!("{capital:.0e}") }
}

/// For people.
fn told(evidence: &Evidence) -> String {
    let Evidence { rows, mean, standard_error, better, worse } = evidence;
    format!(
        "log loss {mean:+.5} (standard error {standard_error:.5}) over {rows} rows, evidence {} for \
         better and {} for worse",
        evidence_told(*better),
        evidence_told(*worse)
    )
}

impl Mill {
    /// A version goes on trial against the one in charge; if another is on trial, it waits.
    pub(super) fn enter_rollout(
        &mut self,
        m: usize,
        version: Version,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let (Some(plan), Some(batch)) = parts(&mut self.models[m]) else { return Ok(()) };
        if batch.trial.is_some() || batch.live.is_none() {
            let why = format!("version {} came before its turn", version.number);
            return match batch.next.replace(version) {
                Some(old) => self.refuse(m, &old, why, epoch, now),
                None => Ok(()),
            };
        }
        let Some(live) = batch.live.clone() else { return Ok(()) };
        batch.trial = Some(Trial::new(version, live, Stage::Shadow, &plan, now));
        self.note_stage(m, "", epoch, now)
    }

    /// The version that has just taken over is watched.
    pub(super) fn enter_probation(
        &mut self,
        m: usize,
        old: Version,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let (Some(plan), Some(batch)) = parts(&mut self.models[m]) else { return Ok(()) };
        let Some(live) = batch.live.clone().filter(|_| plan.probation > 0) else {
            return self.next_trial(m, epoch, now);
        };
        batch.trial = Some(Trial::new(live, old, Stage::Probation, &plan, now));
        self.note_stage(m, "", epoch, now)
    }

    /// Writes down how far the trial has come and on what evidence.
    fn note_stage(&mut self, m: usize, why: &str, epoch: u64, now: Micros) -> Result<(), Error> {
        let name = self.models[m].name.to_string();
        let (Some(plan), Some(batch)) = parts(&mut self.models[m]) else { return Ok(()) };
        let Some(trial) = &batch.trial else { return Ok(()) };
        let evidence = trial.duel.evidence();
        let (number, share) = (trial.new.number, trial.share(&plan));
        let look = Look {
            model: name.clone(),
            version: number,
            against: trial.old.number,
            stage: trial.stage.name().to_string(),
            share,
            epoch,
            event_time: now,
            rows: evidence.rows,
            mean: evidence.mean,
            standard_error: evidence.standard_error,
            better: evidence.better,
            worse: evidence.worse,
            why: why.to_string(),
        };
        let stage = match trial.stage {
            Stage::Canary(_) => format!("canary at {:.0} %", share * 100.0),
            stage => stage.name().to_string(),
        };
        let step = format!("{stage}: {}", told(&evidence));
        self.moment(now, m, Some(number), Step::OnTrial, &step);
        self.ledger.note(Record::Rollout(look))
    }

    /// Lets every trial take its next step.
    pub(super) fn walk_trials(&mut self, epoch: u64, now: Micros) -> Result<(), Error> {
        for m in 0..self.models.len() {
            let (Some(plan), Some(batch)) = parts(&mut self.models[m]) else { continue };
            let Some(trial) = &batch.trial else { continue };
            let turn = trial.turn(&plan, now);
            let shadow = trial.stage == Stage::Shadow;
            let harm = matches!(turn, Turn::Abort(_));
            let (new, old) = (trial.new.clone(), trial.old.clone());
            let why = told(&trial.duel.evidence());
            match turn {
                Turn::Stay => {}
                Turn::Enter(_) | Turn::Promote if shadow && !self.approved(m, new.number) => {}
                Turn::Enter(_) | Turn::Promote if shadow && !self.passes_gate(m, epoch, now)? => {
                    self.next_trial(m, epoch, now)?;
                }
                Turn::Enter(stage) => {
                    if let (_, Some(Batch { trial: Some(trial), .. })) = parts(&mut self.models[m])
                    {
                        (trial.stage, trial.since) = (stage, now);
                    }
                    self.note_stage(m, "", epoch, now)?;
                }
                Turn::Promote => {
                    self.note_stage(m, "it is found better", epoch, now)?;
                    self.promote(m, new, &why, epoch, now)?;
                }
                Turn::Abort(cause) | Turn::GiveUp(cause) => {
                    self.note_stage(m, &cause, epoch, now)?;
                    if harm {
                        self.alarm(m, now)?;
                    }
                    self.end_trial(m);
                    let why = format!("{cause}: {why}");
                    self.refuse(m, &new, why, epoch, now)?;
                    self.next_trial(m, epoch, now)?;
                }
                Turn::RollBack(cause) => {
                    self.note_stage(m, &cause, epoch, now)?;
                    self.alarm(m, now)?;
                    self.roll_back(m, Some(old), &format!("{cause}: {why}"), epoch, now)?;
                }
                Turn::Proven => {
                    self.note_stage(m, "its probation is over", epoch, now)?;
                    self.end_trial(m);
                    self.next_trial(m, epoch, now)?;
                }
            }
        }
        Ok(())
    }

    /// The first version is in charge once enough people have approved it. Where the last one was taken back, a
    /// person decides what comes after it.
    pub(super) fn admit_first(&mut self, m: usize, epoch: u64, now: Micros) -> Result<(), Error> {
        let State::Batch(batch) = &self.models[m].state else { return Ok(()) };
        let open = batch.live.is_none() && !batch.rolled_back;
        let number = batch.next.as_ref().filter(|_| open).map(|v| v.number);
        let approved = number.is_some_and(|number| self.approved(m, number));
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        match batch.next.take_if(|_| approved) {
            Some(first) => self.promote(m, first, "none is in charge", epoch, now),
            None => Ok(()),
        }
    }

    /// Judges the version on trial by what the shadow has shown; one that fails is turned away.
    fn passes_gate(&mut self, m: usize, epoch: u64, now: Micros) -> Result<bool, Error> {
        let gate = self.models[m].plan.gate.clone();
        let State::Batch(batch) = &self.models[m].state else { return Ok(true) };
        let (Some(gate), Some(trial)) = (gate, &batch.trial) else { return Ok(true) };
        let new = trial.new.clone();
        let mut checks = new.checks.to_vec();
        checks.extend(self.model_checks(m, &new, &trial.measured, &gate));
        let Some(why) = self.report(m, &new, checks, epoch)? else { return Ok(true) };
        self.end_trial(m);
        self.refuse(m, &new, why, epoch, now)?;
        Ok(false)
    }

    /// Whoever watches the alerts hears that a version was taken back.
    fn alarm(&mut self, m: usize, now: Micros) -> Result<(), Error> {
        let (_, Some(batch)) = parts(&mut self.models[m]) else { return Ok(()) };
        let Some(trial) = &batch.trial else { return Ok(()) };
        let worse = trial.duel.evidence().worse;
        let said = super::watch::Said::of_rollout(Arc::clone(&self.models[m].name), worse);
        self.emit.alert("rollout", &said, now)
    }

    fn end_trial(&mut self, m: usize) {
        if let State::Batch(batch) = &mut self.models[m].state {
            batch.trial = None;
        }
    }

    /// Ends the trial, for this version is to be in charge; another one that was on its way is turned away.
    pub(super) fn give_way(
        &mut self,
        m: usize,
        to: u64,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        match batch.trial.take() {
            Some(trial) if trial.stage != Stage::Probation && trial.new.number != to => {
                let why = match to {
                    0 => "the version in charge was taken back".to_string(),
                    to => format!("version {to} was put in charge"),
                };
                self.refuse(m, &trial.new, why, epoch, now)
            }
            _ => Ok(()),
        }
    }

    /// The version that waited for its turn has it.
    fn next_trial(&mut self, m: usize, epoch: u64, now: Micros) -> Result<(), Error> {
        let (_, Some(batch)) = parts(&mut self.models[m]) else { return Ok(()) };
        match batch.next.take() {
            Some(next) => self.enter_rollout(m, next, epoch, now),
            None => Ok(()),
        }
    }

    /// Puts a version in charge that was before, or none: then a fallback serves. Whatever was on trial
    /// is over.
    pub(super) fn roll_back(
        &mut self,
        m: usize,
        to: Option<Version>,
        why: &str,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let model = self.models[m].name.to_string();
        let number = to.as_ref().map_or(0, |to| to.number);
        self.give_way(m, number, epoch, now)?;
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        let place = batch.line.iter().position(|v| v.number == number);
        batch.line.truncate(place.unwrap_or(0));
        let from = std::mem::replace(&mut batch.live, to.clone());
        batch.rolled_back = to.is_none();
        if let Some(from) = &from {
            self.results.trainings[from.training].fate = Fate::RolledBack;
        }
        self.results.rollbacks += 1;
        self.moment(now, m, Some(number), Step::RolledBack, why);
        let from = from.map_or(0, |from| from.number);
        let why = why.to_string();
        let switch = Switch { model, from, to: number, epoch, event_time: now, why };
        self.ledger.note(Record::RolledBack(switch))?;
        self.swapped(m, to.as_ref().map(|to| &*to.reference), now);
        if let Some(to) = to {
            self.emit.model(&to.manifest, now)?;
        }
        self.next_trial(m, epoch, now)
    }

    /// A drift has begun, which ends trials that name it. Not that of a canary which was trained for it: until it is
    /// in charge, rows are compared with what the version before was trained on, and most losses are that one's.
    pub(super) fn alarm_trials(&mut self, drift: usize, name: &str, why: &str) {
        let trigger = format!("drift.{name}");
        for model in &mut self.models {
            let (Some(plan), Some(batch)) = parts(model) else { continue };
            let Some(trial) = &mut batch.trial else { continue };
            let serves = match trial.stage {
                Stage::Shadow => false,
                Stage::Canary(_) => trial.new.manifest.lineage.trigger != trigger,
                Stage::Probation => true,
            };
            if plan.abort_on.contains(&drift) && serves {
                trial.alarm.get_or_insert_with(|| why.to_string());
            }
        }
    }

    /// A row was scored: trials wait for its label.
    pub(super) fn expect_in_trials(&mut self, row: &Scored) {
        for model in &mut self.models {
            if let State::Batch(batch) = &mut model.state
                && let Some(trial) = &mut batch.trial
            {
                trial.rows.expect(row.id.clone());
            }
        }
    }

    /// What became of a row's wait for this label.
    pub(super) fn settle_in_trials(&mut self, label: usize, row: &Arc<Scored>, value: Option<f64>) {
        for m in 0..self.models.len() {
            let model = &self.models[m];
            let State::Batch(batch) = &model.state else { continue };
            let Some(trial) = batch.trial.as_ref().filter(|_| model.plan.label == label) else {
                continue;
            };
            if !trial.rows.expects(&row.id) {
                continue;
            }
            let of = |version: &Version| match row.versions.get(m) == Some(&version.number) {
                true => row.margins[m],
                false => model.margin_of(version, row),
            };
            let with =
                value.map(|value| (Arc::clone(row), value > 0.5, of(&trial.new), of(&trial.old)));
            let Model { segments, state: State::Batch(batch), .. } = &mut self.models[m] else {
                continue;
            };
            let Some(trial) = &mut batch.trial else { continue };
            trial.rows.settle(&row.id, with);
            while let Some((row, label, new, old)) = trial.rows.next_settled() {
                trial.duel.add(label, new, old);
                trial.measured.add(&row, segments, label, new, old);
            }
        }
    }
}

/// The rollout and the state of a model that has both.
fn parts(model: &mut Model) -> (Option<RolloutPlan>, Option<&mut Batch>) {
    match &mut model.state {
        State::Batch(batch) => (model.plan.rollout.clone(), Some(batch)),
        State::Online(_) => (None, None),
    }
}
