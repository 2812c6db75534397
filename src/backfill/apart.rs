//! Parts of a backfill carried out one by one: in this process, or by executors that run tasks elsewhere.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tidemill_config::section::Section;
use tidemill_connectors::executor::{Entry, Executor, Setup};
use tidemill_connectors::task::describe;
use tidemill_connectors::task::folder::TaskFolder;
use tidemill_connectors::task::runner::{self, Attempt};
use tidemill_types::Error;
use tidemill_types::task::{BackfillTask, Failure, FailureClass, Limits, TaskOutcome, TaskResult};

use super::rows::Written;
use super::{Place, part};
use crate::observe::ProgressBar;

/// How often it is told that parts are under way.
const TELL: Duration = Duration::from_secs(10);

/// A part that is done.
pub struct Done {
    /// Which one, from 0.
    pub part: usize,
    /// Its answer.
    pub result: TaskResult,
    /// Where its rows are.
    pub rows: (std::path::PathBuf, Written),
    /// Whether it was there already.
    pub before: bool,
}

/// Takes what is told of parts as they are done.
pub type Tell<'a> = &'a mut dyn FnMut(&Done);

/// How parts are carried out.
pub struct Crew<'a> {
    /// The executor with its keys; none for this process.
    pub executor: Option<(&'static Entry, Section)>,
    /// Attempts at once elsewhere; workers of the dataflow here.
    pub workers: usize,
    /// Set when all is to stop.
    pub stop: &'a Arc<AtomicBool>,
    /// Makes a bar for a part that is computed here.
    pub bar: &'a dyn Fn() -> ProgressBar,
}

/// Carries out the parts that are not done, and finds those that are, in a folder that whoever runs them sees.
///
/// # Errors
/// A part that failed for good; those that were done stay done.
pub fn carry(
    tasks: &[BackfillTask],
    folder: &Path,
    crew: &Crew<'_>,
    tell: Tell<'_>,
) -> Result<Vec<Done>, Error> {
    let mut done: Vec<Done> = Vec::with_capacity(tasks.len());
    let mut missing = VecDeque::new();
    for (n, task) in tasks.iter().enumerate() {
        match found(task, folder, crew, n, true)? {
            Some(found) => {
                tell(&found);
                done.push(found);
            }
            None => missing.push_back(n),
        }
    }
    match &crew.executor {
        None => {
            for n in missing {
                here(&tasks[n], folder, crew)?;
                let now =
                    found(&tasks[n], folder, crew, n, false)?.ok_or_else(|| gone(&tasks[n]))?;
                tell(&now);
                done.push(now);
            }
        }
        Some(executor) => elsewhere(tasks, folder, crew, executor, missing, &mut |n| {
            let now = found(&tasks[n], folder, crew, n, false)?.ok_or_else(|| gone(&tasks[n]))?;
            tell(&now);
            done.push(now);
            Ok(())
        })?,
    }
    done.sort_by_key(|done| done.part);
    Ok(done)
}

fn gone(task: &BackfillTask) -> Error {
    Error::external(format!("the rows of {} were written and are gone", task.id))
        .help("somebody else writes into the folder of this backfill: start it again")
}

/// What another program is asked to run.
fn code_of(executor: Option<&(&'static Entry, Section)>) -> Option<String> {
    let (_, section) = executor?;
    section.params().optional_text("code").map(|code| code.value)
}

/// A part that is done. One whose rows somebody removed is begun anew.
fn found(
    task: &BackfillTask,
    folder: &Path,
    crew: &Crew<'_>,
    part: usize,
    before: bool,
) -> Result<Option<Done>, Error> {
    let code = code_of(crew.executor.as_ref());
    let file = describe(&task.clone().into(), folder, no_limits(1), code)?;
    let path = folder.join("tasks").join(&file.task_id);
    if !path.join("task.json").exists() {
        return Ok(None);
    }
    let at = TaskFolder::make(folder, &file)?;
    if let Some((result, written)) = part::done(&at)? {
        let rows = (at.blob(&written.sha256), written);
        return Ok(Some(Done { part, result, rows, before }));
    }
    if at.result()?.is_some() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(None)
}

/// A part of this process has no deadline, and the memory that there is.
fn no_limits(cpus: usize) -> Limits {
    let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    Limits { deadline_s: 1e9, heartbeat_s: 1.0, cpus, gpus: 0, memory_mb: u64::MAX >> 20 }
}

/// Carries a part out in this process.
fn here(task: &BackfillTask, folder: &Path, crew: &Crew<'_>) -> Result<(), Error> {
    let file = describe(&task.clone().into(), folder, no_limits(crew.workers), None)?;
    let at = TaskFolder::make(folder, &file)?;
    at.renew();
    // An attempt that an earlier backfill left, here or elsewhere, loses the right to answer.
    let number = at.lease()?.0 + 1;
    at.grant(number)?;
    let scratch = at.attempt(number).join("run");
    let attempt = Attempt { number, memory_mb: None };
    let environment =
        json!({ "tidemill": env!("CARGO_PKG_VERSION"), "cpu": std::env::consts::ARCH });
    runner::run(&at, &file, attempt, environment, |file, workers| {
        let place = Place { scratch: &scratch, workers, stop: crew.stop };
        part::carry(file, task, &at, number, &place, (crew.bar)())
    })?;
    match at.ended(number)? {
        Some(Ok(result)) => at.accept(&result).map(drop),
        Some(Err(_)) if crew.stop.load(Ordering::SeqCst) => Err(super::stopped()),
        Some(Err(failure)) => Err(failed(task, &failure)),
        None => Err(Error::external(format!("another backfill computes {}", task.id))
            .help("wait for it, or stop it")),
    }
}

fn failed(task: &BackfillTask, failure: &Failure) -> Error {
    let message = format!("{} failed: {failure} ({})", task.id, failure.code);
    let error = match failure.class {
        FailureClass::Data => Error::user(message),
        FailureClass::Code => Error::internal(message),
        _ => Error::external(message),
    };
    error.help(
        "set it right and give the same command again: parts that are done are not computed anew",
    )
}

/// Hands parts to so many executors of a kind as parts may run at once, each of which takes one at a time.
fn elsewhere(
    tasks: &[BackfillTask],
    folder: &Path,
    crew: &Crew<'_>,
    (entry, section): &(&'static Entry, Section),
    mut missing: VecDeque<usize>,
    ended: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let setup = Setup {
        name: section.path.rsplit('.').next().unwrap_or(entry.name).to_string(),
        train: Arc::new(|_, _| Err(Error::internal("a backfill trains nothing"))),
        threads: 1,
        folder: folder.to_path_buf(),
        python: Vec::new(),
    };
    let mut hands: Vec<(Box<dyn Executor>, Option<usize>)> = Vec::new();
    for _ in 0..crew.workers.min(missing.len()) {
        hands.push(((entry.open)(section, &setup)?, None));
    }
    let mut trouble: Option<Error> = None;
    let mut told = Instant::now();
    loop {
        let stopped = crew.stop.load(Ordering::SeqCst);
        if stopped && trouble.is_none() {
            trouble = Some(super::stopped());
        }
        let mut busy = false;
        for (executor, at) in &mut hands {
            if at.is_none() && trouble.is_none() {
                *at = missing.pop_front();
                if let Some(n) = *at {
                    executor.hand_over(tasks[n].clone().into())?;
                }
            }
            let Some(n) = *at else { continue };
            if stopped {
                // What is under way elsewhere is given up; its outcome tells when it is. After a failure of
                // another part it is waited for instead: what it comes to stays.
                executor.cancel(&tasks[n].id)?;
            }
            for TaskOutcome { result, setbacks, .. } in executor.finished() {
                *at = None;
                for setback in setbacks {
                    let (attempt, failure) = (setback.attempt, setback.failure);
                    tracing::warn!(part = tasks[n].id, attempt, "{failure}");
                }
                match result {
                    Ok(_) => ended(n)?,
                    Err(failure) if trouble.is_none() => {
                        trouble = Some(failed(&tasks[n], &failure))
                    }
                    Err(_) => {}
                }
            }
            busy |= at.is_some();
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            let under_way = hands.iter().filter(|(_, at)| at.is_some()).count();
            tracing::info!(under_way, waiting = missing.len(), "parts");
        }
        let more = trouble.is_none() && !missing.is_empty();
        if !busy && !more {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    trouble.map_or(Ok(()), Err)
}

/// Takes a backfill's folder for this process, for as long as the file is held.
///
/// # Errors
/// Another process has it.
pub fn lock(folder: &Path) -> Result<std::fs::File, Error> {
    let path = folder.join("lock");
    let file = std::fs::File::create(&path)
        .map_err(|e| Error::external(format!("cannot write {}: {e}", path.display())))?;
    file.try_lock().map_err(|_| {
        Error::user(format!("another backfill writes into {}", folder.display()))
            .help("wait for it, or give --out another name")
    })?;
    Ok(file)
}
