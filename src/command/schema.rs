//! `tidemill schema`: the JSON Schema of pipeline files, for editors.

use tidemill_config::schema::{Components, schema};
use tidemill_connectors::executor::EXECUTORS;
use tidemill_connectors::sink::SINKS;
use tidemill_connectors::source::SOURCES;
use tidemill_operators::drift::DETECTORS;
use tidemill_operators::learner::LEARNERS;
use tidemill_operators::trainer::TRAINERS;

use super::Said;

/// The schema, from the lists of components.
pub(super) fn run() -> Said {
    let json = schema(&Components {
        sources: SOURCES.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
        executors: EXECUTORS.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
        learners: LEARNERS.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
        trainers: TRAINERS.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
        detectors: DETECTORS.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
        sinks: SINKS.iter().map(|e| (e.name, e.summary, e.keys)).collect(),
    });
    Said { text: format!("{json:#}\n"), json }
}
