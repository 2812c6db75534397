//! Models: their versions, and what the journal says of them.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tidemill_types::Error;
use tidemill_types::model::ModelVersion;
use tidemill_types::time::to_rfc3339;

use super::Board;
use crate::journal::record::Record;
use crate::journal::tail;
use crate::mill::evidence::OnTrial;
use crate::models::history::{Histories, History};
use crate::models::registry::Registry;

/// Versions that are told of each model, the newest; and so many things that happened to them.
const VERSIONS: usize = 50;

/// Lines of the journal that are read in one go, and for how long one answer may go on reading: a journal of
/// many epochs is caught up with over some answers.
const LINES: usize = 2_000;
const READING: Duration = Duration::from_millis(500);

/// How far the journal was read, and what it said.
#[derive(Default)]
pub(super) struct Read {
    next: u64,
    histories: Histories,
}

impl Board {
    /// Reads what was journaled since the last time; says how many lines are left.
    fn catch_up(&self, read: &mut Read) -> Result<u64, Error> {
        let began = Instant::now();
        loop {
            let page = tail::since(&self.setup.folder.join("journal"), read.next, LINES)?;
            for line in page.lines {
                read.next = line.n + 1;
                // What a later build has written is passed over.
                if let Ok(record) = serde_json::from_value::<Record>(line.record) {
                    read.histories.add(record);
                }
            }
            let left = page.total.saturating_sub(read.next);
            if left == 0 || began.elapsed() > READING {
                return Ok(left);
            }
        }
    }

    /// Models: their versions, and what has happened to them.
    pub(super) fn models(&self) -> Result<Json, Error> {
        let plan = &self.setup.compiled.plan;
        let registry = Registry::open(self.setup.folder.join("models"))?;
        let now = self.setup.status.now();
        let champion = plan.score.as_ref().map(|score| score.champion);
        // What is held is whole even if someone panicked while holding it.
        let mut read = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = self.catch_up(&mut read)?;
        let trials = self.setup.status.trials();
        let models = plan.models.iter().enumerate().map(|(m, model)| {
            let name = &model.name.value;
            let current = now.versions.get(m).map_or(0, |(_, version)| *version);
            let (versions, left_out) = newest(&registry, name)?;
            let mut events = Vec::new();
            let versions: Vec<Json> = versions
                .iter()
                .map(|version| {
                    let history = read.histories.get(name, version.version);
                    events.extend(
                        history.events.iter().map(|event| (version.version, event.clone())),
                    );
                    told(version, word(&history), &history)
                })
                .collect();
            events.sort_by_key(|(_, event)| std::cmp::Reverse(event.epoch));
            let events = events.into_iter().take(VERSIONS).map(|(version, event)| {
                json!({"at": to_rfc3339(event.at), "version": version, "what": event.what})
            });
            Ok(json!({
                "name": name,
                "type": model.section.kind.value,
                "serves": champion == Some(m),
                "retrained": model.retrain.is_some(),
                "current": current,
                "versions": versions,
                "trial": trials.iter().find(|trial| trial.model == *name).map(on_trial),
                "left_out": left_out,
                "events": events.collect::<Vec<_>>(),
            }))
        });
        let models = models.collect::<Result<Vec<_>, Error>>()?;
        Ok(json!({"models": models, "behind": behind}))
    }
}

/// The newest versions, the newest first, and how many there are besides.
fn newest(registry: &Registry, model: &str) -> Result<(Vec<ModelVersion>, usize), Error> {
    let numbers = registry.numbers(model)?;
    let left_out = numbers.len().saturating_sub(VERSIONS);
    let versions = numbers.into_iter().skip(left_out).rev();
    let versions = versions.map(|number| registry.manifest(model, number));
    Ok((versions.collect::<Result<_, _>>()?, left_out))
}

/// Capitals grow without end, and JSON has no infinity.
const MOST: f64 = 1e12;

fn on_trial(trial: &OnTrial) -> Json {
    let points = trial.growth.iter().map(|(rows, better, worse)| {
        json!({"rows": rows, "better": better.min(MOST), "worse": worse.min(MOST)})
    });
    json!({
        "version": trial.version,
        "against": trial.against,
        "stage": trial.stage,
        "share": trial.share,
        "since": to_rfc3339(trial.since),
        "rows": trial.rows,
        "mean": Some(trial.mean).filter(|mean| mean.is_finite()),
        "standard_error": Some(trial.standard_error).filter(|error| error.is_finite()),
        "better_at": trial.bounds.0,
        "worse_at": trial.bounds.1,
        "growth": points.collect::<Vec<_>>(),
    })
}

fn word(history: &History) -> &'static str {
    match history.stage.name() {
        "rolled back" => "rolled_back",
        stage => stage,
    }
}

fn told(version: &ModelVersion, stage: &str, history: &History) -> Json {
    json!({
        "version": version.version,
        "stage": stage,
        "share": history.share,
        "approvals": history.approvals,
        "since": to_rfc3339(version.since),
        "rows": version.lineage.rows,
        "trigger": version.lineage.trigger,
        "artifact": version.artifact,
        "metrics": version.metrics.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}
