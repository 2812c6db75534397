//! How far each source is, as whoever looks at a run sees it. Nothing in the dataflow reads it.

use std::sync::atomic::{AtomicI64, Ordering};

use tidemill_types::Micros;

/// The watermark of each source at each worker.
pub struct Watermarks {
    /// By worker, then by source.
    places: Vec<Vec<AtomicI64>>,
}

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
        Watermarks { places: (0..workers).map(|_| worker()).collect() }
    }

    /// A worker's share of a source is complete up to here: the least time before anything came, the
    /// greatest when it has been read to its end.
    pub fn set(&self, worker: usize, source: usize, watermark: Micros) {
        if let Some(place) = self.places.get(worker).and_then(|sources| sources.get(source)) {
            place.store(watermark, Ordering::Relaxed);
        }
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
    }
}
