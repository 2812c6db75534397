//! What a detector says.

use serde::{Deserialize, Serialize};

/// How far a detector went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to say.
    Stable,
    /// More than usual.
    Warning,
    /// The world has changed.
    Drift,
}

/// One reading of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The statistic itself.
    pub statistic: f64,
    /// Its p-value, where the statistic has one: of one look, uncorrected.
    pub p_value: Option<f64>,
    /// What the threshold makes of it.
    pub level: Level,
}
