//! What a pipeline is made of, as JSON. It does not change while the pipeline runs.

use serde_json::{Value as Json, json};
use tidemill_config::plan::{DriftOf, Mode, ModelInput};

use super::Setup;
use super::graph::edges;
use crate::engine::check;

/// The pipeline: its parts and what flows between them.
pub fn describe(setup: &Setup) -> Json {
    let plan = &setup.compiled.plan;
    let types = &setup.compiled.program.feature_schema;
    let source = |i: usize| plan.sources[i].name.value.clone();
    let sources = plan.sources.iter().map(|of| {
        json!({
            "name": of.name.value,
            "type": of.section.kind.value,
            "live": !check::bounded(of),
            "event_time": of.event_time.value,
            "lateness_seconds": seconds(of.lateness),
        })
    });
    let windows = plan.windows.iter().map(|of| {
        let by: Vec<&str> = of.by.iter().map(|(column, _)| column.value.as_str()).collect();
        let sources: Vec<String> = of.sources.iter().map(|of| source(*of)).collect();
        json!({"name": of.name.value, "sources": sources, "by": by})
    });
    let features = plan.features.iter().map(|of| {
        let data_type = types.type_of(&of.name.value).map(|t| t.to_string());
        json!({"name": of.name.value, "expression": of.text.value, "type": data_type})
    });
    let labels = plan.labels.iter().map(|of| {
        json!({
            "name": of.name.value,
            "source": source(of.source),
            "value": of.value.value,
            "wait_seconds": seconds(of.wait),
        })
    });
    let models = plan.models.iter().map(|of| {
        let features = of.inputs.iter().filter(|input| matches!(input, ModelInput::Feature(_)));
        json!({
            "name": of.name.value,
            "type": of.section.kind.value,
            "label": plan.labels[of.label].name.value,
            "features": features.count(),
            "retrained": of.retrain.is_some(),
        })
    });
    let drifts = plan.drifts.iter().map(|of| {
        let detectors: Vec<&str> = of.detect.iter().map(|d| d.kind.value.as_str()).collect();
        json!({
            "name": of.name.value,
            "of": match &of.of {
                DriftOf::Inputs { .. } => "features",
                DriftOf::Loss => "loss",
            },
            "detectors": detectors,
            "window_seconds": seconds(of.window),
            "every_seconds": seconds(of.every),
            "reference": of.model.map(|m| plan.models[m].name.value.clone()),
        })
    });
    let sinks = plan.sinks.iter().map(|of| {
        json!({
            "name": of.name.value,
            "type": of.section.kind.value,
            "stream": of.stream.name(),
        })
    });
    json!({
        "name": plan.pipeline.name.value,
        "version": env!("CARGO_PKG_VERSION"),
        "mode": match plan.pipeline.mode {
            Mode::Final => "final",
            Mode::AtOnce => "at_once",
        },
        "tick_seconds": seconds(plan.pipeline.tick),
        "live": setup.live,
        "spine": source(plan.pipeline.spine.value),
        "champion": plan.score.as_ref().map(|s| plan.models[s.champion].name.value.clone()),
        "sources": sources.collect::<Vec<_>>(),
        "windows": windows.collect::<Vec<_>>(),
        "features": features.collect::<Vec<_>>(),
        "labels": labels.collect::<Vec<_>>(),
        "models": models.collect::<Vec<_>>(),
        "drifts": drifts.collect::<Vec<_>>(),
        "sinks": sinks.collect::<Vec<_>>(),
        "edges": edges(plan),
    })
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
