//! Prequential evaluation: each row is scored before it is learnt, and judged when its label comes.
//!
//! An [`Evaluation`] keeps what every contender said about the same rows, by bucket (a month, a
//! week); a [`gate::Gate`] compares two models over the last rows and says which should go on; a
//! [`sequential::Duel`] may be looked at after every row and still keeps its error bound. All
//! sums are exact in their last place ([`sum::Sum`]) and ranks are integers, so that a measure
//! depends on the rows and not on their order.

use std::collections::BTreeMap;

pub mod auc;
pub mod checks;
pub mod gate;
pub mod in_order;
pub mod log_loss;
pub mod sequential;
pub mod sum;

use auc::Ranking;
use sum::Sum;

/// Scores kept exactly, all contenders together: 8 bytes each.
const KEPT: usize = 20_000_000;

/// What is known about a contender in a bucket, or in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Rows that it scored.
    pub rows: u64,
    /// Rows it had no score for (NaN); they are in no measure.
    pub unscored: u64,
    /// Share of label 1.
    pub base_rate: f64,
    /// Mean log loss in nats, scores kept within 1e-15 of 0 and 1.
    pub log_loss: f64,
    /// Mean squared difference of score and label.
    pub brier: f64,
    /// Area under the ROC curve, ties half; nothing where only one label occurs.
    pub auc: Option<f64>,
    /// Whether the area was computed from binned scores (see [`auc`]); all else is exact always.
    pub approximate: bool,
    /// Ten equal-width bins of the score.
    pub calibration: [Bin; 10],
}

/// A calibration bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Rows.
    pub rows: u64,
    /// Their mean score; 0 without rows.
    pub score: f64,
    /// Their share of label 1; 0 without rows.
    pub rate: f64,
}

/// Running measures of several contenders, by bucket.
pub struct Evaluation {
    contenders: usize,
    limit: usize,
    kept: usize,
    exact: bool,
    buckets: BTreeMap<i64, Vec<Tally>>,
}

impl Evaluation {
    /// For so many contenders. Exact up to 20 million scores; beyond that, areas are approximate.
    pub fn new(contenders: usize) -> Evaluation {
        Evaluation::with_limit(contenders, KEPT)
    }

    /// The same with another number of scores kept exactly.
    pub fn with_limit(contenders: usize, limit: usize) -> Evaluation {
        Evaluation { contenders, limit, kept: 0, exact: true, buckets: BTreeMap::new() }
    }

    /// Takes a labelled row: a probability per contender, NaN for none. Missing contenders count as
    /// NaN.
    pub fn add(&mut self, bucket: i64, label: bool, scores: &[f64]) {
        let (contenders, exact) = (self.contenders, self.exact);
        let tallies =
            self.buckets.entry(bucket).or_insert_with(|| vec![Tally::new(exact); contenders]);
        for (i, tally) in tallies.iter_mut().enumerate() {
            tally.add(label, scores.get(i).copied().unwrap_or(f64::NAN));
        }
        self.kept += contenders;
        if self.exact && self.kept > self.limit {
            self.exact = false;
            self.buckets.values_mut().flatten().for_each(|tally| tally.ranking.fold());
        }
    }

    /// What is kept, by bucket: for whoever saves it.
    pub fn tallies(&self) -> &BTreeMap<i64, Vec<Tally>> {
        &self.buckets
    }

    /// Whether every score is kept, and how many are or were.
    pub fn kept(&self) -> (bool, usize) {
        (self.exact, self.kept)
    }

    /// Goes on from what [`Evaluation::tallies`] and [`Evaluation::kept`] told of the same contenders.
    pub fn resume(&mut self, exact: bool, kept: usize, buckets: BTreeMap<i64, Vec<Tally>>) {
        (self.exact, self.kept, self.buckets) = (exact, kept, buckets);
    }

    /// The buckets seen, rising.
    pub fn buckets(&self) -> impl Iterator<Item = i64> {
        self.buckets.keys().copied()
    }

    /// A contender in one bucket; nothing before it has scored a row there. Sorts the bucket's
    /// scores.
    pub fn bucket(&self, bucket: i64, contender: usize) -> Option<Summary> {
        self.buckets.get(&bucket)?.get(contender)?.clone().summary()
    }

    /// A contender over all buckets. Sorts all of its scores.
    pub fn total(&self, contender: usize) -> Option<Summary> {
        let mut total = Tally::new(self.exact);
        for tallies in self.buckets.values() {
            total.merge(tallies.get(contender)?);
        }
        total.summary()
    }
}

/// What is kept of a contender in a bucket; only its bytes are for others.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    rows: u64,
    unscored: u64,
    positives: u64,
    log_loss: Sum,
    brier: Sum,
    /// Rows, sum of scores and label 1, by bin.
    calibration: [(u64, Sum, u64); 10],
    ranking: Ranking,
}

impl Tally {
    fn new(exact: bool) -> Tally {
        let mut ranking = Ranking::default();
        if !exact {
            ranking.fold();
        }
        Tally {
            rows: 0,
            unscored: 0,
            positives: 0,
            log_loss: Sum::default(),
            brier: Sum::default(),
            calibration: [(0, Sum::default(), 0); 10],
            ranking,
        }
    }

    fn add(&mut self, label: bool, score: f64) {
        if score.is_nan() {
            self.unscored += 1;
            return;
        }
        let score = score.clamp(0.0, 1.0);
        let off = score - f64::from(label);
        self.rows += 1;
        self.positives += u64::from(label);
        self.log_loss.add(log_loss::log_loss(label, score));
        self.brier.add(off * off);
        let bin = &mut self.calibration[((score * 10.0) as usize).min(9)];
        bin.0 += 1;
        bin.1.add(score);
        bin.2 += u64::from(label);
        self.ranking.add(label, score);
    }

    fn merge(&mut self, other: &Tally) {
        self.rows += other.rows;
        self.unscored += other.unscored;
        self.positives += other.positives;
        self.log_loss.merge(other.log_loss);
        self.brier.merge(other.brier);
        for (mine, theirs) in self.calibration.iter_mut().zip(&other.calibration) {
            mine.0 += theirs.0;
            mine.1.merge(theirs.1);
            mine.2 += theirs.2;
        }
        self.ranking.merge(&other.ranking);
    }

    fn summary(self) -> Option<Summary> {
        let mean = |sum: Sum, rows: u64| if rows == 0 { 0.0 } else { sum.value() / rows as f64 };
        let rate = |ones: u64, rows: u64| if rows == 0 { 0.0 } else { ones as f64 / rows as f64 };
        (self.rows > 0).then(|| Summary {
            rows: self.rows,
            unscored: self.unscored,
            base_rate: rate(self.positives, self.rows),
            log_loss: mean(self.log_loss, self.rows),
            brier: mean(self.brier, self.rows),
            approximate: !self.ranking.is_exact(),
            auc: self.ranking.area(),
            calibration: self.calibration.map(|(rows, scores, ones)| Bin {
                rows,
                score: mean(scores, rows),
                rate: rate(ones, rows),
            }),
        })
    }
}
