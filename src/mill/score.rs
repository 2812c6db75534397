//! Rows get their scores.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_operators::dataflow::Features;
use tidemill_types::{DeadLetter, Error, Id, Micros, Provenance};

use super::emit::Served;
use super::join::Scored;
use super::matrix::{Batch, Matrix, consecutive};
use super::models::Model;
use super::same::{numbers_tell, same_row};
use super::watch::Watch;
use super::{Landed, Mill};
use crate::engine::check::NumberFrom;
use crate::engine::outputs::row_as_json;
use crate::observe::traces;
use crate::online::choose;

/// `at_once`: what the watermark has not passed.
#[derive(Default)]
pub struct Open {
    /// Rows as they were scored.
    rows: HashMap<Id, Arc<Scored>>,
    /// Further rows of an id that is there: without labels none is refused.
    further: HashMap<Id, Vec<Arc<Scored>>>,
    /// Labels that landed for them, and labels that landed before their rows.
    labels: BTreeMap<Id, Vec<Landed>>,
    /// Until when labels wait for rows.
    deadlines: BTreeSet<(Micros, Id)>,
}

/// The same as a line keeps it: rows by their places.
#[derive(Serialize, Deserialize)]
pub struct SavedOpen {
    rows: Vec<u32>,
    labels: Vec<(Id, Vec<Landed>)>,
    deadlines: Vec<(Micros, Id)>,
}

impl Open {
    /// What is kept; `place` names a row.
    pub fn save(&self, mut place: impl FnMut(&Arc<Scored>) -> u32) -> SavedOpen {
        // By id, so that the same state is the same bytes.
        let rows: BTreeMap<&Id, &Arc<Scored>> = self.rows.iter().collect();
        let further: BTreeMap<&Id, &Vec<Arc<Scored>>> = self.further.iter().collect();
        let rows = rows.into_values().chain(further.into_values().flatten());
        SavedOpen {
            rows: rows.map(&mut place).collect(),
            labels: self.labels.iter().map(|(id, l)| (id.clone(), l.clone())).collect(),
            deadlines: self.deadlines.iter().cloned().collect(),
        }
    }

    /// Goes on from what was kept.
    ///
    /// # Errors
    /// A row that is not there.
    pub fn resume(
        &mut self,
        saved: SavedOpen,
        row: impl Fn(u32) -> Result<Arc<Scored>, String>,
    ) -> Result<(), String> {
        (self.rows, self.further) = (HashMap::new(), HashMap::new());
        saved.rows.into_iter().try_for_each(|place| row(place).map(|row| self.hold(row)))?;
        self.labels = saved.labels.into_iter().collect();
        self.deadlines = saved.deadlines.into_iter().collect();
        Ok(())
    }

    fn hold(&mut self, row: Arc<Scored>) {
        match self.rows.entry(row.id.clone()) {
            Entry::Vacant(place) => drop(place.insert(row)),
            Entry::Occupied(_) => self.further.entry(row.id.clone()).or_default().push(row),
        }
    }

    /// The row of this id and time, which is held no longer.
    fn take(&mut self, id: &Id, time: Micros) -> Option<Arc<Scored>> {
        if self.rows.get(id).is_some_and(|row| row.time == time) {
            return self.rows.remove(id);
        }
        let further = self.further.get_mut(id)?;
        let row = further.remove(further.iter().position(|row| row.time == time)?);
        if further.is_empty() {
            self.further.remove(id);
        }
        Some(row)
    }
}

impl Mill {
    /// Takes the rows of a bundle.
    pub(super) fn begin(&mut self, bundle: Matrix) -> Result<(), Error> {
        (self.bundle, self.next_row) = (bundle, 0);
        let rows = &self.bundle;
        self.models.iter_mut().for_each(Model::new_bundle);
        self.watches.iter_mut().filter(|w| w.watches_rows()).for_each(|w| w.bundle(rows));
        if let Some(tracer) = traces::tracer() {
            tracer.featured(&rows.ids);
        }
        for Batch { rows: of, columns, kept } in &rows.batches {
            let (times, ids) = (&rows.times[of.clone()], &rows.ids[of.clone()]);
            if let Some(keeper) = &mut self.online {
                keeper.rows(times, ids, columns, kept.as_ref());
            }
            self.emit.features(ids, times, columns, kept.as_ref(), 1)?;
        }
        Ok(())
    }

    /// Whether rows only pass through: nothing scores, watches or labels them.
    pub(super) fn passes(&self) -> bool {
        self.models.is_empty()
            && self.joins.is_empty()
            && self.watches.is_empty()
            && self.compiled.plan.score.is_none()
    }

    /// `final`: sends the rows of a bundle on, where they only pass through.
    pub(super) fn pass(&mut self, parts: Vec<Features>) -> Result<(), Error> {
        for part in consecutive(parts, self.compiled.program.batch_bytes) {
            let (Some(first), Some(last)) = (part.times.first(), part.times.last()) else {
                continue;
            };
            let times = self.results.event_times.get_or_insert((*first, *last));
            *times = (times.0.min(*first), times.1.max(*last));
            let now = self.start_of(self.tick_of(*last));
            self.clock = self.clock.max(Some(now));
            self.offsets.pass(now.saturating_sub(1));
            let kept = part.kept.as_ref().map(|kept| &kept.0);
            if let Some(keeper) = &mut self.online {
                keeper.rows(&part.times, &part.ids, &part.columns.0, kept);
            }
            if let Some(tracer) = traces::tracer() {
                tracer.featured(&part.ids);
            }
            self.emit.features(&part.ids, &part.times, &part.columns.0, kept, 1)?;
        }
        Ok(())
    }

    /// Scores the rows of a tick.
    pub(super) fn score_tick(&mut self, tick: i64) -> Result<(), Error> {
        while let Some(time) = self.bundle.times.get(self.next_row).copied() {
            if self.tick_of(time) != tick {
                break;
            }
            let row = self.next_row;
            self.next_row += 1;
            if let Some(scored) = self.score(row)? {
                self.joins.iter_mut().for_each(|join| join.wait_for(Arc::clone(&scored)));
            }
        }
        Ok(())
    }

    /// Scores a row of the bundle and sends the score; nothing for one whose id was scored already.
    fn score(&mut self, row: usize) -> Result<Option<Arc<Scored>>, Error> {
        let (time, id) = (self.bundle.times[row], self.bundle.ids[row].clone());
        // Which row a label is of has to be known; where there are none, nobody keeps ids.
        let labels = !self.joins.is_empty();
        if labels && (self.open.rows.contains_key(&id) || self.joins.iter().any(|j| j.holds(&id))) {
            self.refuse_duplicate(row, &id);
            self.watches.iter_mut().filter(|w| w.watches_rows()).for_each(Watch::refused);
            return Ok(None);
        }
        let traced = traces::tracer().and_then(|tracer| Some((tracer, tracer.scoring(&id)?)));
        let mut margins = Vec::with_capacity(self.models.len());
        let mut versions = Vec::with_capacity(self.models.len());
        for model in &mut self.models {
            let (margin, version) = model.margin(&self.bundle, row, &margins, Some(&id));
            margins.push(margin);
            versions.push(version);
        }
        let kept = self.compiled.plan.score.as_ref().and_then(|score| score.freeze);
        let frozen =
            kept.map_or(f64::NAN, |m| self.models[m].frozen_margin(&self.bundle, row, &margins));
        let served = self.served(&margins, &versions);
        let score = served.as_ref().map_or(f64::NAN, |s| s.score);
        if let Some(served) = served {
            self.results.scores += 1;
            self.results.degraded += u64::from(served.degraded.is_some());
            let taken_back = served.degraded.as_deref() == Some(&*self.rolled_back);
            self.results.taken_back += u64::from(taken_back);
            if let Some((tracer, began)) = traced {
                tracer.scored(&id, began, &served.model, served.version, served.score);
            }
            self.emit.score(&id, time, served)?;
        }
        self.first_scores(&versions);
        let (sum, n) = self.base;
        let (batch, place) = self.bundle.place(row);
        let times = self.results.event_times.get_or_insert((time, time));
        *times = (times.0.min(time), times.1.max(time));
        let scored = Arc::new(Scored {
            time,
            id,
            numbers: self.bundle.numbers(row).into(),
            categories: self.bundle.categories(row).into(),
            margins: margins.into(),
            frozen,
            versions: versions.into(),
            served: score,
            base_rate: if n == 0 { f64::NAN } else { sum / n as f64 },
            columns: Arc::clone(&batch.columns),
            row: place as u32,
        });
        if let Some(keeper) = &mut self.online {
            keeper.scored(&scored);
        }
        // Those of a canary are of another version.
        let mut makers = self.models.iter().enumerate().filter(|(m, _)| self.scoring[*m]);
        let in_charge = makers.all(|(m, model)| scored.versions[m] == model.version());
        for watch in self.watches.iter_mut().filter(|w| w.watches_rows()) {
            watch.scored(scored.served, in_charge);
        }
        self.expect_in_trials(&scored);
        Ok(Some(scored))
    }

    /// What is served for these margins, which these versions gave.
    fn served(&self, margins: &[f64], versions: &[u64]) -> Option<Served> {
        let score = self.compiled.plan.score.as_ref()?;
        let choice = choose(score, margins, versions)?;
        let model = choice.model.map_or(&self.constant, |m| &self.models[m].name);
        let taken_back = choice.degraded && self.models[score.champion].rolled_back();
        let why = if taken_back { &self.rolled_back } else { &self.warming_up };
        Some(Served {
            model: Arc::clone(model),
            version: choice.version,
            score: choice.score,
            degraded: choice.degraded.then(|| Arc::clone(why)),
            upstream: choice.model.and_then(|m| self.upstream(m, versions)),
        })
    }

    /// The versions whose margins a model read, `trees:3` for example; nothing if it reads none.
    fn upstream(&self, m: usize, versions: &[u64]) -> Option<Arc<str>> {
        let mut read: Vec<usize> = Vec::new();
        let mut open = vec![m];
        while let Some(model) = open.pop() {
            for from in &self.models[model].inputs.numbers {
                if let NumberFrom::Margin(of) = from
                    && !read.contains(of)
                {
                    read.push(*of);
                    open.push(*of);
                }
            }
        }
        if read.is_empty() {
            return None;
        }
        read.sort_unstable();
        let one = |m: &usize| format!("{}:{}", self.models[*m].name, versions[*m]);
        Some(read.iter().map(one).collect::<Vec<_>>().join(" ").into())
    }

    fn refuse_duplicate(&self, row: usize, id: &Id) {
        let spine = &self.compiled.plan.sources[self.compiled.program.spine];
        let source = spine.name.value.clone();
        let (batch, place) = self.bundle.place(row);
        let letter = DeadLetter {
            provenance: Provenance { origin: source.clone(), partition: 0, offset: 0 },
            source,
            reason: "duplicate_id".to_string(),
            detail: format!(
                "a row with the id {id} was scored already; its features are kept here"
            ),
            raw: row_as_json(&batch.columns, place).into_bytes(),
        };
        self.emit.outputs().dead_letters(vec![letter], None);
    }

    /// `at_once`: scores rows as they come.
    pub(super) fn score_open(&mut self, rows: Vec<Features>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.begin(Matrix::merged(rows, self.compiled.program.batch_bytes))?;
        self.next_row = self.bundle.times.len();
        for row in 0..self.bundle.times.len() {
            if let Some(scored) = self.score(row)? {
                self.open.hold(scored);
            }
        }
        Ok(())
    }

    /// `at_once`: rows that the watermark has passed. Their features are what is learnt from; where
    /// they differ from those that were scored, the sink of features is told.
    pub(super) fn settle(&mut self, rows: Vec<Features>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let last = Matrix::merged(rows, self.compiled.program.batch_bytes);
        if let Some(keeper) = &mut self.online {
            for Batch { rows, columns, kept } in &last.batches {
                let (times, ids) = (&last.times[rows.clone()], &last.ids[rows.clone()]);
                keeper.rows(times, ids, columns, kept.as_ref());
            }
        }
        for row in 0..last.times.len() {
            let id = &last.ids[row];
            let Some(first) = self.open.take(id, last.times[row]) else { continue };
            let (batch, place) = last.place(row);
            let columns = batch.columns.num_columns();
            let same =
                numbers_tell(&first.numbers, last.numbers(row), columns).unwrap_or_else(|| {
                    same_row((&first.columns, first.row as usize), (&batch.columns, place))
                });
            let changed = !same;
            if changed {
                self.results.corrected += 1;
                let (ids, times) = ([id.clone()], [last.times[row]]);
                let old = first.columns.slice(first.row as usize, 1);
                let kept = batch.kept.as_ref().map(|kept| kept.slice(place, 1));
                self.emit.features(&ids, &times, &old, kept.as_ref(), -1)?;
                let new = batch.columns.slice(place, 1);
                self.emit.features(&ids, &times, &new, kept.as_ref(), 1)?;
            }
            let settled = Arc::new(Scored {
                numbers: last.numbers(row).into(),
                categories: last.categories(row).into(),
                columns: Arc::clone(&batch.columns),
                row: place as u32,
                // Margins of other features are no margins of these.
                versions: if changed { [].into() } else { first.versions.clone() },
                ..Scored::clone(&first)
            });
            self.joins.iter_mut().for_each(|join| join.wait_for(Arc::clone(&settled)));
            for landed in self.open.labels.remove(id).unwrap_or_default() {
                self.learn_label(landed)?;
            }
        }
        Ok(())
    }

    /// `at_once`: labels that landed in this epoch. Those of rows that may still be corrected,
    /// or have not come yet, wait for as long as a row waits for its label.
    pub(super) fn land_open(&mut self) -> Result<(), Error> {
        let mut landed = std::mem::take(&mut self.landed);
        landed.sort_by(|a, b| (a.time, &a.id, a.label).cmp(&(b.time, &b.id, b.label)));
        for label in landed {
            if self.joins[label.label].holds(&label.id) {
                self.learn_label(label)?;
                continue;
            }
            let wait = self.compiled.plan.labels[label.label].wait;
            self.open.deadlines.insert((label.time.saturating_add(wait), label.id.clone()));
            self.open.labels.entry(label.id.clone()).or_default().push(label);
        }
        let now = self.clock.unwrap_or(Micros::MIN);
        while self.open.deadlines.first().is_some_and(|(deadline, _)| *deadline < now) {
            let Some((_, id)) = self.open.deadlines.pop_first() else { break };
            for label in self.open.labels.remove(&id).unwrap_or_default() {
                self.learn_label(label)?;
            }
        }
        Ok(())
    }

    /// `at_once`: rows that are not settled yet.
    pub(super) fn unsettled(&self) -> u64 {
        (self.open.rows.len() + self.open.further.values().map(Vec::len).sum::<usize>()) as u64
    }
}
