//! A paced replay: event time passes at a multiple of the wall clock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use tidemill_types::Micros;

/// The clock of a paced replay; it starts when every source has shown its first event.
pub struct Pace {
    speed: f64,
    sources: usize,
    seen: Mutex<(BTreeMap<usize, Micros>, Option<Instant>)>,
}

impl Pace {
    /// `speed` microseconds of event time pass in a microsecond; `sources` have to be seen first.
    pub fn new(speed: f64, sources: usize) -> Pace {
        Pace { speed, sources, seen: Mutex::new((BTreeMap::new(), None)) }
    }

    /// Whether rows that begin at this event time may be handed over.
    pub fn may_go(&self, source: usize, first: Option<Micros>) -> bool {
        let Ok(mut seen) = self.seen.lock() else { return true };
        let Some(first) = first else {
            seen.0.entry(source).or_insert(Micros::MAX);
            return true;
        };
        seen.0.entry(source).or_insert(first);
        if seen.0.len() < self.sources {
            return false;
        }
        let began = *seen.1.get_or_insert_with(Instant::now);
        let start = seen.0.values().copied().min().unwrap_or(first);
        let passed = began.elapsed().as_secs_f64() * 1e6 * self.speed;
        ((first - start) as f64) <= passed
    }
}
