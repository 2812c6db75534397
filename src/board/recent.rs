//! The newest of what went aside: samples of dead letters and of late rows, and alerts. All of it is
//! bounded, in number and in size; what is counted is counted elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tidemill_types::{DeadLetter, Micros};

/// Samples of one source and reason.
pub const SAMPLES: usize = 5;
/// Pairs of source and reason that have samples.
const KINDS: usize = 200;
/// Alerts that are held.
pub const ALERTS: usize = 500;
/// Characters of a text that comes from data.
const TEXT: usize = 600;

/// A record that could not be used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeadSample {
    /// When it was refused, by the wall clock, microseconds since 1970.
    pub seen: Micros,
    /// The file or topic.
    pub origin: String,
    /// Its partition there.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// Why, with the column and what was found.
    pub detail: String,
    /// The record as it came, cut to 600 characters; bytes that are no UTF-8 are replaced.
    pub raw: String,
}

/// A row that came too late.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LateSample {
    /// When it came, by the wall clock, microseconds since 1970.
    pub seen: Micros,
    /// Its id.
    pub id: String,
    /// Its event time.
    pub event_time: Micros,
    /// The row as JSON, cut to 600 characters.
    pub row: String,
}

/// Something that a detector or a training had to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// When it was told, by the wall clock, microseconds since 1970.
    pub seen: Micros,
    /// The event time of which it speaks.
    pub event_time: Micros,
    /// The drift section, or `training`.
    pub drift: String,
    /// The detector, or what became of the training.
    pub detector: String,
    /// The feature, `score`, `loss`, or the model.
    pub of: String,
    /// `warning`, `drift`, `error`.
    pub level: String,
    /// The reading, or the number of failures.
    pub statistic: f64,
    /// Where the detector gives one.
    pub p_value: Option<f64>,
}

/// What is held. All methods may be called from any thread.
#[derive(Default)]
pub struct Recent {
    dead: Mutex<BTreeMap<(String, String), VecDeque<DeadSample>>>,
    late: Mutex<BTreeMap<String, VecDeque<LateSample>>>,
    alerts: Mutex<Alerts>,
}

#[derive(Default)]
struct Alerts {
    newest: VecDeque<Alert>,
    /// By section and level.
    counts: BTreeMap<(String, String), u64>,
}

/// The wall clock, microseconds since 1970.
pub fn wall_clock() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// A text that is short enough to be shown.
fn clip(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        None => text.to_string(),
        Some((at, _)) => format!("{}\u{2026}", &text[..at]),
    }
}

fn push<T>(held: &mut VecDeque<T>, new: T, most: usize) {
    if held.len() >= most {
        held.pop_front();
    }
    held.push_back(new);
}

impl Recent {
    /// Keeps samples of a batch of dead letters: the last of each source and reason.
    pub fn dead(&self, letters: &[DeadLetter]) {
        // What a thread that died while it held a lock has left is whole: pushes cannot fail halfway.
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: BTreeMap<(&str, &str), Vec<&DeadLetter>> = BTreeMap::new();
        for letter in letters.iter().rev() {
            let of = taken.entry((&letter.source, &letter.reason)).or_default();
            if of.len() < SAMPLES {
                of.push(letter);
            }
        }
        let seen = wall_clock();
        for ((source, reason), letters) in taken {
            let key = (source.to_string(), reason.to_string());
            if dead.len() >= KINDS && !dead.contains_key(&key) {
                continue;
            }
            let held = dead.entry(key).or_default();
            for letter in letters.into_iter().rev() {
                // Four bytes to a character at most: no more of a huge record is looked at.
                let raw = &letter.raw[..letter.raw.len().min(4 * TEXT + 4)];
                let sample = DeadSample {
                    seen,
                    origin: clip(&letter.provenance.origin),
                    partition: letter.provenance.partition,
                    offset: letter.provenance.offset,
                    detail: clip(&letter.detail),
                    raw: clip(&String::from_utf8_lossy(raw)),
                };
                push(held, sample, SAMPLES);
            }
        }
    }

    /// Keeps samples of late rows of a source, given as id, event time and row; the last are enough.
    pub fn late(&self, source: &str, rows: impl Iterator<Item = (String, Micros, String)>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let held = late.entry(source.to_string()).or_default();
        let seen = wall_clock();
        for (id, event_time, row) in rows {
            push(held, LateSample { seen, id: clip(&id), event_time, row: clip(&row) }, SAMPLES);
        }
    }

    /// Keeps an alert.
    pub fn alert(&self, alert: Alert) {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        *alerts.counts.entry((alert.drift.clone(), alert.level.clone())).or_default() += 1;
        push(&mut alerts.newest, alert, ALERTS);
    }

    /// Samples of dead letters by source and reason, the newest last.
    pub fn dead_samples(&self) -> BTreeMap<(String, String), Vec<DeadSample>> {
        let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.iter().map(|(key, held)| (key.clone(), held.iter().cloned().collect())).collect()
    }

    /// Samples of late rows by source, the newest last.
    pub fn late_samples(&self) -> BTreeMap<String, Vec<LateSample>> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.iter().map(|(key, held)| (key.clone(), held.iter().cloned().collect())).collect()
    }

    /// The newest alerts, the newest first.
    pub fn alerts(&self) -> Vec<Alert> {
        let alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        alerts.newest.iter().rev().cloned().collect()
    }

    /// How many alerts there were, by section and level.
    pub fn alert_counts(&self) -> BTreeMap<(String, String), u64> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_types::Provenance;

    use super::*;

    fn letter(reason: &str, offset: u64, raw: &[u8]) -> DeadLetter {
        DeadLetter {
            source: "orders".into(),
            provenance: Provenance { origin: "orders.csv".into(), partition: 0, offset },
            reason: reason.into(),
            detail: "d".repeat(10_000),
            raw: raw.to_vec(),
        }
    }

    #[test]
    fn the_newest_of_each_reason_are_held_and_cut_short() {
        let recent = Recent::default();
        let mut letters: Vec<DeadLetter> = (0..100).map(|n| letter("parse", n, b"x")).collect();
        letters.insert(0, letter("no_time", 7, &[0xff; 100_000]));
        recent.dead(&letters);
        recent.dead(&[letter("parse", 200, "\u{1F600}".repeat(5_000).as_bytes())]);
        let held = recent.dead_samples();
        let offsets = |reason: &str| -> Vec<u64> {
            held[&("orders".to_string(), reason.to_string())].iter().map(|s| s.offset).collect()
        };
        assert_eq!(offsets("parse"), [96, 97, 98, 99, 200]);
        assert_eq!(offsets("no_time"), [7]);
        let longest = held.values().flatten().map(|s| s.raw.chars().count()).max();
        assert_eq!(longest, Some(TEXT + 1));
        assert!(held.values().flatten().all(|s| s.detail.chars().count() == TEXT + 1));
    }

    #[test]
    fn a_flood_is_bounded() {
        let recent = Recent::default();
        for n in 0..1_000 {
            recent.dead(&[letter(&format!("reason {n}"), n, b"")]);
            recent.late("orders", std::iter::once((n.to_string(), 0, String::new())));
            recent.alert(Alert {
                seen: 0,
                event_time: n as i64,
                drift: "features".into(),
                detector: "psi".into(),
                of: "x".into(),
                level: "drift".into(),
                statistic: 1.0,
                p_value: None,
            });
        }
        assert_eq!(recent.dead_samples().len(), KINDS);
        assert_eq!(recent.late_samples()["orders"].len(), SAMPLES);
        let alerts = recent.alerts();
        assert_eq!((alerts.len(), alerts[0].event_time), (ALERTS, 999));
        assert_eq!(
            recent.alert_counts().values().sum::<u64>(),
            1_000,
            "none is lost from the count"
        );
    }
}
