//! Drift: the rows of the last days against the training set of the live model, and the loss.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use tidemill_config::plan::{DriftOf, DriftPlan};
use tidemill_operators::drift::{
    Build, CategoryStatistic, DETECTORS, Monitor, Statistic, StatisticFactory,
};
use tidemill_types::drift::{Level, Reading};
use tidemill_types::{Error, Micros, Schema};

use super::matrix::{self, Matrix};

/// The rows that a live model was trained on, thinned out: what drift is measured against. Columns
/// are sorted, each by itself.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// One column a numeric feature; NaN stands for NULL.
    pub numbers: Vec<Vec<f64>>,
    /// One column a text feature, hashed; 0 stands for NULL.
    pub categories: Vec<Vec<u64>>,
    /// The scores that the model that makes what is served gave to these rows when they came, if it is another one. None
    /// of what a fallback served; empty where they are not known, and then scores are not compared.
    pub scores: Vec<f64>,
    /// The AUC of each numeric feature alone, from a half on.
    pub separation: Vec<f64>,
}

/// Something a detector said that matters: it got worse, or it says drift.
#[derive(Clone, Debug)]
pub struct Said {
    /// The detector.
    pub detector: &'static str,
    /// The feature, `score` or `loss`.
    pub of: Arc<str>,
    /// What it said.
    pub reading: Reading,
    /// Whether this is worse than what it said before.
    pub raised: bool,
    /// Whether it says drift and did not at the reading before, whatever that was compared with.
    pub begun: bool,
}

impl Said {
    /// A version of this model was aborted or rolled back on this evidence, an e-value.
    pub fn of_rollout(model: Arc<str>, worse: f64) -> Said {
        let p_value = Some((1.0 / worse).min(1.0));
        let reading = Reading { statistic: worse, p_value, level: Level::Drift };
        Said { detector: "sequential", of: model, reading, raised: true, begun: true }
    }

    /// The word for the level.
    pub fn level_name(&self) -> &'static str {
        match self.reading.level {
            Level::Stable => "stable",
            Level::Warning => "warning",
            Level::Drift => "drift",
        }
    }
}

/// What one value of a row is watched as.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Number(usize),
    Category(usize),
    Score,
}

enum Counter {
    Number(Box<dyn Statistic>),
    Category(Box<dyn CategoryStatistic>),
}

/// What is counted, row by row.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub enum Values {
    /// NaN stands for NULL.
    Numbers(VecDeque<f64>),
    /// Hashed; 0 stands for NULL.
    Categories(VecDeque<u64>),
}

/// A statistic of one feature. Rows are named by their place among those that are held.
pub(super) struct Detector {
    name: &'static str,
    counter: Counter,
    /// Where each row was located, of as many as were.
    places: VecDeque<u32>,
    /// Which rows are counted.
    counted: Range<usize>,
    /// What was read ahead.
    ahead: VecDeque<Option<Reading>>,
    pub(super) before: Level,
    /// Whether it said drift at its last reading; a new reference does not change that.
    pub(super) stands: bool,
    /// The largest reading since it was last asked for.
    pub(super) largest: Option<f64>,
    newest: Option<Reading>,
}

pub(super) struct Watched {
    of: Arc<str>,
    column: Column,
    pub(super) values: Values,
    pub(super) detectors: Vec<Detector>,
}

/// Readings ahead at most: they are held until their time comes.
pub const AHEAD: usize = 64;

/// One `[drift.*]` section.
///
/// A reading is a function of the rows in the window and of the reference, and the features of a
/// bundle are known when it begins. So they are read for all of the bundle at once, feature by
/// feature: one reference at a time is in the cache, and features are shared out among the machine's
/// cores once a bundle. The score is read when its time comes. A new reference, or a row that is
/// refused, takes the readings ahead back.
pub struct Watch {
    /// As planned.
    pub plan: DriftPlan,
    factories: Vec<(&'static str, Box<dyn StatisticFactory>)>,
    pub(super) monitors: Vec<(&'static str, Box<dyn Monitor>, Level)>,
    pub(super) watched: Vec<Watched>,
    /// Event times of the rows that are held: the window, and what waits for its scores.
    pub(super) times: VecDeque<Micros>,
    /// How many of them have their scores.
    pub(super) scored: usize,
    /// Event times of the scores that are held: of one version, so that they may be fewer than the rows.
    pub(super) score_times: VecDeque<Micros>,
    /// What was read ahead: for when.
    ahead: VecDeque<Micros>,
    /// A row of this bundle was refused; others of it may be.
    careful: bool,
}

impl Watch {
    /// A watch without a reference: it says nothing yet.
    ///
    /// # Errors
    /// Only what the static check should have found.
    pub fn new(plan: &DriftPlan, features: &Schema) -> Result<Watch, Error> {
        let checked = |e| Error::internal(format!("a detector passed the check: {e:?}"));
        let mut factories = Vec::new();
        let mut monitors = Vec::new();
        for section in &plan.detect {
            let entry = DETECTORS.iter().find(|d| d.name == section.kind.value);
            let entry = entry.ok_or_else(|| Error::internal("a detector is not there"))?;
            match entry.build {
                Build::Statistic(build) => {
                    factories.push((entry.name, build(section).map_err(checked)?));
                }
                Build::Monitor(build) => {
                    monitors.push((entry.name, build(section).map_err(checked)?, Level::Stable));
                }
            }
        }
        let (numbers, texts) = matrix::names(features);
        let mut columns = Vec::new();
        if let DriftOf::Inputs { features: watched, score } = &plan.of {
            for feature in watched {
                let name = &features.fields[*feature].name;
                let column = match numbers.iter().position(|n| n == name) {
                    Some(number) => Column::Number(number),
                    None => Column::Category(texts.iter().position(|n| n == name).unwrap_or(0)),
                };
                columns.push((Arc::from(name.as_str()), column));
            }
            if *score {
                columns.push((Arc::from("score"), Column::Score));
            }
        }
        let watched = columns.into_iter().map(|(of, column)| Watched {
            of,
            column,
            values: match column {
                Column::Category(_) => Values::Categories(VecDeque::new()),
                Column::Number(_) | Column::Score => Values::Numbers(VecDeque::new()),
            },
            detectors: Vec::new(),
        });
        Ok(Watch {
            plan: plan.clone(),
            factories,
            monitors,
            watched: watched.collect(),
            times: VecDeque::new(),
            scored: 0,
            score_times: VecDeque::new(),
            ahead: VecDeque::new(),
            careful: false,
        })
    }

    /// Takes a new reference of the features, the score, or both; the rows in the window will be counted
    /// against it.
    pub fn refer_to(&mut self, reference: &Reference, features: bool, score: bool) {
        let factories = &self.factories;
        if features {
            self.ahead.clear();
        }
        let referred = |watched: &&mut Watched| match watched.column {
            Column::Score => score,
            Column::Number(_) | Column::Category(_) => features,
        };
        self.watched.par_iter_mut().filter(referred).for_each(|watched| {
            let stood = |name: &str| watched.detectors.iter().any(|d| d.name == name && d.stands);
            let counter = |factory: &dyn StatisticFactory| match watched.column {
                Column::Number(i) => factory.numbers(&reference.numbers[i]).map(Counter::Number),
                Column::Score if reference.scores.is_empty() => None,
                Column::Score => factory.numbers(&reference.scores).map(Counter::Number),
                Column::Category(i) => {
                    factory.categories(&reference.categories[i]).map(Counter::Category)
                }
            };
            let detectors = factories.iter().filter_map(|(name, factory)| {
                Some(Detector {
                    name,
                    counter: counter(factory.as_ref())?,
                    places: VecDeque::new(),
                    counted: 0..0,
                    ahead: VecDeque::new(),
                    before: Level::Stable,
                    stands: stood(name),
                    largest: None,
                    newest: None,
                })
            });
            watched.detectors = detectors.collect();
        });
    }

    /// Whether rows are watched at all.
    pub fn watches_rows(&self) -> bool {
        !self.watched.is_empty() && !self.factories.is_empty()
    }

    /// Takes the rows of a bundle, which will be scored or refused in their order.
    pub fn bundle(&mut self, rows: &Matrix) {
        self.careful = false;
        self.times.extend(&rows.times);
        for watched in &mut self.watched {
            let n = rows.times.len();
            match (&mut watched.values, watched.column) {
                (Values::Numbers(values), Column::Number(i)) => {
                    values.extend((0..n).map(|row| rows.numbers(row)[i]));
                }
                (Values::Categories(values), Column::Category(i)) => {
                    values.extend((0..n).map(|row| rows.categories(row)[i]));
                }
                _ => {}
            }
        }
    }

    /// Forgets the scores in the window: from now on another version makes them.
    pub fn begin_scores(&mut self) {
        self.score_times.clear();
        for watched in self.watched.iter_mut().filter(|w| w.column == Column::Score) {
            for detector in &mut watched.detectors {
                detector.seek(0..0);
                detector.places.clear();
            }
            if let Values::Numbers(values) = &mut watched.values {
                values.clear();
            }
        }
    }

    /// The next row of the bundle got this score, which is held if the versions in charge made it.
    pub fn scored(&mut self, score: f64, in_charge: bool) {
        let time = self.times.get(self.scored).copied();
        self.scored += 1;
        let Some(time) = time.filter(|_| in_charge) else { return };
        self.score_times.push_back(time);
        for watched in self.watched.iter_mut().filter(|w| w.column == Column::Score) {
            if let Values::Numbers(values) = &mut watched.values {
                values.push_back(score);
            }
        }
    }

    /// The next row of the bundle was refused.
    pub fn refused(&mut self) {
        self.careful = true;
        self.ahead.clear();
        self.times.remove(self.scored);
        for watched in self.watched.iter_mut().filter(|w| w.column != Column::Score) {
            match &mut watched.values {
                Values::Numbers(values) => drop(values.remove(self.scored)),
                Values::Categories(values) => drop(values.remove(self.scored)),
            }
            for detector in watched.detectors.iter_mut().filter(|d| d.places.len() > self.scored) {
                detector.seek(0..self.scored);
                detector.places.remove(self.scored);
            }
        }
    }

    /// Reads every statistic as of a time; what matters of it. `later` are the times of the next
    /// readings, at most [`AHEAD`], as far as all rows before them are here.
    pub fn read(&mut self, now: Micros, later: &[Micros]) -> Vec<Said> {
        let oldest = now.saturating_sub(self.plan.window);
        let old = self.times.range(..self.scored).take_while(|time| **time < oldest).count();
        let window = old..self.scored;
        if self.ahead.front() != Some(&now) {
            self.look(now, window.clone(), later);
        }
        self.ahead.pop_front();
        let old_scores = self.score_times.iter().take_while(|time| **time < oldest).count();
        let mut said = Vec::new();
        for watched in &mut self.watched {
            let score = watched.column == Column::Score;
            if score {
                let scores = old_scores..self.score_times.len();
                watched.look(std::slice::from_ref(&scores));
            }
            watched.tell(&mut said);
            watched.forget(if score { old_scores } else { old });
        }
        self.times.drain(..old);
        self.score_times.drain(..old_scores);
        self.scored -= old;
        said
    }

    /// Reads the features now, and ahead.
    fn look(&mut self, now: Micros, window: Range<usize>, later: &[Micros]) {
        let (mut from, mut to) = (window.start, window.end);
        self.ahead = [now].into();
        let mut looks = vec![window];
        for &time in if self.careful { &[] } else { later } {
            to += self.times.range(to..).take_while(|t| **t < time).count();
            let oldest = time.saturating_sub(self.plan.window);
            from += self.times.range(from..to).take_while(|t| **t < oldest).count();
            self.ahead.push_back(time);
            looks.push(from..to);
        }
        self.watched.par_iter_mut().filter(|w| w.column != Column::Score).for_each(|watched| {
            watched.look(&looks);
        });
    }

    /// The detectors over rows, each with its bounds of warning and drift.
    pub fn bounds(&self) -> impl Iterator<Item = (&'static str, (f64, f64))> {
        self.factories.iter().map(|(name, factory)| (*name, factory.bounds()))
    }

    /// The newest reading of each statistic and feature, with the bounds of its detector.
    pub fn newest(&self) -> impl Iterator<Item = (Said, Option<(f64, f64)>)> {
        let bounds = |name| self.bounds().find(|(known, _)| *known == name).map(|(_, b)| b);
        self.watched.iter().flat_map(move |watched| {
            watched.detectors.iter().filter_map(move |detector| {
                let (detector, reading) = (detector.name, detector.newest?);
                let of = Arc::clone(&watched.of);
                Some((
                    Said { detector, of, reading, raised: false, begun: false },
                    bounds(detector),
                ))
            })
        })
    }

    /// Detector, feature and largest reading since the last call, of all statistics.
    pub fn take_largest(&mut self) -> Vec<(&'static str, Arc<str>, f64)> {
        let mut found = Vec::new();
        for watched in &mut self.watched {
            for detector in &mut watched.detectors {
                if let Some(largest) = detector.largest.take() {
                    found.push((detector.name, Arc::clone(&watched.of), largest));
                }
            }
        }
        found
    }

    /// Takes the loss of a served score, in the order in which labels are learnt.
    pub fn loss(&mut self, loss: f64) -> Vec<Said> {
        let mut said = Vec::new();
        if self.plan.of != DriftOf::Loss {
            return said;
        }
        for (detector, monitor, before) in &mut self.monitors {
            let level = monitor.update(loss);
            let raised = level > *before;
            *before = level;
            if raised {
                let reading = Reading { statistic: monitor.estimate(), p_value: None, level };
                let begun = level == Level::Drift;
                said.push(Said { detector, of: Arc::from("loss"), reading, raised, begun });
            }
        }
        said
    }
}

impl Watched {
    /// Reads the statistics of each of these windows, in turn.
    fn look(&mut self, windows: &[Range<usize>]) {
        let Watched { values, detectors, .. } = self;
        let end = windows.iter().map(|window| window.end).max().unwrap_or(0);
        for detector in detectors {
            let located = detector.places.len()..end.max(detector.places.len());
            match (&detector.counter, &*values) {
                (Counter::Number(counter), Values::Numbers(values)) => {
                    detector.places.extend(values.range(located).map(|v| counter.locate(*v)));
                }
                (Counter::Category(counter), Values::Categories(values)) => {
                    detector.places.extend(values.range(located).map(|v| counter.locate(*v)));
                }
                _ => return,
            }
            detector.ahead.clear();
            for window in windows {
                detector.seek(window.clone());
                detector.ahead.push_back(match &detector.counter {
                    Counter::Number(statistic) => statistic.read(),
                    Counter::Category(statistic) => statistic.read(),
                });
            }
        }
    }

    /// What the oldest of the readings says that matters.
    fn tell(&mut self, said: &mut Vec<Said>) {
        for detector in &mut self.detectors {
            let Some(reading) = detector.ahead.pop_front().flatten() else { continue };
            let raised = reading.level > detector.before;
            detector.before = reading.level;
            let drift = reading.level == Level::Drift;
            let begun = drift && !std::mem::replace(&mut detector.stands, drift);
            let statistic = reading.statistic;
            detector.largest = Some(detector.largest.map_or(statistic, |l| l.max(statistic)));
            detector.newest = Some(reading);
            if raised || drift {
                let of = Arc::clone(&self.of);
                said.push(Said { detector: detector.name, of, reading, raised, begun });
            }
        }
    }

    /// Lets the oldest rows go, which are counted no more.
    fn forget(&mut self, old: usize) {
        match &mut self.values {
            Values::Numbers(values) => drop(values.drain(..old)),
            Values::Categories(values) => drop(values.drain(..old)),
        }
        for detector in &mut self.detectors {
            detector.places.drain(..old);
            detector.counted = detector.counted.start - old..detector.counted.end - old;
        }
    }
}

impl Detector {
    /// Counts these rows, and no others.
    fn seek(&mut self, rows: Range<usize>) {
        let counted = std::mem::replace(&mut self.counted, rows.clone());
        for come in [counted.end..rows.end, rows.start..counted.start] {
            for at in self.places.range(come.start..come.end.max(come.start)) {
                match &mut self.counter {
                    Counter::Number(statistic) => statistic.insert(*at),
                    Counter::Category(statistic) => statistic.insert(*at),
                }
            }
        }
        for gone in [counted.start..rows.start, rows.end..counted.end] {
            for at in self.places.range(gone.start..gone.end.max(gone.start)) {
                match &mut self.counter {
                    Counter::Number(statistic) => statistic.evict(*at),
                    Counter::Category(statistic) => statistic.evict(*at),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
