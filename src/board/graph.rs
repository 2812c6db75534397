//! What flows from where to where in a pipeline.

use tidemill_config::plan::{DriftOf, ModelInput, Plan};

/// What flows from where to where, in the order of the river.
pub fn edges(plan: &Plan) -> Vec<(String, String)> {
    let source = |i: usize| format!("source.{}", plan.sources[i].name.value);
    let model = |i: usize| format!("model.{}", plan.models[i].name.value);
    let label = |i: usize| format!("label.{}", plan.labels[i].name.value);
    let mut edges = Vec::new();
    let mut add = |from: String, to: &str| edges.push((from, to.to_string()));
    add(source(plan.pipeline.spine.value), "features");
    for window in &plan.windows {
        let name = format!("window.{}", window.name.value);
        window.sources.iter().for_each(|of| add(source(*of), &name));
        add(name, "features");
    }
    for (i, of) in plan.labels.iter().enumerate() {
        add(source(of.source), &label(i));
    }
    for (i, of) in plan.models.iter().enumerate() {
        add(label(of.label), &model(i));
        if of.inputs.iter().any(|input| matches!(input, ModelInput::Feature(_))) {
            add("features".to_string(), &model(i));
        }
        for input in &of.inputs {
            if let ModelInput::Margin(other) = input {
                add(model(*other), &model(i));
            }
        }
        for drift in of.retrain.iter().flat_map(|r| &r.drifts) {
            add(format!("drift.{}", plan.drifts[*drift].name.value), &model(i));
        }
    }
    for drift in &plan.drifts {
        let name = format!("drift.{}", drift.name.value);
        match drift.of {
            DriftOf::Inputs { .. } => add("features".to_string(), &name),
            DriftOf::Loss => add("score".to_string(), &name),
        }
    }
    if let Some(score) = &plan.score {
        add(model(score.champion), "score");
    }
    for sink in &plan.sinks {
        add(sink.stream.name().to_string(), &format!("sink.{}", sink.name.value));
    }
    edges
}
