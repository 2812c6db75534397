//! Drift detectors.
//!
//! Two kinds, split by what can be exact. A [`Statistic`] compares the rows of a window with a
//! fixed reference; it is a sum over rows, so rows come and go exactly and in any order. A
//! [`Monitor`] is an ordered fold over a stream of losses.

use serde_json::Value as Json;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::drift::{Level, Reading};

mod adwin;
mod direction;
mod ks;
mod levels;
mod page_hinkley;
mod psi;
pub mod special;

use levels::Levels;

/// Every detector, in the order of the reference.
pub const DETECTORS: &[Entry] = &[psi::ENTRY, ks::ENTRY, adwin::ENTRY, page_hinkley::ENTRY];

/// Monitors take larger values for this one, so that no sum of squares overflows.
const LARGEST: f64 = 1e100;

/// What the list says about a detector.
pub struct Entry {
    /// The value of `type`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`.
    pub keys: &'static [(&'static str, &'static str, &'static str)],
    /// Which kind it is, and how one is made.
    pub build: Build,
}

/// How a detector is made; reading the section checks it.
#[derive(Clone, Copy)]
pub enum Build {
    /// Compares a window with a reference.
    Statistic(fn(&Section) -> Result<Box<dyn StatisticFactory>, Vec<Diagnostic>>),
    /// Watches a stream of numbers.
    Monitor(fn(&Section) -> Result<Box<dyn Monitor>, Vec<Diagnostic>>),
}

/// A configured statistic, before it has a reference.
pub trait StatisticFactory: Send + Sync {
    /// From where on it warns, and from where on it says drift.
    fn bounds(&self) -> (f64, f64);

    /// Over numbers; NaN stands for NULL. Nothing where the statistic has no meaning for them.
    fn numbers(&self, reference: &[f64]) -> Option<Box<dyn Statistic>>;
    /// Over categories (hashes; 0 for NULL). Nothing where the statistic has no meaning for them.
    fn categories(&self, reference: &[u64]) -> Option<Box<dyn CategoryStatistic>>;
}

/// A two-sample statistic of numbers over a fixed reference. `locate` is the costly step, done once
/// a row: its answer is what is inserted, and evicted later.
pub trait Statistic: Send {
    /// Where a value belongs among the reference.
    fn locate(&self, value: f64) -> u32;
    /// Takes a row in.
    fn insert(&mut self, at: u32);
    /// Takes a row out that was inserted.
    fn evict(&mut self, at: u32);
    /// The statistic now; nothing over an empty window.
    fn read(&self) -> Option<Reading>;
}

/// The same over categories.
pub trait CategoryStatistic: Send {
    /// Where a category belongs.
    fn locate(&self, value: u64) -> u32;
    /// Takes a row in.
    fn insert(&mut self, at: u32);
    /// Takes a row out that was inserted.
    fn evict(&mut self, at: u32);
    /// The statistic now; nothing over an empty window.
    fn read(&self) -> Option<Reading>;
}

/// An ordered fold over a stream of losses or values.
pub trait Monitor: Send {
    /// Takes the next value; says what it makes of it.
    fn update(&mut self, value: f64) -> Level;
    /// The estimate it holds of the current mean.
    fn estimate(&self) -> f64;
    /// Forgets everything.
    fn reset(&mut self);
    /// The whole state.
    fn save(&self) -> Json;
    /// Takes a saved state over.
    fn restore(&mut self, state: &Json) -> Result<(), String>;
}
