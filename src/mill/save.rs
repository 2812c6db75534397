//! The mill as of a line: everything that it holds as bytes, by name, and back.
//!
//! What is a function of something kept elsewhere is not kept: predictors are in the registry, a
//! detector's counts follow from the rows of its window. What grows and then stands still (the weeks
//! of the evaluation, the reference of a version) has a part of its own, which is not written again.

mod judge;
mod models;
mod rows;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill_types::{Error, Id, Micros};

use self::judge::SavedJudge;
use self::models::SavedModel;
use self::rows::{Table, Taken};
use self::watches::{SavedSaid, SavedWatch};
use super::join::{Held, JoinCounts};
use super::models::State;
use super::sample::SavedSample;
use super::score::SavedOpen;
use super::training::SavedParts;
use super::watch::Reference;
use super::{Landed, Mill};
use crate::checkpoint::line::{Gift, Lines, Parts, Wait};
use crate::checkpoint::{points, section};
use crate::engine::offsets::SavedOffsets;
use crate::observe::summary::Retraining;
use crate::online::Keeper;
use crate::report::Moment;

/// What is kept under `state`.
#[derive(Serialize, Deserialize)]
struct SavedMill {
    journal: u64,
    models: Vec<SavedModel>,
    joins: Vec<SavedJoin>,
    training: Vec<Option<SavedParts>>,
    samples: Vec<Option<SavedSample>>,
    watches: Vec<SavedWatch>,
    heard: Vec<(usize, SavedSaid)>,
    judge: SavedJudge,
    base: (f64, u64),
    labels: Vec<Landed>,
    landed: Vec<Landed>,
    open: SavedOpen,
    clock: Option<Micros>,
    offsets: SavedOffsets,
    emitted: (u64, u64),
    results: SavedResults,
}

#[derive(Serialize, Deserialize)]
struct SavedJoin {
    /// Deadline, id, whether it is still known and, if its label does not count yet, its row and the label.
    deadlines: Vec<(Micros, Id, Option<Held<u32>>)>,
    counts: JoinCounts,
}

#[derive(Serialize, Deserialize)]
struct SavedResults {
    latest: Micros,
    event_times: Option<(Micros, Micros)>,
    scores: u64,
    degraded: u64,
    taken_back: u64,
    corrected: u64,
    trainings: Vec<Retraining>,
    promotions: u64,
    refusals: u64,
    rollbacks: u64,
    waited: Duration,
    moments: Vec<Moment>,
    drift: BTreeMap<String, BTreeMap<String, BTreeMap<Micros, f64>>>,
}

impl Mill {
    /// Gives everything to the line under way, and then tells the sinks to give theirs.
    ///
    /// # Errors
    /// Only a defect.
    pub fn give_to(&mut self, lines: &Lines) -> Result<(), Error> {
        let mut waits: Vec<Wait> = Vec::new();
        for training in self.training.iter_mut().flatten() {
            training.sweep();
            let written = training.written();
            waits.push(Box::new(move || written.look(true).map(drop)));
        }
        let parts = self.save().map_err(Error::internal)?;
        let later = self.online.as_mut().map(Keeper::save);
        points::pass("line.mill");
        lines.give(Gift::Mill { parts, later, waits });
        self.emit.outputs().mark();
        Ok(())
    }

    /// Everything as bytes, by name, but for the online store.
    fn save(&self) -> Result<Parts, String> {
        let mut parts = Parts::new();
        let mut table = Table::default();
        let models = self.models.iter().map(|model| models::save(model, &mut parts, &mut table));
        let models = models.collect::<Result<_, _>>()?;
        let joins = self.joins.iter().map(|join| {
            let deadlines = join.deadlines().map(|(deadline, id, held)| {
                let place = |(row, value)| (table.place(row), value);
                (deadline, id.clone(), held.map(|held| held.map(place)))
            });
            SavedJoin { deadlines: deadlines.collect(), counts: join.counts }
        });
        let joins = joins.collect();
        let open = self.open.save(|row| table.place(row));
        let training = self.training.iter().map(|training| {
            training.as_ref().map(|training| training.save(|row| table.place(row)))
        });
        let training = training.collect();
        let r = &self.results;
        let counts = self.emit.outputs().counts();
        let state = SavedMill {
            journal: self.ledger.position(),
            models,
            joins,
            training,
            samples: self.samples.iter().map(|s| s.as_ref().map(|s| s.save())).collect(),
            watches: self.watches.iter().map(watches::save).collect(),
            heard: self.heard.iter().map(|(w, said)| (*w, said.into())).collect(),
            judge: self.judge.save(&mut parts)?,
            base: self.base,
            labels: self.labels.iter().cloned().collect(),
            landed: self.landed.clone(),
            open,
            clock: self.clock,
            offsets: self.offsets.save(self.known),
            emitted: (counts.scores.load(Ordering::Relaxed), counts.alerts.load(Ordering::Relaxed)),
            results: SavedResults {
                latest: r.latest,
                event_times: r.event_times,
                scores: r.scores,
                degraded: r.degraded,
                taken_back: r.taken_back,
                corrected: r.corrected,
                trainings: r.trainings.clone(),
                promotions: r.promotions,
                refusals: r.refusals,
                rollbacks: r.rollbacks,
                waited: r.waited,
                moments: r.moments.clone(),
                drift: r
                    .drift
                    .iter()
                    .map(|(name, found)| (name.to_string(), found.clone()))
                    .collect(),
            },
        };
        parts.push(("state".to_string(), section::encode(&state)?));
        if let Some(held_out) = &self.held_out {
            parts.push(("held_out".to_string(), section::encode(&held_out.scores)?));
        }
        parts.push(("failures".to_string(), section::encode(&r.failed)?));
        parts.push(("rows".to_string(), table.encode()?));
        Ok(parts)
    }

    /// Goes on from what was saved.
    ///
    /// # Errors
    /// Parts that are missing or of another pipeline; an artifact that the registry has no more.
    pub fn restore(
        &mut self,
        before: Micros,
        parts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Error> {
        let broken = |why: String| {
            Error::external(format!("a checkpoint does not fit this pipeline: {why}"))
                .help("begin again: remove the run's folder of checkpoints")
        };
        let state: SavedMill = part(parts, "state").map_err(broken)?;
        let rows = parts.get("rows").ok_or_else(|| broken("rows are missing".to_string()))?;
        let rows = Taken::decode(rows).map_err(broken)?;
        self.ledger.go_on_from(state.journal)?;
        self.known = before;
        for (m, saved) in state.models.into_iter().enumerate() {
            self.restore_model(m, saved, parts, &rows).map_err(broken)?;
        }
        for (join, saved) in self.joins.iter_mut().zip(state.joins) {
            for (deadline, id, held) in saved.deadlines {
                let row = |(row, value)| rows.row(row).map(|row| (row, value));
                let held = held.map(|held| held.map(row).transpose()).transpose();
                join.resume(deadline, id, held.map_err(broken)?);
            }
            join.counts = saved.counts;
        }
        for (training, saved) in self.training.iter_mut().zip(state.training) {
            if let (Some(training), Some(saved)) = (training, saved) {
                training.resume(saved, |row| rows.row(row)).map_err(broken)?;
            }
        }
        for (sample, saved) in self.samples.iter_mut().zip(state.samples) {
            if let (Some(sample), Some(saved)) = (sample, saved) {
                sample.resume(saved);
            }
        }
        // Until enough rows are labelled there is none.
        if parts.contains_key("held_out") {
            let scores = part(parts, "held_out").map_err(broken)?;
            self.held_out = Some(Reference { scores, ..Reference::default() });
        }
        for (w, saved) in state.watches.into_iter().enumerate().take(self.watches.len()) {
            let of = |m: usize| match &self.models[m].state {
                State::Batch(batch) => batch.live.as_ref().map(|live| Arc::clone(&live.reference)),
                State::Online(_) => None,
            };
            let features = self.watches[w].plan.model.and_then(of);
            let measure = self.scores_of(w);
            let own = measure.is_some_and(|m| self.is_own_measure(m));
            let served = measure.filter(|_| !own).and_then(of);
            let scores = if own { self.held_out.as_ref() } else { served.as_deref() };
            watches::resume(&mut self.watches[w], saved, features.as_deref(), scores)
                .map_err(broken)?;
        }
        let heard = state.heard.into_iter().map(|(w, said)| Ok((w, said.said()?)));
        self.heard = heard.collect::<Result<_, String>>().map_err(broken)?;
        self.judge.resume(state.judge, parts).map_err(broken)?;
        self.base = state.base;
        self.labels = state.labels.into();
        self.landed = state.landed;
        self.open.resume(state.open, |row| rows.row(row)).map_err(broken)?;
        self.clock = state.clock;
        self.offsets.resume(state.offsets);
        let counts = self.emit.outputs().counts();
        counts.scores.store(state.emitted.0, Ordering::Relaxed);
        counts.alerts.store(state.emitted.1, Ordering::Relaxed);
        let saved = state.results;
        let results = &mut self.results;
        results.latest = saved.latest;
        results.event_times = saved.event_times;
        (results.scores, results.degraded) = (saved.scores, saved.degraded);
        results.taken_back = saved.taken_back;
        results.corrected = saved.corrected;
        results.trainings = saved.trainings;
        (results.promotions, results.refusals) = (saved.promotions, saved.refusals);
        results.rollbacks = saved.rollbacks;
        results.waited = saved.waited;
        results.moments = saved.moments;
        // A line of before they were counted has none.
        if parts.contains_key("failures") {
            results.failed = part(parts, "failures").map_err(broken)?;
        }
        for (detector, found) in saved.drift {
            results.drift.insert(watches::detector(&detector).map_err(broken)?, found);
        }
        if let Some(online) = &mut self.online {
            online.restore(parts).map_err(broken)?;
        }
        self.show();
        Ok(())
    }
}

/// A part, decoded.
fn part<T: DeserializeOwned>(parts: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<T, String> {
    let bytes = parts.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
    section::decode(bytes).map_err(|why| format!("`{name}`: {why}"))
}
