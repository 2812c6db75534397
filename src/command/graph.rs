//! `tidemill graph`: a pipeline as a drawing.

use std::path::Path;

use clap::ValueEnum;
use serde_json::json;
use tidemill_config::document::load;

use super::{Failure, Said};
use crate::board::graph::edges;

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
