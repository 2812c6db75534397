//! Executors: where a retraining task runs.

mod in_process;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::Error;
use tidemill_types::task::{TaskOutcome, Train, TrainingTask};

/// Every executor, in the order of the reference.
pub const EXECUTORS: &[Entry] = &[in_process::ENTRY];

/// What the list says about an executor.
pub struct Entry {
    /// The value of `executor`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// Reads the keys without touching a peer.
    pub check: fn(&Section) -> Result<(), Vec<Diagnostic>>,
    /// Makes it ready; `threads` is what it may use of this machine.
    pub open: fn(&Section, train: Train, threads: usize) -> Result<Box<dyn Executor>, Error>,
}

/// Runs tasks one after another, apart from the dataflow.
pub trait Executor: Send {
    /// Hands over a task. Handing over the same id again while it is known runs nothing twice.
    fn submit(&mut self, task: TrainingTask) -> Result<(), Error>;

    /// Outcomes since the last call; never waits.
    fn finished(&mut self) -> Vec<TaskOutcome>;

    /// Waits for an outcome, at most `wait`.
    fn wait(&mut self, wait: std::time::Duration) -> Vec<TaskOutcome>;

    /// Gives a task up: its outcome, if any still comes, is an error. Final.
    fn cancel(&mut self, task: &str) -> Result<(), Error>;
}
