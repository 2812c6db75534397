//! How fast things go: counts as they stood at each of the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds that are held.
pub const SECONDS: usize = 300;
/// A rate is that of so many of the newest seconds.
const RATE_OVER: usize = 5;
/// From one sample to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Counts at one moment. Each list is as long in every sample of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Rows read, by source.
    pub rows: Vec<u64>,
    /// Late rows, by source.
    pub late: Vec<u64>,
    /// Dead letters, by source.
    pub dead: Vec<u64>,
    /// Rows that went to sinks, by stream.
    pub streams: Vec<u64>,
    /// Rows scored.
    pub scores: u64,
}

/// The samples.
#[derive(Default)]
pub struct Pulse {
    samples: VecDeque<(Instant, Counts)>,
}

impl Pulse {
    /// Whether a second has gone by since the newest sample.
    pub fn is_due(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= EVERY)
    }

    /// Takes a sample.
    pub fn add(&mut self, now: Instant, counts: Counts) {
        if self.samples.len() > SECONDS {
            self.samples.pop_front();
        }
        self.samples.push_back((now, counts));
    }

    /// The newest counts.
    pub fn newest(&self) -> Counts {
        self.samples.back().map(|(_, counts)| counts.clone()).unwrap_or_default()
    }

    /// What is counted, a second, over the newest seconds; 0 before there are two samples.
    pub fn rate(&self, of: impl Fn(&Counts) -> u64) -> f64 {
        let Some((now, newest)) = self.samples.back() else { return 0.0 };
        let before = self.samples.len().saturating_sub(1 + RATE_OVER);
        let (then, oldest) = &self.samples[before];
        let seconds = now.saturating_duration_since(*then).as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { of(newest).saturating_sub(of(oldest)) as f64 / seconds }
    }

    /// What was counted, a second, from each sample to the next; the newest last.
    pub fn rates(&self, of: impl Fn(&Counts) -> u64) -> Vec<f64> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let rate = |((then, a), (now, b)): (&(Instant, Counts), &(Instant, Counts))| {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            if seconds <= 0.0 { 0.0 } else { of(b).saturating_sub(of(a)) as f64 / seconds }
        };
        pairs.map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_newest_seconds_and_the_past_is_bounded() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.rate(|c| c.scores), 0.0);
        let begin = Instant::now();
        for second in 0..1_000_u64 {
            let now = begin + Duration::from_secs(second);
            assert!(pulse.is_due(now));
            // A hundred a second, and a thousand from the 990th on.
            let scores = second * 100 + second.saturating_sub(990) * 900;
            pulse.add(now, Counts { scores, ..Counts::default() });
            assert!(!pulse.is_due(now + Duration::from_millis(900)));
        }
        assert_eq!(pulse.rate(|c| c.scores), 1_000.0);
        let rates = pulse.rates(|c| c.scores);
        assert_eq!((rates.len(), rates[0], rates[SECONDS - 1]), (SECONDS, 100.0, 1_000.0));
    }
}
