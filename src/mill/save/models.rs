//! Models: what is live and what is on its way, with the evidence so far. A version's reference is a
//! part of its own, for it does not change; its predictor is in the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_operators::evaluate::gate::Gate;
use tidemill_operators::evaluate::in_order::InOrder;
use tidemill_operators::evaluate::sequential::Duel;
use tidemill_types::{Id, Micros};

use super::super::Mill;
use super::super::checks::{Measured, SavedMeasured};
use super::super::models::{Batch, Model, Running, State, Version};
use super::super::sample::Making;
use super::super::training::Written;
use super::super::trial::{Stage, Trial};
use super::super::trigger::Budget;
use super::super::watch::Reference;
use super::part;
use super::rows::{Table, Taken};
use crate::checkpoint::line::Parts;
use crate::checkpoint::section;
use crate::journal::record::Check;

#[derive(Serialize, Deserialize)]
pub enum SavedModel {
    Online { versions: u64, learner: Vec<u8> },
    Batch(Box<SavedBatch>),
}

#[derive(Serialize, Deserialize)]
pub struct SavedBatch {
    live: Option<SavedVersion>,
    challenger: Option<(SavedVersion, Gate)>,
    measured: SavedMeasured,
    trial: Option<SavedTrial>,
    next: Option<SavedVersion>,
    line: Vec<SavedVersion>,
    rolled_back: bool,
    approvals: BTreeMap<u64, BTreeSet<String>>,
    frozen: Option<SavedVersion>,
    running: Option<SavedRunning>,
    triggered: Option<Micros>,
    waiting: Option<(String, Vec<(String, f64)>)>,
    labels: u64,
    tries: u8,
    budget: Budget,
    versions: u64,
}

/// Its reference is a part of its own.
#[derive(Serialize, Deserialize)]
struct SavedVersion {
    number: u64,
    cut: Micros,
    training: usize,
    /// JSON, for it holds values of any kind.
    manifest: String,
    size: u64,
    checks: Vec<Check>,
}

#[derive(Serialize, Deserialize)]
struct SavedTrial {
    new: SavedVersion,
    old: SavedVersion,
    stage: Stage,
    began: Micros,
    since: Micros,
    duel: Duel,
    /// A row by its place, its label, both margins.
    rows: InOrder<Id, (u32, bool, f64, f64)>,
    measured: SavedMeasured,
    alarm: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SavedRunning {
    /// JSON, as above.
    task: String,
    rows: u64,
    training: usize,
    due: Option<Micros>,
    offsets: Vec<(String, u64)>,
    reference: Option<SavedReference>,
}

/// Numbers, categories, scores, separation.
type SavedReference = (Vec<Vec<f64>>, Vec<Vec<u64>>, Vec<f64>, Vec<f64>);

/// A model as bytes; the rows that it holds go to the table.
pub fn save(model: &Model, parts: &mut Parts, table: &mut Table) -> Result<SavedModel, String> {
    let batch: &Batch = match &model.state {
        State::Online(online) => {
            let learner = online.learner.save();
            return Ok(SavedModel::Online { versions: online.versions, learner });
        }
        State::Batch(batch) => batch,
    };
    let mut version = |version: &Version| saved_version(model, version, parts);
    let challenger = match &batch.challenger {
        Some((challenger, gate)) => Some((version(challenger)?, gate.clone())),
        None => None,
    };
    let trial = batch.trial.as_ref().map(|trial| {
        Ok::<_, String>(SavedTrial {
            new: version(&trial.new)?,
            old: version(&trial.old)?,
            stage: trial.stage,
            began: trial.began,
            since: trial.since,
            duel: trial.duel.clone(),
            rows: trial.rows.map(|(row, label, new, old)| {
                Ok::<_, String>((table.place(row), *label, *new, *old))
            })?,
            measured: trial.measured.save(|row| table.place(row)),
            alarm: trial.alarm.clone(),
        })
    });
    let trial = trial.transpose()?;
    let running = batch.running.as_ref().map(|running| {
        Ok::<_, String>(SavedRunning {
            task: serde_json::to_string(&running.task).map_err(|e| e.to_string())?,
            rows: running.rows,
            training: running.training,
            due: running.due,
            offsets: running.offsets.clone(),
            reference: running.reference.as_ref().map(|r| saved_reference(&r.ready())),
        })
    });
    Ok(SavedModel::Batch(Box::new(SavedBatch {
        live: batch.live.as_ref().map(&mut version).transpose()?,
        challenger,
        measured: batch.measured.save(|row| table.place(row)),
        trial,
        next: batch.next.as_ref().map(&mut version).transpose()?,
        line: batch.line.iter().map(&mut version).collect::<Result<_, _>>()?,
        rolled_back: batch.rolled_back,
        approvals: batch.approvals.clone(),
        frozen: batch.frozen.as_ref().map(&mut version).transpose()?,
        running: running.transpose()?,
        triggered: batch.triggered,
        waiting: batch.waiting.clone(),
        labels: batch.labels,
        tries: batch.tries,
        budget: batch.budget,
        versions: batch.versions,
    })))
}

impl Mill {
    /// Puts a model where it stood.
    pub(super) fn restore_model(
        &mut self,
        m: usize,
        saved: SavedModel,
        parts: &BTreeMap<String, Vec<u8>>,
        rows: &Taken,
    ) -> Result<(), String> {
        let model = self.models.get(m).ok_or("it has more models")?;
        let saved = match (saved, &model.state) {
            (SavedModel::Online { versions, learner }, State::Online(_)) => {
                // What was published is in its manifest, which was on the disk before the line.
                let published = match versions {
                    0 => 0,
                    last => {
                        let last = self.ledger.version(&model.name, last);
                        last.map_err(|e| e.to_string())?.0.lineage.rows
                    }
                };
                let State::Online(online) = &mut self.models[m].state else { return Ok(()) };
                (online.versions, online.published) = (versions, published);
                return online.learner.restore(&learner);
            }
            (SavedModel::Batch(saved), State::Batch(_)) => saved,
            _ => return Err(format!("model {} is of another kind", model.name)),
        };
        let version = |saved: SavedVersion| self.restored_version(model, saved, parts);
        let maybe = |saved: Option<SavedVersion>| saved.map(version).transpose();
        let challenger = match saved.challenger {
            Some((challenger, gate)) => Some((version(challenger)?, gate)),
            None => None,
        };
        let trial = match saved.trial {
            Some(trial) => Some(Trial {
                new: version(trial.new)?,
                old: version(trial.old)?,
                stage: trial.stage,
                began: trial.began,
                since: trial.since,
                duel: trial.duel,
                rows: trial.rows.map(|(row, label, new, old)| {
                    Ok::<_, String>((rows.row(*row)?, *label, *new, *old))
                })?,
                measured: Measured::resumed(trial.measured, |row| rows.row(row))?,
                alarm: trial.alarm,
            }),
            None => None,
        };
        let (live, next, frozen) = (maybe(saved.live)?, maybe(saved.next)?, maybe(saved.frozen)?);
        let line = saved.line.into_iter().map(version).collect::<Result<_, _>>()?;
        let running = saved.running.map(|saved| self.restored_running(saved)).transpose()?;
        let measured = Measured::resumed(saved.measured, |row| rows.row(row))?;
        if let State::Batch(into) = &mut self.models[m].state {
            (into.live, into.next, into.frozen, into.line) = (live, next, frozen, line);
            (into.challenger, into.measured, into.trial) = (challenger, measured, trial);
            (into.rolled_back, into.approvals) = (saved.rolled_back, saved.approvals);
            (into.triggered, into.waiting) = (saved.triggered, saved.waiting);
            (into.labels, into.budget) = (saved.labels, saved.budget);
            (into.versions, into.running, into.tries) = (saved.versions, running, saved.tries);
        }
        Ok(())
    }

    fn restored_version(
        &self,
        model: &Model,
        saved: SavedVersion,
        parts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Version, String> {
        let manifest: tidemill_types::model::ModelVersion =
            serde_json::from_str(&saved.manifest).map_err(|e| e.to_string())?;
        let bytes = self.ledger.bytes(&model.name, &manifest.artifact);
        let bytes = bytes.map_err(|e| e.to_string())?;
        let reference = part(parts, &reference_of(model, saved.number))?;
        Ok(Version {
            number: saved.number,
            predictor: model.load(&manifest.kind, &bytes)?,
            cut: saved.cut,
            training: saved.training,
            reference: Arc::new(reference_from(reference)),
            manifest: Arc::new(manifest),
            size: saved.size,
            checks: saved.checks.into(),
        })
    }

    fn restored_running(&self, saved: SavedRunning) -> Result<Running, String> {
        let task: tidemill_types::task::TrainingTask =
            serde_json::from_str(&saved.task).map_err(|e| e.to_string())?;
        // Whoever has its outcome in the journal does not train again; else it is handed over anew, and
        // its rows are on the disk, for the line waited for that.
        let written = self.ledger.outcome(&task.id).is_none().then(Written::already);
        Ok(Running {
            task,
            rows: saved.rows,
            training: saved.training,
            due: saved.due,
            written,
            offsets: saved.offsets,
            reference: saved.reference.map(|reference| Making::made(reference_from(reference))),
        })
    }
}

fn saved_version(
    model: &Model,
    version: &Version,
    parts: &mut Parts,
) -> Result<SavedVersion, String> {
    let name = reference_of(model, version.number);
    if !parts.iter().any(|(there, _)| *there == name) {
        parts.push((name, section::encode(&saved_reference(&version.reference))?));
    }
    Ok(SavedVersion {
        number: version.number,
        cut: version.cut,
        training: version.training,
        manifest: serde_json::to_string(&*version.manifest).map_err(|e| e.to_string())?,
        size: version.size,
        checks: version.checks.to_vec(),
    })
}

fn reference_of(model: &Model, version: u64) -> String {
    format!("reference/{}/{version}", model.name)
}

fn reference_from((numbers, categories, scores, separation): SavedReference) -> Reference {
    Reference { numbers, categories, scores, separation }
}

fn saved_reference(reference: &Reference) -> SavedReference {
    let Reference { numbers, categories, scores, separation } = reference;
    (numbers.clone(), categories.clone(), scores.clone(), separation.clone())
}
