//! From a statistic to a level: far enough to matter, and too far for chance.

use tidemill_types::drift::{Level, Reading};

use tidemill_config::section::Params;

/// A row is flagged by size of effect *and* by significance: with few rows chance alone passes any
/// threshold, with many rows the slightest difference is significant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels {
    threshold: f64,
    warning: f64,
    significance: f64,
}

impl Levels {
    /// Reads `threshold`, `warning` (never above the threshold) and `significance`.
    pub(super) fn read(keys: &mut Params<'_>, threshold: f64, warning: f64, most: f64) -> Levels {
        let threshold = keys.float("threshold", threshold, 0.0..=most);
        let warning = keys.float("warning", warning.min(threshold), 0.0..=threshold);
        Levels { threshold, warning, significance: keys.float("significance", 0.001, 0.0..=1.0) }
    }

    /// Warning and drift.
    pub(super) fn bounds(&self) -> (f64, f64) {
        (self.warning, self.threshold)
    }

    /// The reading of a statistic.
    pub(super) fn reading(&self, statistic: f64, p_value: f64) -> Reading {
        let level = if p_value > self.significance {
            Level::Stable
        } else if statistic >= self.threshold {
            Level::Drift
        } else if statistic >= self.warning {
            Level::Warning
        } else {
            Level::Stable
        };
        Reading { statistic, p_value: Some(p_value), level }
    }
}
