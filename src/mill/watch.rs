//! Drift: the rows of the last days against the training set of the live model, and the loss.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;
use tidemill_config::plan::{DriftOf, DriftPlan};
use tidemill_operators::drift::{
    Build, CategoryStatistic, DETECTORS, Monitor, Statistic, StatisticFactory,
};
use tidemill_types::drift::{Level, Reading};
use tidemill_types::{Error, Micros, Schema};

use super::join::Scored;
use super::matrix;

/// The rows that a live model was trained on, thinned out: what drift is measured against. Columns
/// are sorted, each by itself.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// One column a numeric feature; NaN stands for NULL.
    pub numbers: Vec<Vec<f64>>,
    /// One column a text feature, hashed; 0 stands for NULL.
    pub categories: Vec<Vec<u64>>,
    /// The scores that were served for these rows.
    pub scores: Vec<f64>,
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
}

impl Said {
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
#[derive(Clone, Copy)]
enum Column {
    Number(usize),
    Category(usize),
    Score,
}

enum Counter {
    Number(Box<dyn Statistic>),
    Category(Box<dyn CategoryStatistic>),
}

/// A statistic of one feature, and where each row of the window was counted.
struct Detector {
    name: &'static str,
    counter: Counter,
    places: VecDeque<u32>,
    before: Level,
    /// The largest reading since it was last asked for.
    largest: Option<f64>,
}

struct Watched {
    of: Arc<str>,
    column: Column,
    detectors: Vec<Detector>,
}

/// One `[drift.*]` section.
///
/// Rows are counted when statistics are read, feature by feature: then one reference at a time is in
/// the cache, and features are shared out among the machine's cores.
pub struct Watch {
    /// As planned.
    pub plan: DriftPlan,
    factories: Vec<(&'static str, Box<dyn StatisticFactory>)>,
    monitors: Vec<(&'static str, Box<dyn Monitor>, Level)>,
    columns: Vec<(Arc<str>, Column)>,
    watched: Vec<Watched>,
    rows: VecDeque<Seen>,
    /// How many of the rows are not counted yet: the newest.
    fresh: usize,
}

/// A row in the window.
struct Seen {
    time: Micros,
    numbers: Arc<[f64]>,
    categories: Arc<[u64]>,
    score: f64,
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
        Ok(Watch {
            plan: plan.clone(),
            factories,
            monitors,
            columns,
            watched: Vec::new(),
            rows: VecDeque::new(),
            fresh: 0,
        })
    }

    /// Takes a new reference; the rows in the window will be counted against it.
    pub fn refer_to(&mut self, reference: &Reference) {
        let made = self.columns.par_iter().map(|(of, column)| {
            let counter = |factory: &dyn StatisticFactory| match column {
                Column::Number(i) => factory.numbers(&reference.numbers[*i]).map(Counter::Number),
                Column::Score => factory.numbers(&reference.scores).map(Counter::Number),
                Column::Category(i) => {
                    factory.categories(&reference.categories[*i]).map(Counter::Category)
                }
            };
            let detectors = self.factories.iter().filter_map(|(name, factory)| {
                Some(Detector {
                    name,
                    counter: counter(factory.as_ref())?,
                    places: VecDeque::new(),
                    before: Level::Stable,
                    largest: None,
                })
            });
            Watched { of: Arc::clone(of), column: *column, detectors: detectors.collect() }
        });
        self.watched = made.collect();
        self.fresh = self.rows.len();
    }

    /// Whether rows are watched at all.
    pub fn watches_rows(&self) -> bool {
        !self.columns.is_empty() && !self.factories.is_empty()
    }

    /// Takes a scored row.
    pub fn row(&mut self, row: &Scored) {
        self.rows.push_back(Seen {
            time: row.time,
            numbers: Arc::clone(&row.numbers),
            categories: Arc::clone(&row.categories),
            score: row.served,
        });
        self.fresh += 1;
    }

    /// Reads every statistic as of a time; what matters of it.
    pub fn read(&mut self, now: Micros) -> Vec<Said> {
        let oldest = now.saturating_sub(self.plan.window);
        let old = self.rows.iter().take_while(|row| row.time < oldest).count();
        let (rows, fresh) = (&self.rows, self.fresh);
        let said: Vec<Vec<Said>> =
            self.watched.par_iter_mut().map(|watched| watched.read(rows, fresh, old)).collect();
        self.rows.drain(..old);
        self.fresh = 0;
        said.into_iter().flatten().collect()
    }

    /// The detectors over rows, each with its bounds of warning and drift.
    pub fn bounds(&self) -> impl Iterator<Item = (&'static str, (f64, f64))> {
        self.factories.iter().map(|(name, factory)| (*name, factory.bounds()))
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
                said.push(Said { detector, of: Arc::from("loss"), reading, raised });
            }
        }
        said
    }
}

impl Watched {
    /// Counts the newest `fresh` rows, takes the `old` ones out, and reads.
    fn read(&mut self, rows: &VecDeque<Seen>, fresh: usize, old: usize) -> Vec<Said> {
        let Watched { of, column, detectors } = self;
        let mut said = Vec::new();
        for detector in detectors {
            let new = rows.range(rows.len() - fresh..);
            detector.places.extend(new.map(|row| detector.counter.count(*column, row)));
            for place in detector.places.drain(..old) {
                detector.counter.evict(place);
            }
            let Some(reading) = detector.counter.read() else { continue };
            let raised = reading.level > detector.before;
            detector.before = reading.level;
            let statistic = reading.statistic;
            detector.largest = Some(detector.largest.map_or(statistic, |l| l.max(statistic)));
            if raised || reading.level == Level::Drift {
                said.push(Said { detector: detector.name, of: Arc::clone(of), reading, raised });
            }
        }
        said
    }
}

impl Counter {
    /// Counts a row; where.
    fn count(&mut self, column: Column, row: &Seen) -> u32 {
        match (self, column) {
            (Counter::Number(statistic), column) => {
                let value = if let Column::Number(i) = column { row.numbers[i] } else { row.score };
                let at = statistic.locate(value);
                statistic.insert(at);
                at
            }
            (Counter::Category(statistic), Column::Category(i)) => {
                let at = statistic.locate(row.categories[i]);
                statistic.insert(at);
                at
            }
            (Counter::Category(_), _) => 0,
        }
    }

    fn evict(&mut self, at: u32) {
        match self {
            Counter::Number(statistic) => statistic.evict(at),
            Counter::Category(statistic) => statistic.evict(at),
        }
    }

    fn read(&self) -> Option<Reading> {
        match self {
            Counter::Number(statistic) => statistic.read(),
            Counter::Category(statistic) => statistic.read(),
        }
    }
}
