//! How far each source is, as whoever looks at a run sees it. Nothing in the dataflow reads it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tidemill_types::Micros;

/// The watermark of each source at each worker.
pub struct Watermarks {
    /// By worker, then by source.
    places: Vec<Vec<AtomicI64>>,
    /// Whether rows wait there until earlier ones are done.
    waits: Vec<Vec<AtomicBool>>,
}

/// Worker, source, how far it is, whether rows wait.
pub type Share = Vec<(usize, usize, Micros, bool)>;

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Nothing has come yet.
    Nothing,
    /// It is complete up to this event time.
    At(Micros),
    /// It has been read to its end.
    Ended,
}

impl Watermarks {
    /// Of so many workers and sources, none of which has a share yet.
    pub fn new(workers: usize, sources: usize) -> Watermarks {
        let worker = || (0..sources).map(|_| AtomicI64::new(Micros::MAX)).collect();
        let free = || (0..sources).map(|_| AtomicBool::new(false)).collect();
        Watermarks {
            places: (0..workers).map(|_| worker()).collect(),
            waits: (0..workers).map(|_| free()).collect(),
        }
    }

    /// A worker's share of a source is complete up to here: the least time before anything came, the
    /// greatest when it has been read to its end.
    pub fn set(&self, worker: usize, source: usize, watermark: Micros) {
        if let Some(place) = self.places.get(worker).and_then(|sources| sources.get(source)) {
            place.store(watermark, Ordering::Relaxed);
        }
    }

    /// Whether rows of a source wait at a worker because as many as may be are in flight.
    pub fn set_waiting(&self, worker: usize, source: usize, waiting: bool) {
        if let Some(place) = self.waits.get(worker).and_then(|sources| sources.get(source)) {
            place.store(waiting, Ordering::Relaxed);
        }
    }

    /// How far these workers are, by worker and source, for another process.
    pub fn share(&self, workers: Range<usize>) -> Share {
        let places = self.places.iter().zip(&self.waits).enumerate();
        let own = places.filter(|(worker, _)| workers.contains(worker));
        own.flat_map(|(worker, (places, waits))| {
            let each = places.iter().zip(waits).enumerate();
            each.map(move |(source, (at, waits))| {
                (worker, source, at.load(Ordering::Relaxed), waits.load(Ordering::Relaxed))
            })
        })
        .collect()
    }

    /// Takes what another process has shared.
    pub fn take(&self, share: Share) {
        for (worker, source, at, waits) in share {
            self.set(worker, source, at);
            self.set_waiting(worker, source, waits);
        }
    }

    /// Whether rows of a source wait at any worker.
    pub fn waits(&self, source: usize) -> bool {
        let mut places = self.waits.iter().filter_map(|sources| sources.get(source));
        places.any(|place| place.load(Ordering::Relaxed))
    }

    /// How far a source is at the worker that is furthest behind.
    pub fn of(&self, source: usize) -> Stand {
        let places = self.places.iter().filter_map(|sources| sources.get(source));
        match places.map(|place| place.load(Ordering::Relaxed)).min() {
            None | Some(Micros::MIN) => Stand::Nothing,
            Some(Micros::MAX) => Stand::Ended,
            Some(at) => Stand::At(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_as_far_as_its_last_worker() {
        let marks = Watermarks::new(2, 2);
        marks.set(0, 0, Micros::MIN);
        assert_eq!(marks.of(0), Stand::Nothing);
        marks.set(0, 0, 70);
        assert_eq!(marks.of(0), Stand::At(70), "the other worker has no share of it");
        marks.set(1, 0, 50);
        assert_eq!(marks.of(0), Stand::At(50));
        marks.set(1, 0, Micros::MAX);
        marks.set(0, 0, Micros::MAX);
        assert_eq!((marks.of(0), marks.of(5)), (Stand::Ended, Stand::Nothing));
        marks.set_waiting(1, 0, true);
        assert!(marks.waits(0) && !marks.waits(1) && !marks.waits(5));
    }
}
