//! Drift: the rows of the last days against the training set of the live model, and the loss.

use std::collections::VecDeque;

use tidemill_config::plan::{DriftOf, DriftPlan};
use tidemill_operators::drift::{
    Build, CategoryStatistic, DETECTORS, Monitor, Statistic, StatisticFactory,
};
use tidemill_types::drift::{Level, Reading};
use tidemill_types::{Error, Micros, Schema};

use super::matrix;

/// The rows that a live model was trained on, thinned out: what drift is measured against.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// One column a numeric feature; NaN stands for NULL.
    pub numbers: Vec<Vec<f64>>,
    /// One column a text feature, hashed; 0 stands for NULL.
    pub categories: Vec<Vec<u64>>,
    /// The scores that were served for these rows.
    pub scores: Vec<f64>,
}

/// Something a detector said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The detector.
    pub detector: &'static str,
    /// The feature, `score` or `loss`.
    pub of: String,
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

struct Watched {
    of: String,
    column: Column,
    detectors: Vec<(&'static str, Counter, Level)>,
}

/// One `[drift.*]` section.
pub struct Watch {
    /// As planned.
    pub plan: DriftPlan,
    factories: Vec<(&'static str, Box<dyn StatisticFactory>)>,
    monitors: Vec<(&'static str, Box<dyn Monitor>, Level)>,
    columns: Vec<(String, Column)>,
    watched: Vec<Watched>,
    /// The rows in the window: time, numbers, categories and score, to be counted again when the
    /// reference changes, and where each was counted.
    rows: VecDeque<Seen>,
}

struct Seen {
    time: Micros,
    numbers: Box<[f64]>,
    categories: Box<[u64]>,
    score: f64,
    at: Vec<u32>,
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
                columns.push((name.clone(), column));
            }
            if *score {
                columns.push(("score".to_string(), Column::Score));
            }
        }
        Ok(Watch {
            plan: plan.clone(),
            factories,
            monitors,
            columns,
            watched: Vec::new(),
            rows: VecDeque::new(),
        })
    }

    /// Takes a new reference; the rows in the window are counted against it.
    pub fn refer_to(&mut self, reference: &Reference) {
        self.watched = self
            .columns
            .iter()
            .map(|(of, column)| {
                let counter = |factory: &dyn StatisticFactory| match column {
                    Column::Number(i) => {
                        factory.numbers(&reference.numbers[*i]).map(Counter::Number)
                    }
                    Column::Score => factory.numbers(&reference.scores).map(Counter::Number),
                    Column::Category(i) => {
                        factory.categories(&reference.categories[*i]).map(Counter::Category)
                    }
                };
                let made = self.factories.iter().filter_map(|(name, factory)| {
                    Some((*name, counter(factory.as_ref())?, Level::Stable))
                });
                Watched { of: of.clone(), column: *column, detectors: made.collect() }
            })
            .collect();
        let mut rows = std::mem::take(&mut self.rows);
        for row in &mut rows {
            row.at = count(&mut self.watched, &row.numbers, &row.categories, row.score);
        }
        self.rows = rows;
    }

    /// Whether rows are watched at all.
    pub fn watches_rows(&self) -> bool {
        !self.columns.is_empty() && !self.factories.is_empty()
    }

    /// Counts a scored row.
    pub fn row(&mut self, time: Micros, numbers: &[f64], categories: &[u64], score: f64) {
        let at = count(&mut self.watched, numbers, categories, score);
        let (numbers, categories) = (numbers.into(), categories.into());
        self.rows.push_back(Seen { time, numbers, categories, score, at });
    }

    /// Reads every statistic as of a time.
    pub fn read(&mut self, now: Micros) -> Vec<Said> {
        let oldest = now.saturating_sub(self.plan.window);
        while self.rows.front().is_some_and(|row| row.time < oldest) {
            let Some(row) = self.rows.pop_front() else { break };
            evict(&mut self.watched, &row.at);
        }
        let mut said = Vec::new();
        for watched in &mut self.watched {
            for (detector, counter, before) in &mut watched.detectors {
                let reading = match counter {
                    Counter::Number(statistic) => statistic.read(),
                    Counter::Category(statistic) => statistic.read(),
                };
                let Some(reading) = reading else { continue };
                let raised = reading.level > *before;
                *before = reading.level;
                said.push(Said { detector, of: watched.of.clone(), reading, raised });
            }
        }
        said
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
                said.push(Said { detector, of: "loss".to_string(), reading, raised });
            }
        }
        said
    }
}

/// Counts a row in every statistic; where it was counted, in order.
fn count(watched: &mut [Watched], numbers: &[f64], categories: &[u64], score: f64) -> Vec<u32> {
    let mut places = Vec::with_capacity(watched.len() * 2);
    for watched in watched {
        for (_, counter, _) in &mut watched.detectors {
            let at = match (counter, watched.column) {
                (Counter::Number(statistic), column) => {
                    let value = match column {
                        Column::Number(i) => numbers[i],
                        _ => score,
                    };
                    let at = statistic.locate(value);
                    statistic.insert(at);
                    at
                }
                (Counter::Category(statistic), Column::Category(i)) => {
                    let at = statistic.locate(categories[i]);
                    statistic.insert(at);
                    at
                }
                (Counter::Category(_), _) => 0,
            };
            places.push(at);
        }
    }
    places
}

fn evict(watched: &mut [Watched], places: &[u32]) {
    let mut places = places.iter();
    for watched in watched {
        for (_, counter, _) in &mut watched.detectors {
            let Some(at) = places.next() else { return };
            match counter {
                Counter::Number(statistic) => statistic.evict(*at),
                Counter::Category(statistic) => statistic.evict(*at),
            }
        }
    }
}
