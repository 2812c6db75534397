//! Drift: the rows of the windows, and what detectors said last. Their counts follow from both and
//! from the reference.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_operators::drift::DETECTORS;
use tidemill_types::Micros;
use tidemill_types::drift::{Level, Reading};

use super::super::watch::{Reference, Said, Values, Watch};

/// A `[drift.*]` section.
#[derive(Serialize, Deserialize)]
pub struct SavedWatch {
    times: VecDeque<Micros>,
    scored: usize,
    score_times: VecDeque<Micros>,
    /// By what is watched: its values, and of the detectors their last levels, whether they stand at drift, and their
    /// largest readings.
    watched: Vec<(Values, Vec<(Level, bool, Option<f64>)>)>,
    /// States of monitors, as JSON, and what they said last.
    monitors: Vec<(String, Level)>,
}

/// Something that a detector said.
#[derive(Serialize, Deserialize)]
pub struct SavedSaid {
    detector: String,
    of: String,
    reading: Reading,
    raised: bool,
}

/// The name on the list of detectors.
///
/// # Errors
/// There is none of that name.
pub fn detector(name: &str) -> Result<&'static str, String> {
    let found = DETECTORS.iter().find(|entry| entry.name == name).map(|entry| entry.name);
    found.ok_or_else(|| format!("there is no detector {name}"))
}

impl From<&Said> for SavedSaid {
    fn from(said: &Said) -> SavedSaid {
        SavedSaid {
            detector: said.detector.to_string(),
            of: said.of.to_string(),
            reading: said.reading,
            raised: said.raised,
        }
    }
}

impl SavedSaid {
    pub(super) fn said(self) -> Result<Said, String> {
        let SavedSaid { detector: name, of, reading, raised } = self;
        // Only monitors are heard between two ticks, and they speak when they get worse.
        let begun = raised && reading.level == Level::Drift;
        Ok(Said { detector: detector(&name)?, of: Arc::from(of), reading, raised, begun })
    }
}

/// What is kept of a watch, between two bundles.
pub fn save(watch: &Watch) -> SavedWatch {
    SavedWatch {
        times: watch.times.clone(),
        scored: watch.scored,
        score_times: watch.score_times.clone(),
        watched: watch
            .watched
            .iter()
            .map(|watched| {
                let said =
                    watched.detectors.iter().map(|d| (d.before, d.stands, d.largest)).collect();
                (watched.values.clone(), said)
            })
            .collect(),
        monitors: watch
            .monitors
            .iter()
            .map(|(_, m, level)| (m.save().to_string(), *level))
            .collect(),
    }
}

/// Goes on from what was saved, against these references of features and scores.
///
/// # Errors
/// What was saved is of another section.
pub fn resume(
    watch: &mut Watch,
    saved: SavedWatch,
    features: Option<&Reference>,
    scores: Option<&Reference>,
) -> Result<(), String> {
    let other = || format!("drift.{} has changed", watch.plan.name.value);
    if watch.watched.len() != saved.watched.len() || watch.monitors.len() != saved.monitors.len() {
        return Err(other());
    }
    for ((_, monitor, level), (state, said)) in watch.monitors.iter_mut().zip(saved.monitors) {
        let state = serde_json::from_str(&state).map_err(|e| e.to_string())?;
        monitor.restore(&state)?;
        *level = said;
    }
    if let Some(reference) = features {
        watch.refer_to(reference, true, false);
    }
    if let Some(reference) = scores {
        watch.refer_to(reference, false, true);
    }
    (watch.times, watch.scored) = (saved.times, saved.scored);
    watch.score_times = saved.score_times;
    for (watched, (values, said)) in watch.watched.iter_mut().zip(saved.watched) {
        watched.values = values;
        for (detector, (before, stands, largest)) in watched.detectors.iter_mut().zip(said) {
            (detector.before, detector.stands) = (before, stands);
            detector.largest = largest;
        }
    }
    Ok(())
}
