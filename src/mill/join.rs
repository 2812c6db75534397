//! The label join: a scored row waits for its label, for a bounded time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemill_config::plan::LabelPlan;
use tidemill_types::{Id, Micros};

/// A row as it was scored.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Event time.
    pub time: Micros,
    /// Id.
    pub id: Id,
    /// Numeric features.
    pub numbers: Arc<[f64]>,
    /// Hashed text features.
    pub categories: Arc<[u64]>,
    /// The margin of every model as live when the row was scored; NaN where it had no version.
    pub margins: Box<[f64]>,
    /// The versions that gave them.
    pub versions: Box<[u64]>,
    /// The margin of the first version that the pipeline keeps for comparison; NaN without one.
    pub frozen: f64,
    /// The probability that was served.
    pub served: f64,
    /// The mean of the labels known when it was scored; NaN before the first.
    pub base_rate: f64,
    /// The features as they were, with the rows they came with.
    pub columns: Arc<RecordBatch>,
    /// Which of those rows.
    pub row: u32,
}

/// What became of a row that was waiting.
pub enum Joined {
    /// Its label came: when, and what.
    Labelled(Arc<Scored>, Micros, f64),
    /// No label came in time.
    TimedOut(Arc<Scored>),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JoinCounts {
    /// Rows that got a label.
    pub labelled: u64,
    /// Rows whose label did not come in time.
    pub timed_out: u64,
    /// Labels for rows that had timed out or were never scored.
    pub unmatched: u64,
    /// Further labels for a row that has one.
    pub corrections: u64,
}

enum Place {
    Waiting(Arc<Scored>),
    /// Its label came, and counts when its time is over.
    Told(Arc<Scored>, f64),
    /// Known until its time is over, for further labels.
    Labelled,
}

/// A row whose label does not count yet, and the label if it came; nothing for one that had its label.
pub type Held<R> = Option<(R, Option<f64>)>;

/// Rows of one label section.
pub struct LabelJoin {
    wait: Micros,
    otherwise: Option<f64>,
    settled: bool,
    rows: HashMap<Id, Place>,
    deadlines: VecDeque<(Micros, Id)>,
    waiting: u64,
    /// What has been counted.
    pub counts: JoinCounts,
}

impl LabelJoin {
    /// A join as planned.
    pub fn new(plan: &LabelPlan) -> LabelJoin {
        LabelJoin {
            wait: plan.wait,
            otherwise: plan.otherwise,
            settled: plan.settled,
            rows: HashMap::new(),
            deadlines: VecDeque::new(),
            waiting: 0,
            counts: JoinCounts::default(),
        }
    }

    /// Rows that wait.
    pub fn pending(&self) -> u64 {
        self.waiting
    }

    /// When the time of the oldest row is over, where that may give it a label that counts.
    pub fn next_settled(&self) -> Option<Micros> {
        let counts = self.settled || self.otherwise.is_some();
        self.deadlines.front().filter(|_| counts).map(|(deadline, _)| *deadline)
    }

    /// Whether a row of this id is held, so that another one would be a duplicate.
    pub fn holds(&self, id: &Id) -> bool {
        self.rows.contains_key(id)
    }

    /// Lets a scored row wait. Rows come in event-time order.
    pub fn wait_for(&mut self, row: Arc<Scored>) {
        self.deadlines.push_back((row.time.saturating_add(self.wait), row.id.clone()));
        self.rows.insert(row.id.clone(), Place::Waiting(row));
        self.waiting += 1;
    }

    /// What is held, for a line: each deadline with its id, whether the id is still known and, if its label
    /// does not count yet, its row and the label that came.
    pub fn deadlines(&self) -> impl Iterator<Item = (Micros, &Id, Option<Held<&Arc<Scored>>>)> {
        self.deadlines.iter().map(|(deadline, id)| {
            let held = self.rows.get(id).map(|place| match place {
                Place::Waiting(row) => Some((row, None)),
                Place::Told(row, value) => Some((row, Some(*value))),
                Place::Labelled => None,
            });
            (*deadline, id, held)
        })
    }

    /// Takes back what [`LabelJoin::deadlines`] gave, in that order.
    pub fn resume(&mut self, deadline: Micros, id: Id, held: Option<Held<Arc<Scored>>>) {
        if let Some(held) = held {
            self.waiting += u64::from(held.is_some());
            let place = match held {
                Some((row, None)) => Place::Waiting(row),
                Some((row, Some(value))) => Place::Told(row, value),
                None => Place::Labelled,
            };
            self.rows.insert(id.clone(), place);
        }
        self.deadlines.push_back((deadline, id));
    }

    /// A label came.
    pub fn label(&mut self, id: &Id, time: Micros, value: f64) -> Option<Joined> {
        match self.rows.get_mut(id) {
            Some(place @ Place::Waiting(_)) => {
                let Place::Waiting(row) = place else { return None };
                let row = Arc::clone(row);
                if self.settled {
                    *place = Place::Told(row, value);
                    return None;
                }
                *place = Place::Labelled;
                self.waiting -= 1;
                self.counts.labelled += 1;
                Some(Joined::Labelled(row, time, value))
            }
            Some(Place::Labelled | Place::Told(..)) => {
                self.counts.corrections += 1;
                None
            }
            None => {
                self.counts.unmatched += 1;
                None
            }
        }
    }

    /// Rows whose time is over when the watermark stands here.
    pub fn time_out(&mut self, watermark: Micros) -> Vec<Joined> {
        let mut out = Vec::new();
        while self.deadlines.front().is_some_and(|(deadline, _)| *deadline < watermark) {
            let Some((deadline, id)) = self.deadlines.pop_front() else { break };
            let (row, value) = match self.rows.remove(&id) {
                Some(Place::Waiting(row)) => (row, self.otherwise),
                Some(Place::Told(row, value)) => (row, Some(value)),
                Some(Place::Labelled) | None => continue,
            };
            self.waiting -= 1;
            match value {
                Some(value) => {
                    self.counts.labelled += 1;
                    out.push(Joined::Labelled(row, deadline, value));
                }
                None => {
                    self.counts.timed_out += 1;
                    out.push(Joined::TimedOut(row));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use tidemill_config::plan::At;

    use super::*;

    fn row(id: i64, time: Micros) -> Arc<Scored> {
        Arc::new(Scored {
            time,
            id: Id::Int(id),
            numbers: [].into(),
            categories: [].into(),
            margins: Box::new([]),
            versions: Box::new([]),
            frozen: f64::NAN,
            served: 0.5,
            base_rate: 0.5,
            columns: Arc::new(RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))),
            row: 0,
        })
    }

    fn plan(otherwise: Option<f64>, settled: bool) -> LabelPlan {
        let text = |text: &str| At::nowhere(text.to_string());
        let (name, value) = (text("late"), text("true"));
        LabelPlan { name, source: 0, value, wait: 10, otherwise, settled }
    }

    #[test]
    fn every_row_is_accounted_for() {
        let mut join = LabelJoin::new(&plan(None, false));
        (0..4).for_each(|i| join.wait_for(row(i, i)));
        assert!(
            matches!(join.label(&Id::Int(1), 5, 1.0), Some(Joined::Labelled(_, 5, v)) if v == 1.0)
        );
        assert!(join.label(&Id::Int(1), 6, 0.0).is_none());
        assert!(join.label(&Id::Int(9), 6, 0.0).is_none());
        // Row 0 waits until 10: a watermark at 10 has not passed it, one at 11 has.
        assert!(join.time_out(10).is_empty());
        assert_eq!(join.time_out(11).len(), 1);
        assert!(join.label(&Id::Int(0), 12, 1.0).is_none());
        let wanted = JoinCounts { labelled: 1, timed_out: 1, unmatched: 2, corrections: 1 };
        assert_eq!(join.counts, wanted);
        assert_eq!(join.pending(), 2);
        assert!(!join.holds(&Id::Int(0)) && join.holds(&Id::Int(1)) && join.holds(&Id::Int(2)));
    }

    #[test]
    fn silence_may_be_a_label() {
        let mut join = LabelJoin::new(&plan(Some(0.0), false));
        join.wait_for(row(1, 0));
        let out = join.time_out(100);
        assert!(matches!(&out[..], [Joined::Labelled(_, 10, v)] if *v == 0.0));
        assert_eq!(join.counts.labelled, 1);
    }
    #[test]
    fn settled_labels_count_in_the_order_of_their_rows() {
        let mut join = LabelJoin::new(&plan(Some(0.0), true));
        (0..3).for_each(|i| join.wait_for(row(i, i)));
        assert!(join.label(&Id::Int(2), 3, 1.0).is_none(), "it came, and does not count yet");
        assert!(join.label(&Id::Int(2), 4, 0.0).is_none(), "the first one stands");
        assert_eq!((join.pending(), join.counts.corrections), (3, 1));
        let held: Vec<_> = join
            .deadlines()
            .map(|(at, id, held)| {
                (at, id.clone(), held.map(|h| h.map(|(r, v)| (Arc::clone(r), v))))
            })
            .collect();
        let mut again = LabelJoin::new(&plan(Some(0.0), true));
        held.into_iter().for_each(|(at, id, held)| again.resume(at, id, held));
        for join in [&mut join, &mut again] {
            let out = join.time_out(13).into_iter().map(|joined| match joined {
                Joined::Labelled(row, at, value) => (row.time, at, value),
                Joined::TimedOut(_) => panic!("silence is a label"),
            });
            assert_eq!(out.collect::<Vec<_>>(), [(0, 10, 0.0), (1, 11, 0.0), (2, 12, 1.0)]);
            assert_eq!(join.pending(), 0);
        }
    }
}
