//! What tells one pipeline, or one state of it, from another.

use sha2::{Digest, Sha256};
use tidemill_config::gate::GatePlan;
use tidemill_config::plan::Plan;
use tidemill_types::schema::hex;

/// SHA-256 over the plan without what may change between runs of one pipeline: where its sources
/// and sinks are.
pub(super) fn of(plan: &Plan) -> String {
    let mut hash = Sha256::new();
    let p = &plan.pipeline;
    let mut add = |text: String| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(format!("{} {:?} {} {}", p.name.value, p.mode, p.tick, p.seed));
    for source in &plan.sources {
        let columns: Vec<_> = source.columns.iter().map(|(n, e)| (&n.value, &e.value)).collect();
        add(format!("{} {:?} {columns:?}", source.name.value, source.schema));
        add(format!("{:?} {:?}", source.filter.as_ref().map(|f| &f.value), source.lateness));
    }
    for window in &plan.windows {
        let by: Vec<_> = window.by.iter().map(|(c, e)| (&c.value, &e.value)).collect();
        let sources: Vec<String> = window.sources.iter().map(usize::to_string).collect();
        let sources = sources.join("+");
        add(format!("{} {sources} {by:?} {:?}", window.name.value, window.frame));
        let secondary = window.secondary.as_ref().map(|column| &column.value);
        add(format!("{:?} {:?} {secondary:?}", window.edge, window.series));
    }
    for feature in &plan.features {
        add(format!("{} {}", feature.name.value, feature.text.value));
    }
    for label in &plan.labels {
        add(format!("{} {} {}", label.name.value, label.value.value, label.wait));
        add(format!("{} {:?} {}", label.source, label.otherwise, label.settled));
    }
    for model in &plan.models {
        let keys: Vec<_> = model.section.keys.iter().map(|(k, v)| (&k.value, &v.value)).collect();
        add(format!("{} {} {keys:?}", model.name.value, model.section.kind.value));
        add(format!("{:?} {:?}", model.inputs, model.publish));
        if let Some(r) = &model.retrain {
            add(format!("{:?} {:?} {} {}", r.every, r.drifts, r.cooldown, r.takes));
            add(format!("{:?} {} {} {:?}", r.last, r.max_rows, r.min_rows, r.promote));
            add(format!("{:?} {:?} {}", r.labels, r.loss, r.budget));
        }
        if let Some(g) = &model.gate {
            let segments: Vec<usize> = g.segments.iter().map(|s| s.value).collect();
            let g = GatePlan { segments: Vec::new(), ..g.clone() };
            add(format!("{g:?} {segments:?}"));
        }
        if let Some(r) = &model.rollout {
            let by = r.by.as_ref().map(|by| by.value);
            add(format!(
                "{} {:?} {by:?} {} {}",
                r.shadow, r.canary, r.false_promotion, r.false_abort
            ));
            add(format!("{} {} {} {} {}", r.margin, r.clip, r.min_rows, r.give_up, r.probation));
            add(format!("{:?}", r.abort_on));
        }
    }
    for drift in &plan.drifts {
        add(format!("{:?} {:?} {} {}", drift.of, drift.model, drift.window, drift.every));
    }
    hex(&hash.finalize())
}
