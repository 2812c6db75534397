//! Trainings are triggered, taken up when they are due, compared at the gate, and take over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_config::plan::Promotion;
use tidemill_operators::evaluate::gate;
use tidemill_types::model::{Lineage, ModelVersion};
use tidemill_types::schema::hex;
use tidemill_types::task::{Artifact, Failure, Setback, TaskOutcome, TrainingTask};
use tidemill_types::time::to_rfc3339;
use tidemill_types::{Error, Micros};

use super::Mill;
use super::models::{Model, Running, State, Version};
use super::watch::Reference;
use crate::journal::record::{Decision, Gate, Outcome, Record, Switch};
use crate::models::history::KEPT;
use crate::observe::summary::{Fate, Retraining};
use crate::report::{Moment, Step};

/// How often schedules and drifts may have a model trained on the same labels, where that fails.
const TRIES: u8 = 3;

/// How often a wait for a training looks whether the run is to stop.
const LOOK: Duration = Duration::from_millis(100);

impl Mill {
    /// Hands a training over, unless there are too few rows or the day's budget is spent. While an
    /// earlier one is under way the trigger waits, and a newer one takes its place.
    pub(super) fn trigger(
        &mut self,
        m: usize,
        why: String,
        evidence: Vec<(String, f64)>,
        now: Micros,
    ) -> Result<(), Error> {
        let model = &self.models[m];
        let (Some(retrain), State::Batch(batch)) = (model.plan.retrain.clone(), &model.state)
        else {
            return Ok(());
        };
        if self.cannot_train(m, now).is_some() {
            return Ok(());
        }
        let widest = self.wanted_of(m, now);
        let Some(training) = &mut self.training[model.plan.label] else { return Ok(()) };
        if batch.running.is_some() {
            // What is under way since this very moment knows all that another training could learn.
            if batch.triggered != Some(now)
                && let State::Batch(batch) = &mut self.models[m].state
            {
                batch.waiting = Some((why, evidence));
            }
            return Ok(());
        }
        let (taken, rows) = (training.taken(), training.rows().min(retrain.max_rows));
        let oldest = retrain.last.map_or(Micros::MIN, |last| now.saturating_sub(last));
        if let Some((oldest, most)) = widest {
            training.forget(oldest, most);
        }
        let names = &model.inputs.names;
        let (data, written) = training.files()?;
        let mut task = TrainingTask {
            id: String::new(),
            model: model.name.to_string(),
            trainer: model.plan.section.kind.value.clone(),
            parameters: batch.parameters.clone(),
            data,
            labels: (oldest, now),
            max_rows: retrain.max_rows,
            features: names.numbers.iter().chain(&names.categories).cloned().collect(),
            categories: names.categories.len(),
            schema: self.compiled.program.feature_schema.fingerprint(),
            seed: self.compiled.plan.pipeline.seed,
            triggered: (now, why.clone()),
        };
        task.id = hex(&Sha256::digest(json!(task).to_string()))[..32].to_string();
        self.ledger.note(Record::Task { task: task.clone(), evidence })?;
        let written = self.ledger.outcome(&task.id).is_none().then_some(written);
        let reference = self.samples[m].as_mut().map(|s| s.take(oldest, retrain.max_rows));
        self.moment(now, m, None, Step::Triggered, &why);
        self.results.trainings.push(Retraining {
            model: task.model.clone(),
            version: None,
            triggered_at: now,
            trigger: why,
            rows: 0,
            seconds: 0.0,
            metrics: Vec::new(),
            fate: Fate::Waiting,
        });
        let offsets = self.offsets.through(now.saturating_sub(1));
        let due = (!self.live).then(|| now.saturating_add(retrain.takes));
        let training = self.results.trainings.len() - 1;
        if written.is_some() {
            self.timer.begin(training);
        }
        if let State::Batch(batch) = &mut self.models[m].state {
            batch.triggered = Some(now);
            let tries = if batch.labels == taken { batch.tries } else { TRIES };
            (batch.labels, batch.tries) = (taken, tries.saturating_sub(1));
            batch.budget.spend(now);
            batch.running =
                Some(Running { task, rows, written, training, due, offsets, reference });
        }
        self.submit(m, now)
    }

    /// Takes up the trainings that are due; waits for one that is slower than it is deemed to be.
    pub(super) fn take_outcomes(&mut self, epoch: u64, now: Micros) -> Result<(), Error> {
        for m in 0..self.models.len() {
            self.submit(m, now)?;
            let State::Batch(batch) = &self.models[m].state else { continue };
            let Some(running) = &batch.running else { continue };
            if running.due.is_some_and(|due| due > now) {
                continue;
            }
            let (task, wait) = (running.task.id.clone(), running.due.is_some());
            let known = self.ledger.outcome(&task).cloned();
            let outcome = match known {
                Some((since, _)) if since > epoch => None,
                Some((_, outcome)) => {
                    let result = self.ledger.artifact(&self.models[m].name, &outcome)?;
                    let setbacks = self.ledger.setbacks(&task);
                    Some(TaskOutcome { task, result, setbacks, seconds: 0.0 })
                }
                // It had not ended when rows of this epoch were scored.
                None if !wait && epoch < self.repeated => None,
                None => self.outcome(m, wait),
            };
            if let Some(outcome) = outcome {
                self.take_up(m, outcome, epoch, now)?;
                self.trigger_waiting(m, now)?;
            }
        }
        Ok(())
    }

    /// Hands the training over once its rows are on the disk. In a replay nobody waits for that before
    /// the training is due.
    fn submit(&mut self, m: usize, now: Micros) -> Result<(), Error> {
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        let Some(running) = &mut batch.running else { return Ok(()) };
        let Some(written) = running.written.take() else { return Ok(()) };
        let began = self.host.now();
        if !written.look(running.due.is_none_or(|due| due <= now))? {
            running.written = Some(written);
            return Ok(());
        }
        self.results.waited += self.host.since(began);
        match self.executors.get_mut(&m) {
            Some(executor) => executor.submit(running.task.clone(), running.rows),
            None => Ok(()),
        }
    }

    /// The outcome of the training under way.
    fn outcome(&mut self, m: usize, wait: bool) -> Option<TaskOutcome> {
        let executor = self.executors.get_mut(&m)?;
        if !wait {
            return executor.finished().pop();
        }
        let began = self.host.now();
        loop {
            let outcome = executor.wait(LOOK).pop();
            if outcome.is_some() || self.stop.load(Ordering::Relaxed) {
                self.stopped |= outcome.is_none();
                self.results.waited += self.host.since(began);
                return outcome;
            }
        }
    }

    /// A training has ended: its model waits at the gate, or takes over if there is none before it.
    fn take_up(
        &mut self,
        m: usize,
        outcome: TaskOutcome,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        let Some(running) = batch.running.take() else { return Ok(()) };
        self.results.trainings[running.training].seconds = outcome.seconds;
        self.status.trained(&self.models[m].name, outcome.seconds);
        let setbacks = outcome.setbacks;
        if let Some(last) = setbacks.last() {
            let model = self.models[m].name.to_string();
            self.emit.training(&model, &last.failure.code, "warning", setbacks.len(), now)?;
        }
        let loaded = outcome.result.and_then(|artifact| {
            let predictor = self.models[m].load(&artifact.kind, &artifact.bytes)?;
            Ok((artifact, predictor))
        });
        let (artifact, predictor) = match loaded {
            Ok(loaded) => loaded,
            Err(failure) => {
                self.timer.ended(running.training, None);
                return self.failed(m, running, failure, setbacks, epoch, now);
            }
        };
        let Artifact { kind, rows, metrics, bytes } = artifact;
        let size = bytes.len() as u64;
        let hash = self.ledger.store(&self.models[m].name, bytes)?;
        self.ledger.note(Record::Outcome {
            task: running.task.id.clone(),
            epoch,
            outcome: Outcome::Trained {
                artifact: hash.clone(),
                kind: kind.clone(),
                rows,
                metrics: metrics.clone(),
            },
            setbacks,
        })?;
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        batch.versions += 1;
        batch.tries = 0;
        let number = batch.versions;
        self.timer.ended(running.training, Some((m, number)));
        let retraining = &mut self.results.trainings[running.training];
        retraining.version = Some(number);
        (retraining.rows, retraining.metrics) = (rows, metrics.clone());
        let task = running.task;
        let mut reference = running.reference.map(|r| r.ready()).unwrap_or_default();
        if self.is_own_measure(m) {
            // Those that were served for these rows are of versions before it.
            reference =
                Arc::new(Reference { scores: Vec::new(), ..Arc::unwrap_or_clone(reference) });
        }
        let manifest = ModelVersion {
            model: self.models[m].name.to_string(),
            version: number,
            kind,
            artifact: hash,
            since: now,
            lineage: Lineage {
                tidemill: env!("CARGO_PKG_VERSION").to_string(),
                schema: task.schema,
                task: task.id,
                trigger: task.triggered.1.clone(),
                rows,
                labels: task.labels,
                offsets: running.offsets,
                seed: task.seed,
            },
            metrics,
        };
        self.ledger.register(&manifest)?;
        let version = Version {
            number,
            predictor,
            cut: task.labels.1,
            training: running.training,
            reference,
            manifest: Arc::new(manifest),
            size,
            checks: [].into(),
        };
        self.moment(now, m, Some(number), Step::Trained, &task.triggered.1);
        self.at_the_gate(m, version, epoch, now)
    }

    fn at_the_gate(
        &mut self,
        m: usize,
        mut version: Version,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        if let Some(gate) = self.models[m].plan.gate.clone() {
            version.checks = self.data_checks(m, &version, &gate).into();
            let first = self.models[m].version() == 0;
            // The others are reported on when their scores are judged too.
            if first || version.checks.iter().any(|check| !check.passed) {
                let failed = self.report(m, &version, version.checks.to_vec(), epoch)?;
                if let Some(why) = failed {
                    return self.refuse(m, &version, why, epoch, now);
                }
            }
        }
        let approved = self.approved(m, version.number);
        let keep = self.compiled.plan.score.as_ref().and_then(|s| s.freeze) == Some(m);
        let Model { plan, state, .. } = &mut self.models[m];
        let (Some(retrain), State::Batch(batch)) = (&plan.retrain, state) else { return Ok(()) };
        if keep && batch.frozen.is_none() {
            batch.frozen = Some(version.clone());
        }
        if batch.live.is_none() && (!approved || batch.rolled_back) {
            let why = format!("version {} came before it was let in", version.number);
            return match batch.next.replace(version) {
                Some(old) => self.refuse(m, &old, why, epoch, now),
                None => Ok(()),
            };
        }
        if batch.live.is_none() {
            return self.promote(m, version, "there was none before", epoch, now);
        }
        if plan.rollout.is_some() {
            return self.enter_rollout(m, version, epoch, now);
        }
        if retrain.promote.when == Promotion::Always {
            return self.promote(m, version, "promote = always", epoch, now);
        }
        let gate = Model::gate(&retrain.promote);
        let why = format!("version {} came before it was decided", version.number);
        let overtaken = batch.challenger.replace((version, gate));
        batch.measured = <_>::default();
        match overtaken {
            Some((old, _)) => self.refuse(m, &old, why, epoch, now),
            None => Ok(()),
        }
    }

    /// Lets the gates look at the challengers.
    pub(super) fn ask_gates(&mut self, epoch: u64, now: Micros) -> Result<(), Error> {
        for m in 0..self.models.len() {
            self.admit_first(m, epoch, now)?;
            let approved = self.waits_approved(m);
            let State::Batch(batch) = &mut self.models[m].state else { continue };
            let champion = batch.live.as_ref().map_or(0, |live| live.number);
            let Some((version, gate)) = &mut batch.challenger else { continue };
            let (comparison, decision) = match gate.decide(now) {
                gate::Decision::Wait(_) => continue,
                gate::Decision::Promote(_) if !approved => continue,
                gate::Decision::Promote(c) => (c, Decision::Promote),
                gate::Decision::Refuse(c) => (c, Decision::Refuse),
            };
            let version = version.clone();
            batch.challenger = None;
            self.ledger.note(Record::Gate(Gate {
                model: self.models[m].name.to_string(),
                challenger: version.number,
                champion,
                mean: comparison.mean,
                standard_error: comparison.standard_error,
                rows: comparison.rows,
                decision,
            }))?;
            let (mean, error) = (comparison.mean, comparison.standard_error);
            let rows = comparison.rows;
            let why = format!("log loss {mean:+.5} (standard error {error:.5}) over {rows} rows");
            let failed = self.judged(m, &version, epoch)?;
            match decision {
                Decision::Promote if failed.is_some() => {
                    let why = failed.unwrap_or_default();
                    self.refuse(m, &version, why, epoch, now)?;
                }
                Decision::Promote => self.promote(m, version, &why, epoch, now)?,
                _ => self.refuse(m, &version, why, epoch, now)?,
            }
        }
        Ok(())
    }

    /// Whether the version at the gate has been approved.
    fn waits_approved(&self, m: usize) -> bool {
        let State::Batch(batch) = &self.models[m].state else { return false };
        batch.challenger.as_ref().is_some_and(|(version, _)| self.approved(m, version.number))
    }

    /// What the checks of the gate have against a version, where there are any.
    fn judged(&mut self, m: usize, version: &Version, epoch: u64) -> Result<Option<String>, Error> {
        let Some(gate) = self.models[m].plan.gate.clone() else { return Ok(None) };
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(None) };
        let measured = std::mem::take(&mut batch.measured);
        let mut checks = version.checks.to_vec();
        checks.extend(self.model_checks(m, version, &measured, &gate));
        self.report(m, version, checks, epoch)
    }

    /// Puts a version in charge.
    pub(super) fn promote(
        &mut self,
        m: usize,
        version: Version,
        why: &str,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        self.give_way(m, version.number, epoch, now)?;
        let State::Batch(batch) = &mut self.models[m].state else { return Ok(()) };
        let (to, from) = (version.number, batch.live.as_ref().map_or(0, |live| live.number));
        let (manifest, training) = (Arc::clone(&version.manifest), version.training);
        let reference: Arc<Reference> = Arc::clone(&version.reference);
        let old = batch.live.replace(version);
        batch.rolled_back = false;
        batch.line.extend(old.clone());
        let kept = batch.line.len().saturating_sub(KEPT);
        batch.line.drain(..kept);
        let model = self.models[m].name.to_string();
        let why = why.to_string();
        self.moment(now, m, Some(to), Step::Promoted, &why);
        self.ledger.note(Record::Promoted(Switch {
            model,
            from,
            to,
            epoch,
            event_time: now,
            why,
        }))?;
        self.results.promotions += 1;
        self.results.trainings[training].fate = Fate::Promoted;
        self.swapped(m, Some(&reference), now);
        self.emit.model(&manifest, now)?;
        match old {
            Some(old) => self.enter_probation(m, old, epoch, now),
            None => Ok(()),
        }
    }

    /// Turns a version away for good.
    pub(super) fn refuse(
        &mut self,
        m: usize,
        version: &Version,
        why: String,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let State::Batch(batch) = &self.models[m].state else { return Ok(()) };
        let from = batch.live.as_ref().map_or(0, |live| live.number);
        self.timer.forget(m, version.number);
        self.moment(now, m, Some(version.number), Step::Refused, &why);
        let model = self.models[m].name.to_string();
        let to = version.number;
        self.ledger.note(Record::Refused(Switch {
            model,
            from,
            to,
            epoch,
            event_time: now,
            why,
        }))?;
        self.results.refusals += 1;
        self.results.trainings[version.training].fate = Fate::Refused;
        Ok(())
    }

    fn failed(
        &mut self,
        m: usize,
        running: Running,
        failure: Failure,
        setbacks: Vec<Setback>,
        epoch: u64,
        now: Micros,
    ) -> Result<(), Error> {
        let model = self.models[m].name.to_string();
        let error = failure.to_string();
        tracing::error!(model, error, "a training failed");
        self.emit.training(&model, &failure.code, "failed", setbacks.len() + 1, now)?;
        self.moment(now, m, None, Step::Failed, &error);
        self.results.trainings[running.training].fate = Fate::Failed;
        let outcome = Outcome::Failed { error, code: failure.code };
        self.ledger.note(Record::Outcome { task: running.task.id, epoch, outcome, setbacks })
    }

    /// Keeps what happened to a version, for the log and the report.
    pub(super) fn moment(
        &mut self,
        time: Micros,
        m: usize,
        version: Option<u64>,
        step: Step,
        why: &str,
    ) {
        let (model, why) = (self.models[m].name.to_string(), why.to_string());
        let (at, number) = (to_rfc3339(time), version.unwrap_or(0));
        match step {
            Step::Promoted => tracing::info!("{at} {model} v{number} takes over: {why}"),
            Step::Refused => tracing::info!("{at} {model} v{number} is turned away: {why}"),
            Step::OnTrial => tracing::info!("{at} {model} v{number} is on trial, {why}"),
            Step::RolledBack => tracing::warn!("{at} {model} is rolled back to v{number}: {why}"),
            Step::Triggered => tracing::debug!("{at} {model} is to be trained: {why}"),
            // A failure has been logged with its error.
            Step::Trained | Step::Failed => tracing::debug!("{at} {model} v{number} {step:?}"),
        }
        let moment = Moment { time, model, version, step, why };
        self.status.happened(&moment);
        self.results.moments.push(moment);
    }
}
