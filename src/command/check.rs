//! `tidemill check`: is this pipeline file sound?

use std::path::Path;

use serde_json::json;
use tidemill_config::document::load;

use super::{Failure, Said};
use crate::engine::check::compile;

/// Loads a pipeline; what is wrong with it is the failure.
pub(super) fn run(file: &Path, overrides: &[(String, String)]) -> Result<Said, Failure> {
    let compiled = compile(load(file, overrides)?)?;
    let plan = &compiled.plan;
    let counts = [
        ("sources", plan.sources.len()),
        ("windows", plan.windows.len()),
        ("features", plan.features.len()),
        ("labels", plan.labels.len()),
        ("models", plan.models.len()),
        ("drifts", plan.drifts.len()),
        ("sinks", plan.sinks.len()),
    ];
    let listed: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
    let name = &plan.pipeline.name.value;
    Ok(Said {
        text: format!("{}: `{name}` is sound: {}\n", file.display(), listed.join(", ")),
        json: json!({
            "pipeline": name,
            "sound": true,
            "counts": counts.iter().map(|(k, n)| (k.to_string(), json!(n)))
                .collect::<serde_json::Map<_, _>>(),
        }),
    })
}
