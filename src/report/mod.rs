//! The report of a run: one HTML file that needs nothing else, neither script nor network.
//!
//! [`Report`] is what is known; [`Report::html`] writes it down. Drawings are SVG, each in a wide and a
//! narrow form, of which the page's width shows one; colours follow the reader's light or dark scheme.
//! The same report gives the same bytes.

mod bars;
mod calibration;
pub mod heat;
mod line;
mod page;
mod scale;
mod svg;
#[cfg(test)]
mod tests;
mod timeline;

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_connectors::disk;
use tidemill_types::{Error, Micros};

use crate::observe::Summary;

/// What a report shows. Empty parts are left out of the page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Counts, retrainings, and the quality of the contenders. Their order gives them their colours:
    /// served first.
    pub summary: Summary,
    /// The quality of each contender by week.
    pub weekly: Weekly,
    /// Drift by feature and week, one for each statistic.
    pub drifts: Vec<Drift>,
    /// What happened to versions, in the order of time.
    pub moments: Vec<Moment>,
    /// Predicted against observed.
    pub calibrations: Vec<Calibration>,
    /// What the latest trees use.
    pub importances: Option<Importances>,
}

/// Quality by week.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weekly {
    /// Where each week begins.
    pub weeks: Vec<Micros>,
    /// One for each contender.
    pub contenders: Vec<WeeklyQuality>,
}

/// A contender by week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeeklyQuality {
    /// Its name, as in the summary.
    pub name: String,
    /// Mean log loss in nats, for each week.
    pub log_loss: Vec<Option<f64>>,
    /// Area under the ROC curve, for each week.
    pub auc: Vec<Option<f64>>,
}

/// Drift by feature and week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The statistic.
    pub statistic: String,
    /// From here on it warns.
    pub warning: f64,
    /// From here on it says drift.
    pub limit: f64,
    /// Where each week begins.
    pub weeks: Vec<Micros>,
    /// The features, in the order of the pipeline.
    pub features: Vec<FeatureDrift>,
}

/// A feature by week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureDrift {
    /// Its name.
    pub name: String,
    /// The largest reading of each week.
    pub values: Vec<Option<f64>>,
}

/// Something that happened to a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When, in event time.
    pub time: Micros,
    /// The model.
    pub model: String,
    /// The version, where there is one yet.
    pub version: Option<u64>,
    /// What happened.
    pub step: Step,
    /// Why, for people.
    pub why: String,
}

/// What may happen to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Somebody or something asked for a training.
    Triggered,
    /// It is there and waits at the gate.
    Trained,
    /// It took over.
    Promoted,
    /// The gate turned it away.
    Refused,
    /// It came to another stage of its trial.
    OnTrial,
    /// The version before is in charge again.
    RolledBack,
    /// The training ended in an error.
    Failed,
}

impl Step {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Step::Triggered => "triggered",
            Step::Trained => "trained",
            Step::Promoted => "promoted",
            Step::Refused => "refused",
            Step::OnTrial => "on trial",
            Step::RolledBack => "rolled back to",
            Step::Failed => "failed",
        }
    }
}

/// Are a contender's scores probabilities?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Its name, as in the summary.
    pub contender: String,
    /// Bins of equal width from 0 to 1, usually ten.
    pub bins: Vec<Bin>,
}

/// The rows whose score fell into a bin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Their mean score.
    pub predicted: f64,
    /// Their share of positive labels.
    pub observed: f64,
    /// How many.
    pub rows: u64,
}

/// What a version of trees uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importances {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u64,
    /// Features with their share of the total gain; in any order.
    pub shares: Vec<(String, f64)>,
}

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        page::render(self)
    }

    /// Writes the page, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |e| disk::cannot("write the report", path, &e);
        let temporary = path.with_extension("html.new");
        std::fs::write(&temporary, self.html()).map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)
    }
}

/// A statistic with about three significant digits, without zeros at the end.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => return format!("{value:.0}"),
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}
