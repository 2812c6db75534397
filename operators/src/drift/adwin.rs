//! ADWIN: a window over a stream of numbers that grows while the mean stands still and drops its
//! old part when the mean has moved (Bifet and Gavalda 2007, the second, fast version).
//!
//! The window is an exponential histogram: rows of at most `max_buckets` buckets, those of row i
//! summing 2^i values each. Every `clock` values each cut between two buckets is tried; where the
//! means of the two sides differ by more than
//!
//!   sqrt(2 m v L) + 2/3 m L,   L = ln(2 ln(n) / delta),   m = 1/(n0 - s + 1) + 1/(n1 - s + 1),
//!
//! v being the variance of the window and s the shortest side, the oldest bucket is dropped and all
//! cuts are tried again. What is left is the recent part: it stays, and so several alarms may
//! follow one slow change. (m is the implementations' form, MOA's and River's, of the paper's 1/n0
//! + 1/n1; the first alarms of the two and of this one are the same.)
//!
//! Cost: O(1) amortised an insert, O(log n) every `clock` values; 16 bytes times `max_buckets`
//! times log2(n / `max_buckets`). Values that are no finite numbers are passed over.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::drift::Level;

use super::direction::{self, Direction};
use super::{Build, Entry, LARGEST, Monitor};

pub(super) const ENTRY: Entry = Entry {
    name: "adwin",
    summary: "adaptive window: drops its old part when the mean has moved, and keeps the recent one",
    keys: &[
        ("delta", "float, 0.002", "confidence of a cut: smaller is slower and surer"),
        ("clock", "integer, 32", "cuts are tried every so many values"),
        ("max_buckets", "integer, 5", "buckets of one size: more are finer cuts"),
        ("min_side", "integer, 5", "values on each side of a cut, at least"),
        ("grace", "integer, 10", "no cut while the window has no more values than this"),
        (
            "direction",
            "\"up\" or \"down\" or \"both\", both",
            "\"up\": only a rise of the mean is an alarm; a fall still cuts",
        ),
    ],
    build: Build::Monitor(build),
};

fn build(section: &Section) -> Result<Box<dyn Monitor>, Vec<Diagnostic>> {
    let mut keys = section.params();
    let adwin = Adwin {
        delta: keys.float("delta", 0.002, 1e-12..=1.0),
        clock: keys.integer("clock", 32, 1..=1_000_000) as u64,
        max_buckets: keys.integer("max_buckets", 5, 2..=1_000) as usize,
        min_side: keys.integer("min_side", 5, 1..=1_000_000) as f64,
        grace: keys.integer("grace", 10, 2..=1_000_000) as u64,
        direction: direction::read(&mut keys, "both"),
        window: Window::default(),
    };
    keys.finish()?;
    Ok(Box::new(adwin))
}

/// The sum of 2^row values, and of their squared distances from their mean.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bucket(f64, f64);

/// The state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Window {
    /// Rows of buckets, smallest buckets first; within a row the oldest first.
    rows: Vec<Vec<Bucket>>,
    /// Values in the window.
    width: u64,
    /// Their sum.
    total: f64,
    /// The sum of their squared distances from their mean.
    spread: f64,
    /// Values seen since the start.
    seen: u64,
}

struct Adwin {
    delta: f64,
    clock: u64,
    max_buckets: usize,
    min_side: f64,
    grace: u64,
    direction: Direction,
    window: Window,
}

/// What joining two groups of values adds to the sum of their squared distances from the mean.
fn between(n0: f64, total0: f64, n1: f64, total1: f64) -> f64 {
    let gap = total0 / n0 - total1 / n1;
    n0 * n1 * gap * gap / (n0 + n1)
}

impl Window {
    fn mean(&self) -> f64 {
        if self.width == 0 { 0.0 } else { self.total / self.width as f64 }
    }

    fn insert(&mut self, value: f64, max_buckets: usize) {
        if self.width > 0 {
            self.spread += between(self.width as f64, self.total, 1.0, value);
        }
        self.width += 1;
        self.total += value;
        if self.rows.is_empty() {
            self.rows.push(Vec::with_capacity(max_buckets + 1));
        }
        self.rows[0].push(Bucket(value, 0.0));
        let mut row = 0;
        while self.rows[row].len() > max_buckets {
            let size = (1u64 << row) as f64;
            let (older, newer) = (self.rows[row][0], self.rows[row][1]);
            self.rows[row].drain(..2);
            row += 1;
            if row == self.rows.len() {
                self.rows.push(Vec::with_capacity(max_buckets + 1));
            }
            let spread = older.1 + newer.1 + between(size, older.0, size, newer.0);
            self.rows[row].push(Bucket(older.0 + newer.0, spread));
        }
    }

    fn drop_oldest(&mut self) {
        let Some(mut oldest) = self.rows.pop() else { return };
        let size = 1u64 << self.rows.len();
        let Bucket(total, spread) = oldest.remove(0);
        self.width -= size;
        self.total -= total;
        self.spread -= spread;
        if self.width > 0 {
            self.spread -= between(size as f64, total, self.width as f64, self.total);
        }
        // Differences of large sums may end just below nothing.
        self.spread = self.spread.max(0.0);
        // The row before is never empty: a merge leaves all but two of more than two buckets.
        if !oldest.is_empty() {
            self.rows.push(oldest);
        }
    }
}

impl Adwin {
    /// Whether some cut shows that the mean has moved.
    fn cuts(&self) -> bool {
        let window = &self.window;
        let n = window.width as f64;
        let variance = window.spread / n;
        let l = libm::log(2.0 * libm::log(n) / self.delta);
        let (mut n0, mut total0) = (0.0, 0.0);
        for (row, buckets) in window.rows.iter().enumerate().rev() {
            let size = (1u64 << row) as f64;
            for bucket in buckets {
                n0 += size;
                total0 += bucket.0;
                let n1 = n - n0;
                if n1 < self.min_side {
                    return false;
                }
                if n0 < self.min_side {
                    continue;
                }
                let gap = (total0 / n0 - (window.total - total0) / n1).abs();
                let m = 1.0 / (n0 - self.min_side + 1.0) + 1.0 / (n1 - self.min_side + 1.0);
                if gap > libm::sqrt(2.0 * m * variance * l) + 2.0 / 3.0 * l * m {
                    return true;
                }
            }
        }
        false
    }
}

impl Monitor for Adwin {
    fn update(&mut self, value: f64) -> Level {
        if !value.is_finite() {
            return Level::Stable;
        }
        let value = value.clamp(-LARGEST, LARGEST);
        self.window.insert(value, self.max_buckets);
        self.window.seen += 1;
        if !self.window.seen.is_multiple_of(self.clock) || self.window.width <= self.grace {
            return Level::Stable;
        }
        let (before, width) = (self.window.mean(), self.window.width);
        while self.window.width > self.grace && self.cuts() {
            self.window.drop_oldest();
        }
        let dropped = self.window.width < width;
        let moved = self.window.mean() - before;
        if dropped && self.direction.is_alarm(moved) { Level::Drift } else { Level::Stable }
    }

    fn estimate(&self) -> f64 {
        self.window.mean()
    }

    fn reset(&mut self) {
        self.window = Window::default();
    }

    fn save(&self) -> Json {
        serde_json::to_value(&self.window).unwrap_or(Json::Null)
    }

    fn restore(&mut self, state: &Json) -> Result<(), String> {
        let window =
            Window::deserialize(state).map_err(|e| format!("not a state of adwin: {e}"))?;
        let values = |(row, buckets): (usize, &Vec<Bucket>)| {
            1u64.checked_shl(row as u32).and_then(|size| size.checked_mul(buckets.len() as u64))
        };
        let width = window
            .rows
            .iter()
            .enumerate()
            .map(values)
            .try_fold(0u64, |sum, n| n.and_then(|n| sum.checked_add(n)));
        if width != Some(window.width) || window.rows.last().is_some_and(Vec::is_empty) {
            return Err("not a state of adwin: its buckets do not add up to its width".into());
        }
        self.window = window;
        Ok(())
    }
}
