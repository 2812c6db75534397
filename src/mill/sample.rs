//! A sample of the training set that depends on nothing but the rows themselves: those whose ids
//! have the smallest hashes (bottom-k, Cohen and Kaplan 2007).
//!
//! Rows leave the training set at its old end, so candidates are kept beyond the k that are needed:
//! all rows whose hash is below a threshold, which is halved whenever there are more than 4 k of
//! them. A sample is exactly the bottom k while rows arrive about as fast as they leave; after a
//! sharp fall of the rate it may have fewer rows, never others.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, bounded};
use rayon::prelude::*;
use tidemill_operators::evaluate::checks::separation;
use tidemill_operators::predictor::probability;
use tidemill_types::{Id, Micros};
use xxhash_rust::xxh3::xxh3_64;

use super::join::Scored;
use super::watch::Reference;

/// Candidates for a sample of k rows.
pub struct Sample {
    k: usize,
    below: u64,
    rows: VecDeque<Candidate>,
    /// The model whose scores are served.
    champion: Option<usize>,
    /// Rows seen so far.
    seen: u64,
}

struct Candidate {
    time: Micros,
    number: u64,
    hash: u64,
    numbers: Arc<[f64]>,
    categories: Arc<[u64]>,
    /// Of every model, for those that read them.
    margins: Box<[f64]>,
    /// By the champion; NaN where a fallback served.
    score: f64,
    label: bool,
}

/// A reference that is being made ready on another core.
pub struct Making {
    from: Receiver<Reference>,
    made: OnceLock<Arc<Reference>>,
}

impl Making {
    /// One that is there.
    pub fn made(reference: Reference) -> Making {
        let (_, from) = bounded(0);
        Making { from, made: OnceLock::from(Arc::new(reference)) }
    }

    /// The reference; waits until it is ready.
    pub fn ready(&self) -> Arc<Reference> {
        // Nothing is sent only if the sorting panicked, which ends the process.
        let made = || Arc::new(self.from.recv().unwrap_or_default());
        Arc::clone(self.made.get_or_init(made))
    }
}

/// A sample as of a line.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct SavedSample {
    below: u64,
    seen: u64,
    /// Time, number, hash, numbers, categories, margins, score, label.
    rows: Vec<(Micros, u64, u64, Vec<f64>, Vec<u64>, Vec<f64>, f64, bool)>,
}

impl Sample {
    /// A sample of `k` rows, with the scores of this model.
    pub fn new(k: u64, champion: Option<usize>) -> Sample {
        Sample { k: k as usize, below: u64::MAX, rows: VecDeque::new(), champion, seen: 0 }
    }

    /// Offers a labelled row. Rows come by label time.
    pub fn offer(&mut self, row: &Arc<Scored>, time: Micros, label: bool) {
        self.seen += 1;
        let hash = hash(&row.id);
        if hash > self.below {
            return;
        }
        let made = |m: &usize| row.versions.get(*m).is_none_or(|version| *version > 0);
        let champion = self.champion.filter(made).and_then(|m| row.margins.get(m));
        self.rows.push_back(Candidate {
            time,
            number: self.seen,
            hash,
            numbers: row.numbers.clone(),
            categories: row.categories.clone(),
            margins: row.margins.clone(),
            score: champion.map_or(f64::NAN, |margin| probability(*margin)),
            label,
        });
        if self.rows.len() > 4 * self.k {
            self.below /= 2;
            let below = self.below;
            self.rows.retain(|c| c.hash <= below);
        }
    }

    /// The sample of the rows labelled from `oldest` on, at most the newest `max_rows`; older ones
    /// are forgotten. Each column is being sorted beside what comes next, so that nobody has to when
    /// a model takes over.
    pub fn take(&mut self, oldest: Micros, max_rows: u64) -> Making {
        let first = self.seen.saturating_sub(max_rows);
        while self.rows.front().is_some_and(|c| c.time < oldest || c.number <= first) {
            self.rows.pop_front();
        }
        let order = self.smallest(|_| true);
        let row =
            |c: &Candidate| (Arc::clone(&c.numbers), Arc::clone(&c.categories), c.score, c.label);
        let rows: Vec<Row> = order.into_iter().map(row).collect();
        let (to, made) = bounded(1);
        rayon::spawn(move || drop(to.send(sort(&rows))));
        Making { from: made, made: OnceLock::new() }
    }

    /// Whether so many rows that were labelled from this time on are held, or as many as a sample has.
    pub fn has_from(&self, from: Micros, rows: usize) -> bool {
        self.rows.iter().filter(|c| c.time >= from).count() >= rows.min(self.k)
    }

    /// The scores that `of` gives to the sample of the rows labelled from this time on, from their numbers, categories
    /// and the margins of the models before; in order.
    pub fn scores(
        &self,
        from: Micros,
        of: impl Fn(&[f64], &[u64], &[f64]) -> f64 + Sync,
    ) -> Vec<f64> {
        let order = self.smallest(|c| c.time >= from);
        let score = |c: &&Candidate| of(&c.numbers, &c.categories, &c.margins);
        let scores: Vec<f64> = order.par_iter().map(score).collect();
        sorted(scores.into_iter().filter(|score| !score.is_nan()))
    }

    /// The k rows with the smallest hashes of those wanted.
    fn smallest(&self, wanted: impl Fn(&Candidate) -> bool) -> Vec<&Candidate> {
        let mut order: Vec<&Candidate> = self.rows.iter().filter(|c| wanted(c)).collect();
        order.sort_by_key(|c| (c.hash, c.number));
        order.truncate(self.k);
        order
    }

    /// What is held, for a line.
    pub fn save(&self) -> SavedSample {
        let row = |c: &Candidate| {
            let (numbers, categories) = (c.numbers.to_vec(), c.categories.to_vec());
            (c.time, c.number, c.hash, numbers, categories, c.margins.to_vec(), c.score, c.label)
        };
        SavedSample {
            below: self.below,
            seen: self.seen,
            rows: self.rows.iter().map(row).collect(),
        }
    }

    /// Goes on from what was saved.
    pub fn resume(&mut self, saved: SavedSample) {
        (self.below, self.seen) = (saved.below, saved.seen);
        let rows = saved.rows.into_iter();
        self.rows = rows
            .map(|(time, number, hash, numbers, categories, margins, score, label)| {
                let (numbers, categories) = (numbers.into(), categories.into());
                let margins = margins.into();
                Candidate { time, number, hash, numbers, categories, margins, score, label }
            })
            .collect();
    }
}

type Row = (Arc<[f64]>, Arc<[u64]>, f64, bool);

fn sort(rows: &[Row]) -> Reference {
    let (width, depth) = rows.first().map_or((0, 0), |(n, c, ..)| (n.len(), c.len()));
    let mut categories: Vec<Vec<u64>> =
        (0..depth).map(|i| rows.iter().map(|(_, c, ..)| c[i]).collect()).collect();
    categories.iter_mut().for_each(|column| column.sort_unstable());
    Reference {
        numbers: (0..width).map(|i| sorted(rows.iter().map(|(n, ..)| n[i]))).collect(),
        categories,
        scores: sorted(rows.iter().map(|row| row.2).filter(|score| !score.is_nan())),
        separation: (0..width).map(|i| separated(rows, i)).collect(),
    }
}

/// The AUC of a column alone.
fn separated(rows: &[Row], i: usize) -> f64 {
    let (column, labels): (Vec<f64>, Vec<bool>) =
        rows.iter().map(|(n, _, _, l)| (n[i], *l)).unzip();
    separation(&column, &labels)
}

fn sorted(column: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut column: Vec<f64> = column.collect();
    column.sort_unstable_by(f64::total_cmp);
    column
}

fn hash(id: &Id) -> u64 {
    match id {
        Id::Int(i) => xxh3_64(&i.to_le_bytes()),
        Id::Text(text) => xxh3_64(text.as_bytes()),
        Id::Row(bytes) => xxh3_64(bytes),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;

    use super::*;

    fn row(id: i64) -> Arc<Scored> {
        Arc::new(Scored {
            time: 0,
            id: Id::Int(id),
            numbers: [id as f64].into(),
            categories: [].into(),
            margins: Box::new([]),
            versions: Box::new([]),
            frozen: f64::NAN,
            served: 0.5,
            base_rate: 0.5,
            columns: Arc::new(RecordBatch::new_empty(Arc::new(Schema::empty()))),
            row: 0,
        })
    }

    #[test]
    fn a_sample_is_the_bottom_k_of_what_is_in_the_window() {
        let mut sample = Sample::new(50, None);
        for id in 0..5_000 {
            sample.offer(&row(id), id, false);
            if id % 500 == 499 && id >= 2_000 {
                let oldest = id - 1_999;
                let mut wanted: Vec<(u64, i64)> =
                    (oldest..=id).map(|i| (hash(&Id::Int(i)), i)).collect();
                wanted.sort_unstable();
                wanted.truncate(50);
                let found = sample.take(oldest, 1_000_000).ready();
                let wanted = sorted(wanted.iter().map(|(_, i)| *i as f64));
                assert_eq!(found.numbers[0], wanted);
            }
        }
        assert!(sample.rows.len() <= 200);
    }

    #[test]
    fn the_newest_rows_are_what_counts() {
        let mut sample = Sample::new(100, None);
        (0..100).for_each(|id| sample.offer(&row(id), id, false));
        let found = sample.take(i64::MIN, 5).ready();
        assert_eq!(found.numbers[0], [95.0, 96.0, 97.0, 98.0, 99.0]);
    }
}
