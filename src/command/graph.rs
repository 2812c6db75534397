//! `tidemill graph`: a pipeline as a drawing.

use std::path::Path;

use clap::ValueEnum;
use serde_json::json;
use tidemill_config::document::load;
use tidemill_config::plan::{DriftOf, ModelInput, Plan};

use super::{Failure, Said};

/// The language of a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Graphviz.
    Dot,
    /// Mermaid, which Markdown renderers draw.
    Mermaid,
}

/// Draws a pipeline.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    format: Format,
) -> Result<Said, Failure> {
    let plan = load(file, overrides)?.plan;
    let edges = edges(&plan);
    let text = match format {
        Format::Dot => dot(&plan.pipeline.name.value, &edges),
        Format::Mermaid => mermaid(&edges),
    };
    let json = json!({ "edges": edges });
    Ok(Said { text, json })
}

/// What flows from where to where, in the order of the river.
fn edges(plan: &Plan) -> Vec<(String, String)> {
    let source = |i: usize| format!("source.{}", plan.sources[i].name.value);
    let model = |i: usize| format!("model.{}", plan.models[i].name.value);
    let label = |i: usize| format!("label.{}", plan.labels[i].name.value);
    let mut edges = Vec::new();
    let mut add = |from: String, to: &str| edges.push((from, to.to_string()));
    add(source(plan.pipeline.spine.value), "features");
    for window in &plan.windows {
        let name = format!("window.{}", window.name.value);
        add(source(window.source), &name);
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

fn dot(name: &str, edges: &[(String, String)]) -> String {
    let mut out = format!("digraph \"{name}\" {{\n  rankdir=LR;\n  node [shape=box];\n");
    for (from, to) in edges {
        out.push_str(&format!("  \"{from}\" -> \"{to}\";\n"));
    }
    out + "}\n"
}

fn mermaid(edges: &[(String, String)]) -> String {
    let mut out = "flowchart LR\n".to_string();
    let id = |name: &str| name.replace(['.', '-'], "_");
    for (from, to) in edges {
        out.push_str(&format!("  {}[\"{from}\"] --> {}[\"{to}\"]\n", id(from), id(to)));
    }
    out
}
