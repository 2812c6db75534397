//! `tidemill train`: runs one attempt at a task, a training or a part of a backfill, as executors start it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde_json::json;
use tidemill_connectors::task::folder::TaskFolder;
use tidemill_connectors::task::runner::{self, Attempt};
use tidemill_types::Error;
use tidemill_types::task::{BackfillTask, Failure, FailureClass, Task, TaskFile, TrainingTask};

use super::{Failure as Failed, Said};
use crate::backfill::{Place, part};
use crate::mill::training;
use crate::observe::{Display, ProgressBar, Screen};

/// Which attempt at which task.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The task's `task.json`, below `tasks` of a run's folder.
    task: PathBuf,
    /// The attempt; without it a new one is made, which takes the lease.
    #[arg(long)]
    attempt: Option<u32>,
    /// The memory that it may take, in MiB, instead of the task's own.
    #[arg(long)]
    memory_mb: Option<u64>,
}

/// Runs the attempt; the exit code is the runner's.
pub(super) fn run(options: &Options) -> Result<(Said, u8), Failed> {
    let (folder, file) = TaskFolder::of(&options.task)?;
    let number = match options.attempt {
        Some(number) => number,
        None => {
            let number = folder.lease()?.0 + 1;
            folder.grant(number)?;
            number
        }
    };
    let attempt = Attempt { number, memory_mb: options.memory_mb };
    let environment =
        json!({ "tidemill": env!("CARGO_PKG_VERSION"), "cpu": std::env::consts::ARCH });
    let code =
        runner::run(&folder, &file, attempt, environment, |file, threads| match &file.task {
            Task::Train(task) => train(&folder, file, task, threads),
            Task::Backfill(task) => backfill(&folder, file, task, number, threads),
        })?;
    let ended = folder.ended(number)?;
    let text = match &ended {
        Some(Ok(result)) => format!(
            "{} {} of {} rows in {:.1} s: {}\n",
            result.kind,
            &result.sha256[..12.min(result.sha256.len())],
            result.rows,
            result.usage.wall_s,
            result
                .metrics
                .iter()
                .map(|(k, v)| format!("{k} {v:.6}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Some(Err(failure)) => format!("failed ({}): {failure}\n", failure.code),
        None => "another attempt has the lease\n".to_string(),
    };
    let json = json!({ "attempt": number, "result": ended.as_ref().and_then(|e| e.as_ref().ok()),
        "failure": ended.as_ref().and_then(|e| e.as_ref().err()) });
    Ok((Said { text, json }, u8::try_from(code).unwrap_or(70)))
}

/// A part's paths mean what they meant where it was asked for.
fn backfill(
    folder: &TaskFolder,
    file: &TaskFile,
    task: &BackfillTask,
    number: u32,
    workers: usize,
) -> Result<tidemill_types::task::Artifact, Failure> {
    if task.given.working_folder.is_dir() {
        std::env::set_current_dir(&task.given.working_folder).map_err(|e| {
            Failure::new(FailureClass::Infra, "STORE", format!("cannot go to a folder: {e}"))
        })?;
    }
    let (scratch, stop) = (folder.attempt(number).join("run"), Arc::new(AtomicBool::new(false)));
    let place = Place { scratch: &scratch, workers, stop: &stop };
    let bar = ProgressBar::new(Display::None, &Screen::default());
    part::carry(file, task, folder, number, &place, bar)
}

fn train(
    folder: &TaskFolder,
    file: &TaskFile,
    task: &TrainingTask,
    threads: usize,
) -> Result<tidemill_types::task::Artifact, Failure> {
    let data = |code: &str, message: String| Failure::new(FailureClass::Data, code, message);
    if let Some(code) = file.code.as_ref().filter(|code| **code != env!("CARGO_PKG_VERSION")) {
        let message = format!(
            "the task asks for Tidemill {code}, this is {}: install that version where it runs, or change `code` of the executor",
            env!("CARGO_PKG_VERSION")
        );
        return Err(Failure::new(FailureClass::Code, "STALE_CODE", message));
    }
    for input in &file.inputs {
        if input.schema_fingerprint != task.schema {
            let message = format!("{} has rows of another feature schema", input.path.display());
            return Err(data("SCHEMA_MISMATCH", message));
        }
    }
    let inputs = training::inputs(task);
    let trained = training::run(task, &inputs, folder.run(), threads);
    trained.map_err(|error: Error| match error.fault {
        tidemill_types::Fault::External => data("TRAINING_FAILED", error.to_string()),
        _ => Failure::from(error.to_string()),
    })
}
