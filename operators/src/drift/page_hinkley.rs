//! Page-Hinkley: the sum of what exceeds the mean so far by more than a tolerance, against its
//! lowest point (Page 1954; Hinkley 1971; with forgetting as in Gama et al. 2013).
//!
//! Upward:   u <- alpha u + x - mean - delta;  alarm when u - min u > threshold.
//! Downward: d <- alpha d + x - mean + delta;  alarm when max d - d > threshold.
//!
//! The mean is that of all values since the last alarm, x included; after an alarm everything
//! starts afresh. `alpha = 1` is Page's own form. MOA's class of this name never subtracts the
//! minimum, and River's looks downward from a maximum of -1: their alarms differ from each other's
//! and may differ from these.
//!
//! Cost: O(1), one division. Values that are no finite numbers are passed over.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::drift::Level;

use super::direction::{self, Direction};
use super::{Build, Entry, LARGEST, Monitor};

pub(super) const ENTRY: Entry = Entry {
    name: "page_hinkley",
    summary: "cumulative sum of what exceeds the mean so far, against its lowest point",
    keys: &[
        ("delta", "float, 0.005", "what is tolerated above the mean, per value"),
        ("threshold", "float, 50", "an alarm beyond this: larger is slower and surer"),
        ("alpha", "float, 0.9999", "what is kept of the sum at each value; 1 forgets nothing"),
        ("min_values", "integer, 30", "no alarm before so many values"),
        ("direction", "\"up\" or \"down\" or \"both\", up", "\"up\", \"down\" or \"both\""),
    ],
    build: Build::Monitor(build),
};

fn build(section: &Section) -> Result<Box<dyn Monitor>, Vec<Diagnostic>> {
    let mut keys = section.params();
    let monitor = PageHinkley {
        delta: keys.float("delta", 0.005, 0.0..=1e9),
        threshold: keys.float("threshold", 50.0, 0.0..=1e12),
        alpha: keys.float("alpha", 0.9999, 0.0..=1.0),
        min_values: keys.integer("min_values", 30, 1..=1_000_000_000) as u64,
        direction: direction::read(&mut keys, "up"),
        sums: Sums::default(),
    };
    keys.finish()?;
    Ok(Box::new(monitor))
}

/// The state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sums {
    values: u64,
    mean: f64,
    up: f64,
    up_lowest: f64,
    down: f64,
    down_highest: f64,
    /// It has alarmed: the mean that did stands until the next value begins afresh.
    #[serde(default)]
    alarmed: bool,
}

struct PageHinkley {
    delta: f64,
    threshold: f64,
    alpha: f64,
    min_values: u64,
    direction: Direction,
    sums: Sums,
}

impl Monitor for PageHinkley {
    fn update(&mut self, value: f64) -> Level {
        if !value.is_finite() {
            return Level::Stable;
        }
        if self.sums.alarmed {
            self.reset();
        }
        let value = value.clamp(-LARGEST, LARGEST);
        let s = &mut self.sums;
        s.values += 1;
        s.mean += (value - s.mean) / s.values as f64;
        let excess = value - s.mean;
        s.up = self.alpha * s.up + excess - self.delta;
        s.down = self.alpha * s.down + excess + self.delta;
        let first = s.values == 1;
        s.up_lowest = if first { s.up } else { s.up_lowest.min(s.up) };
        s.down_highest = if first { s.down } else { s.down_highest.max(s.down) };
        let up = self.direction.up() && s.up - s.up_lowest > self.threshold;
        let down = self.direction.down() && s.down_highest - s.down > self.threshold;
        if s.values >= self.min_values && (up || down) {
            s.alarmed = true;
            return Level::Drift;
        }
        Level::Stable
    }

    fn estimate(&self) -> f64 {
        self.sums.mean
    }

    fn reset(&mut self) {
        self.sums = Sums::default();
    }

    fn save(&self) -> Json {
        serde_json::to_value(&self.sums).unwrap_or(Json::Null)
    }

    fn restore(&mut self, state: &Json) -> Result<(), String> {
        self.sums =
            Sums::deserialize(state).map_err(|e| format!("not a state of page_hinkley: {e}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> PageHinkley {
        let (delta, threshold, alpha) = (0.005, 5.0, 0.9999);
        let (direction, sums) = (Direction::Up, Sums::default());
        PageHinkley { delta, threshold, alpha, min_values: 30, direction, sums }
    }

    /// An alert tells the mean that raised it; what comes after begins afresh.
    #[test]
    fn an_alarm_tells_its_mean() {
        let mut detector = fresh();
        let (mut sum, mut n) = (0.0, 0.0);
        let mut alarms = |value: f64| {
            (sum, n) = (sum + value, n + 1.0);
            detector.update(value) == Level::Drift
        };
        let values = std::iter::repeat_n(0.0, 100).chain(std::iter::repeat_n(1.0, 100));
        assert!(values.into_iter().any(&mut alarms));
        let mean = sum / n;
        assert!(mean > 0.0 && (detector.estimate() - mean).abs() < 1e-12, "{mean}");
        let mut again = fresh();
        again.restore(&detector.save()).expect("its own state");
        assert_eq!(again.estimate(), detector.estimate());
        for detector in [&mut detector, &mut again] {
            assert_eq!(detector.update(0.25), Level::Stable);
            assert_eq!(detector.estimate(), 0.25, "the value after an alarm is the first one");
        }
    }
}
