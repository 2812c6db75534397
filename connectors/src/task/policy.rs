//! When to try again, and when to leave an executor alone. Pure: time is given, in seconds.

use sha2::{Digest, Sha256};
use tidemill_types::task::FailureClass;

/// How often and how soon a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts after the first, where the world is to blame.
    pub most: u32,
    /// Seconds before the second attempt.
    pub base: f64,
    /// The most seconds between two.
    pub cap: f64,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// No more attempts.
    GiveUp,
    /// Another after so many seconds, with so many times the memory.
    Again {
        /// Seconds to wait.
        after: f64,
        /// What the allowed memory is multiplied by.
        memory: u64,
    },
}

impl Retry {
    /// What follows when the `failed`-th attempt failed so; `ooms` of them for want of memory.
    ///
    /// Waits double, and differ by a fifth by task and attempt, so that many tasks do not come back at
    /// once. More memory is tried once.
    pub fn next(&self, task: &str, failed: u32, class: FailureClass, ooms: u32) -> Next {
        match class {
            FailureClass::Infra if failed <= self.most => {
                let wait = self.base * 2_f64.powi(failed.saturating_sub(1).min(30) as i32);
                let hash = Sha256::digest(format!("{task} {failed}"));
                let share = f64::from(u16::from_be_bytes([hash[0], hash[1]])) / 65_535.0;
                Next::Again { after: wait.min(self.cap) * (0.8 + 0.4 * share), memory: 1 }
            }
            FailureClass::Oom if ooms <= 1 => Next::Again { after: 0.0, memory: 2 },
            _ => Next::GiveUp,
        }
    }
}

/// Leaves an executor alone that fails again and again (Nygard, Release It!, 2007).
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Failures that open it.
    most: usize,
    /// Within so many seconds.
    within: f64,
    /// How long it stays open before one attempt is let through.
    rest: f64,
    failures: Vec<f64>,
    open_since: Option<f64>,
}

/// What a breaker says to the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Go ahead.
    Closed,
    /// Ask first whether the executor is well; if it is, go ahead.
    HalfOpen,
    /// Go elsewhere.
    Open,
}

impl Breaker {
    /// Three failures within a minute open it for half a minute.
    pub fn new() -> Breaker {
        Breaker::with(3, 60.0, 30.0)
    }

    /// So many failures within so many seconds open it for so many.
    pub fn with(most: usize, within: f64, rest: f64) -> Breaker {
        Breaker { most, within, rest, failures: Vec::new(), open_since: None }
    }

    /// What to do at this time.
    pub fn gate(&self, now: f64) -> Gate {
        match self.open_since {
            None => Gate::Closed,
            Some(since) if now - since >= self.rest => Gate::HalfOpen,
            Some(_) => Gate::Open,
        }
    }

    /// Something worked.
    pub fn success(&mut self) {
        self.failures.clear();
        self.open_since = None;
    }

    /// The world failed; true if this opened it.
    pub fn failure(&mut self, now: f64) -> bool {
        self.failures.retain(|at| now - at < self.within);
        self.failures.push(now);
        let opens = self.open_since.is_some() || self.failures.len() >= self.most;
        if opens {
            self.open_since = Some(now);
        }
        opens
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_world_and_memory_are_tried_again() {
        let retry = Retry { most: 3, base: 2.0, cap: 5.0 };
        let after = |failed, class| match retry.next("t", failed, class, 1) {
            Next::Again { after, .. } => Some(after),
            Next::GiveUp => None,
        };
        for class in [FailureClass::Data, FailureClass::Code, FailureClass::Timeout] {
            assert_eq!(after(1, class), None, "{class:?}");
        }
        let waits: Vec<_> = (1..=4).map(|n| after(n, FailureClass::Infra)).collect();
        let near = |wait: Option<f64>, s: f64| wait.is_some_and(|w| (w / s - 1.0).abs() <= 0.2);
        assert!(near(waits[0], 2.0) && near(waits[1], 4.0) && near(waits[2], 5.0), "{waits:?}");
        assert_eq!(waits[3], None);
        let again = Next::Again { after: 0.0, memory: 2 };
        assert_eq!(retry.next("t", 1, FailureClass::Oom, 1), again);
        assert_eq!(retry.next("t", 2, FailureClass::Oom, 2), Next::GiveUp);
        // Two tasks do not come back at the same moment, one always at the same.
        assert_ne!(
            retry.next("t", 1, FailureClass::Infra, 0),
            retry.next("u", 1, FailureClass::Infra, 0)
        );
        assert_eq!(
            retry.next("t", 1, FailureClass::Infra, 0),
            retry.next("t", 1, FailureClass::Infra, 0)
        );
    }

    #[test]
    fn a_breaker_opens_probes_and_closes() {
        let mut breaker = Breaker::with(3, 60.0, 30.0);
        assert!(!breaker.failure(0.0) && !breaker.failure(50.0));
        // The first is forgotten after a minute.
        assert!(!breaker.failure(61.0));
        assert_eq!(breaker.gate(61.0), Gate::Closed);
        assert!(breaker.failure(62.0));
        assert_eq!(breaker.gate(63.0), Gate::Open);
        assert_eq!(breaker.gate(92.0), Gate::HalfOpen);
        // A failed probe keeps it open for another rest.
        assert!(breaker.failure(92.0));
        assert_eq!(breaker.gate(100.0), Gate::Open);
        assert_eq!(breaker.gate(122.0), Gate::HalfOpen);
        breaker.success();
        assert_eq!(breaker.gate(122.0), Gate::Closed);
        assert!(!breaker.failure(123.0) && !breaker.failure(124.0));
    }
}
