//! How good the scores were: every contender over the same labelled rows, by week, by month and over
//! the spans that the pipeline names.

use std::collections::VecDeque;

use tidemill_operators::evaluate::log_loss::log_loss;
use tidemill_operators::evaluate::{Evaluation, Summary};
use tidemill_types::Micros;
use tidemill_types::time::civil_from_days;

use crate::observe::summary::{Contender, Quality, Span};
use crate::report::{Bin, Calibration, Weekly, WeeklyQuality};

const DAY: Micros = 86_400_000_000;
/// A week.
pub const WEEK: Micros = 7 * DAY;
/// 1970-01-01 was a Thursday: weeks begin on Mondays.
pub const MONDAY: Micros = 4 * DAY;

/// Rows whose losses make up the recent log loss.
const RECENT: usize = 5_000;

/// Scores that each measure keeps exactly, 8 bytes each; beyond them the area under the curve is
/// computed from bins.
const EXACT: usize = 4_000_000;

/// Measures of all contenders.
pub struct Judge {
    contenders: Vec<String>,
    spans: Vec<(String, Micros, Micros)>,
    pub(super) by_week: Evaluation,
    pub(super) by_month: Evaluation,
    pub(super) by_span: Vec<Evaluation>,
    /// Losses of what was served, and their sum.
    pub(super) recent: (VecDeque<f64>, f64),
}

impl Judge {
    /// For these contenders, what was served first.
    pub fn new(contenders: Vec<String>, spans: Vec<(String, Micros, Micros)>) -> Judge {
        let n = contenders.len();
        let evaluation = || Evaluation::with_limit(n, EXACT);
        Judge {
            by_week: evaluation(),
            by_month: evaluation(),
            by_span: spans.iter().map(|_| evaluation()).collect(),
            recent: (VecDeque::new(), 0.0),
            contenders,
            spans,
        }
    }

    /// Takes a labelled row: a probability for each contender, NaN for none.
    pub fn add(&mut self, time: Micros, label: bool, scores: &[f64]) {
        self.by_week.add((time - MONDAY).div_euclid(WEEK), label, scores);
        let (year, month, _) = civil_from_days(time.div_euclid(DAY));
        self.by_month.add(year * 12 + month - 1, label, scores);
        for ((_, from, to), evaluation) in self.spans.iter().zip(&mut self.by_span) {
            if (*from..*to).contains(&time) {
                evaluation.add(0, label, scores);
            }
        }
        let (losses, sum) = &mut self.recent;
        if let Some(served) = scores.first().filter(|s| !s.is_nan()) {
            let loss = log_loss(label, *served);
            losses.push_back(loss);
            *sum += loss;
            if losses.len() > RECENT {
                *sum -= losses.pop_front().unwrap_or(0.0);
            }
        }
    }

    /// Log loss of what was served, over the rows labelled last; for people.
    pub fn recent_log_loss(&self) -> Option<f64> {
        let (losses, sum) = &self.recent;
        (!losses.is_empty()).then(|| sum / losses.len() as f64)
    }

    /// The same once so many rows were labelled that it means something.
    pub fn settled_log_loss(&self) -> Option<f64> {
        self.recent_log_loss().filter(|_| self.recent.0.len() == RECENT)
    }

    /// The spans of the summary: those of the pipeline, then months.
    pub fn spans(&self) -> Vec<Span> {
        let named = self.spans.iter().map(|(name, from, to)| (name.clone(), *from, *to));
        let months = self.by_month.buckets().map(|month| {
            let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
            (format!("{year}-{month:02}"), first(year, month), first(year, month + 1))
        });
        named.chain(months).map(|(name, from, to)| Span { name, from, to }).collect()
    }

    /// Every contender over everything and over [`Judge::spans`].
    pub fn contenders(&self) -> Vec<Contender> {
        let of = |c: usize, name: &String| {
            let named = self.by_span.iter().map(|e| quality(e.bucket(0, c)));
            let months: Vec<i64> = self.by_month.buckets().collect();
            let months = months.into_iter().map(|month| quality(self.by_month.bucket(month, c)));
            Contender {
                name: name.clone(),
                whole: quality(self.by_month.total(c)),
                spans: named.chain(months).collect(),
            }
        };
        self.contenders.iter().enumerate().map(|(c, name)| of(c, name)).collect()
    }

    /// Every contender by week.
    pub fn weekly(&self) -> Weekly {
        let buckets: Vec<i64> = self.by_week.buckets().collect();
        let of = |c: usize, name: &String| {
            let weeks = buckets.iter().map(|week| quality(self.by_week.bucket(*week, c)));
            let (log_loss, auc) = weeks.map(|q| (q.log_loss, q.auc)).unzip();
            WeeklyQuality { name: name.clone(), log_loss, auc }
        };
        Weekly {
            weeks: buckets.iter().map(|week| week * WEEK + MONDAY).collect(),
            contenders: self.contenders.iter().enumerate().map(|(c, n)| of(c, n)).collect(),
        }
    }

    /// Predicted against observed, for each contender.
    pub fn calibrations(&self) -> Vec<Calibration> {
        let of = |(c, name): (usize, &String)| {
            let bins = self.by_month.total(c)?.calibration.into_iter().filter(|b| b.rows > 0);
            let bins = bins.map(|b| Bin { predicted: b.score, observed: b.rate, rows: b.rows });
            Some(Calibration { contender: name.clone(), bins: bins.collect() })
        };
        self.contenders.iter().enumerate().filter_map(of).collect()
    }
}

/// The week that an event time belongs to, by its beginning.
pub fn week_of(time: Micros) -> Micros {
    (time - MONDAY).div_euclid(WEEK) * WEEK + MONDAY
}

fn first(year: i64, month: i64) -> Micros {
    let (year, month) = if month > 12 { (year + 1, 1) } else { (year, month) };
    tidemill_types::time::days_from_civil(year, month, 1) * DAY
}

fn quality(summary: Option<Summary>) -> Quality {
    match summary {
        None => Quality::default(),
        Some(found) => {
            let log_loss = (found.rows > 0).then_some(found.log_loss);
            Quality { rows: found.rows, log_loss, auc: found.auc }
        }
    }
}
