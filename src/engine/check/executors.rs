//! Whether each model's trainings have somewhere to run.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, ModelPlan, Plan};
use tidemill_connectors::executor::EXECUTORS;
use tidemill_operators::trainer::TRAINERS;

use super::{collect, find};
use crate::mill::executors::{names, resolve};

/// Checks `[executor.*]` and what models and fallbacks name.
pub(super) fn check(plan: &Plan, errors: &mut Vec<Diagnostic>) {
    for executor in &plan.executors {
        let kind = &executor.section.kind;
        if let Some(entry) = find(EXECUTORS, |e| e.name, kind, "executor", errors) {
            collect((entry.check)(&executor.section), errors);
        }
        if let Some(to) = &executor.fallback {
            named(plan, to, errors);
        }
        circle(plan, &executor.name, errors);
    }
    for model in &plan.models {
        let Some(retrain) = &model.retrain else { continue };
        let before = errors.len();
        for choice in &retrain.executor {
            named(plan, &choice.name, errors);
        }
        if errors.len() == before {
            for name in names(plan, retrain) {
                language(plan, model, &name, errors);
            }
        }
    }
}

/// A name of a section, or of a type whose keys all have defaults.
fn named(plan: &Plan, name: &At<String>, errors: &mut Vec<Diagnostic>) {
    if plan.executors.iter().any(|executor| executor.name.value == name.value) {
        return;
    }
    let declared: Vec<&str> = plan.executors.iter().map(|e| e.name.value.as_str()).collect();
    let Some((entry, section, _)) = resolve(plan, &name.value) else {
        let types: Vec<&str> = EXECUTORS.iter().map(|entry| entry.name).collect();
        let all: Vec<&str> = declared.into_iter().chain(types).collect();
        errors.push(Diagnostic::new(
            &name.span,
            format!("there is no executor `{}`", name.value),
            format!("the executors are {}", all.join(", ")),
            match tidemill_config::suggest(&name.value, all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add [executor.{}] with its `type`", name.value),
            },
        ));
        return;
    };
    if let Err(found) = (entry.check)(&section) {
        errors.push(Diagnostic::new(
            &name.span,
            format!("executor `{}` cannot be used without a section", name.value),
            found.first().map(|d| d.reason.clone()).unwrap_or_default(),
            format!("add [executor.NAME] with type = \"{}\" and name NAME here", name.value),
        ));
    }
}

/// Fallbacks that lead back to where they began.
fn circle(plan: &Plan, from: &At<String>, errors: &mut Vec<Diagnostic>) {
    let mut seen = vec![from.value.clone()];
    while let Some((.., Some(next))) = seen.last().and_then(|name| resolve(plan, name)) {
        if seen.contains(&next.value) {
            if next.value == from.value {
                errors.push(Diagnostic::new(
                    &from.span,
                    format!("executor `{}` falls back to itself", from.value),
                    format!("by way of {}", seen.join(", ")),
                    "let the last one have no `fallback`, or \"in_process\"",
                ));
            }
            return;
        }
        seen.push(next.value);
    }
}

/// A trainer in Python needs a process of its own.
fn language(plan: &Plan, model: &ModelPlan, name: &str, errors: &mut Vec<Diagnostic>) {
    let kind = &model.section.kind;
    let python = TRAINERS.iter().any(|t| t.name == kind.value && t.train.is_none());
    let here = resolve(plan, name).is_some_and(|(entry, ..)| !entry.apart);
    if python && here {
        let apart: Vec<&str> = EXECUTORS.iter().filter(|e| e.apart).map(|e| e.name).collect();
        errors.push(Diagnostic::new(
            &kind.span,
            format!("model `{}` cannot be trained by executor `{name}`", model.name.value),
            format!(
                "trainer `{}` is of the Python package and needs a process of its own",
                kind.value
            ),
            format!(
                "set `executor` of `retrain`, and each `fallback`, to one of type {}",
                apart.join(", ")
            ),
        ));
    }
}
