//! The executors of each model, opened as the pipeline says.

use std::collections::BTreeMap;

use tidemill_config::plan::{At, ModelPlan, Plan, RetrainPlan};
use tidemill_config::section::Section;
use tidemill_connectors::executor::{Choice, EXECUTORS, Entry, Router, Setup};
use tidemill_operators::trainer::TRAINERS;
use tidemill_types::Error;

use crate::host::Host;

/// The trainers that are of the Python package.
pub fn python_trainers() -> Vec<&'static str> {
    TRAINERS.iter().filter(|entry| entry.train.is_none()).map(|entry| entry.name).collect()
}

/// What an executor's name means: its section, or a bare one of that type.
pub fn resolve(plan: &Plan, name: &str) -> Option<(&'static Entry, Section, Option<At<String>>)> {
    let declared = plan.executors.iter().find(|executor| executor.name.value == name);
    let (section, fallback) = match declared {
        Some(executor) => (executor.section.clone(), executor.fallback.clone()),
        None => (Section::bare(name), None),
    };
    let entry = EXECUTORS.iter().find(|entry| entry.name == section.kind.value)?;
    Some((entry, section, fallback))
}

/// The executors of a model by name: those that it names, then what they fall back to.
pub fn names(plan: &Plan, retrain: &RetrainPlan) -> Vec<String> {
    let mut names: Vec<String> =
        retrain.executor.iter().map(|choice| choice.name.value.clone()).collect();
    let mut at = 0;
    while at < names.len() {
        let next = resolve(plan, &names[at]).and_then(|(.., fallback)| fallback);
        names.extend(next.map(|name| name.value).filter(|name| !names.contains(name)));
        at += 1;
    }
    names
}

/// Opens the executors of every model that is retrained.
///
/// # Errors
/// One of them cannot be made ready.
pub fn open(plan: &Plan, setup: &Setup, host: &Host) -> Result<BTreeMap<usize, Router>, Error> {
    let retrained = |(m, model): (usize, &ModelPlan)| Some((m, model.retrain.clone()?));
    plan.models
        .iter()
        .enumerate()
        .filter_map(retrained)
        .map(|(m, retrain)| Ok((m, router(plan, &retrain, setup, host)?)))
        .collect()
}

fn router(plan: &Plan, retrain: &RetrainPlan, setup: &Setup, host: &Host) -> Result<Router, Error> {
    let names = names(plan, retrain);
    let mut choices = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let (entry, section, fallback) =
            resolve(plan, name).ok_or_else(|| Error::internal("an executor is not there"))?;
        let setup = Setup { name: name.clone(), ..setup.clone() };
        let next = fallback.and_then(|to| names.iter().position(|name| *name == to.value));
        choices.push(Choice {
            name: name.clone(),
            above: retrain.executor.get(at).map_or(0, |choice| choice.above),
            executor: match host.simulation() {
                Some(world) => world.executor(&setup),
                None => (entry.open)(&section, &setup)?,
            },
            fallback: next,
        });
    }
    Ok(Router::new(choices, retrain.executor.len()))
}
