//! Executors: where a task runs, a training or a part of a backfill.

mod dask;
mod in_process;
mod jobs;
mod queue;
mod ray;
mod router;
mod subprocess;
mod supervisor;

use std::path::PathBuf;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::Error;
use tidemill_types::task::{Task, TaskOutcome, Train, TrainingTask};

pub use router::{Choice, Router};

/// Every executor, in the order of the reference.
pub const EXECUTORS: &[Entry] = &[in_process::ENTRY, subprocess::ENTRY, ray::ENTRY, dask::ENTRY];

/// `(key, type and default, meaning)`.
type Keys = &'static [(&'static str, &'static str, &'static str)];

/// What the list says about an executor.
pub struct Entry {
    /// The value of `type`; a model may name it without a section where all its keys have defaults.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`.
    pub keys: Keys,
    /// Whether tasks run in processes of their own, by the contract of [`crate::task`]: then they may be
    /// of any language.
    pub apart: bool,
    /// Reads the keys without touching a peer.
    pub check: fn(&Section) -> Result<(), Vec<Diagnostic>>,
    /// Makes it ready.
    pub open: fn(&Section, &Setup) -> Result<Box<dyn Executor>, Error>,
}

/// What an executor is made of.
#[derive(Clone)]
pub struct Setup {
    /// Its name in the pipeline.
    pub name: String,
    /// How a task is carried out in this process.
    pub train: Train,
    /// What a training may use of this machine.
    pub threads: usize,
    /// The run's folder: paths of training data start there, and tasks are kept in it.
    pub folder: PathBuf,
    /// Trainers that are of the Python package.
    pub python: Vec<&'static str>,
}

/// Runs tasks one after another, apart from the dataflow.
pub trait Executor: Send {
    /// Hands over a task. Handing over the same id again while it is known runs nothing twice.
    fn hand_over(&mut self, task: Task) -> Result<(), Error>;

    /// Hands over a training.
    fn submit(&mut self, task: TrainingTask) -> Result<(), Error> {
        self.hand_over(task.into())
    }

    /// Outcomes since the last call; never waits.
    fn finished(&mut self) -> Vec<TaskOutcome>;

    /// Waits for an outcome, at most `wait`.
    fn wait(&mut self, wait: std::time::Duration) -> Vec<TaskOutcome>;

    /// Gives a task up: its outcome, if any still comes, is an error. Final.
    fn cancel(&mut self, task: &str) -> Result<(), Error>;
}
