//! `in_process`: trainings on one thread beside the dataflow.
//!
//! * **Order** one after the other, as handed over; a training may use `threads` threads itself.
//! * **Identity** an id is run at most once in the life of the executor, whatever became of it.
//! * **Failure** an error or a panic of the training is the task's outcome; the next task is run.
//! * **Cancel** a task that waits is never begun; one that runs is not interrupted, for nothing in
//!   it could be, but its outcome becomes an error.
//! * **Drop** gives up what waits and does not wait for what runs.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::Error;
use tidemill_types::task::{Artifact, TaskOutcome, Train, TrainingTask};

use super::{Entry, Executor};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "in_process",
    summary: "trainings on a thread of this process",
    check: |section| threads(section, 1).map(drop),
    open: |section, train, default| {
        let threads = threads(section, default).map_err(keys::error)?;
        Ok(Box::new(InProcess::start(train, threads)?))
    },
};

const CANCELLED: &str = "cancelled";

fn threads(section: &Section, default: usize) -> Result<usize, Vec<Diagnostic>> {
    let mut params = section.params();
    let threads = params.integer("threads", default.max(1) as i64, 1..=1_024);
    params.finish()?;
    Ok(threads as usize)
}

struct InProcess {
    tasks: Sender<TrainingTask>,
    outcomes: Receiver<TaskOutcome>,
    known: BTreeSet<String>,
    /// Handed over, and no outcome given out yet.
    awaited: usize,
    given_up: GivenUp,
}

/// Ids that are cancelled; `None` when all are.
#[derive(Clone)]
struct GivenUp(Arc<Mutex<Option<BTreeSet<String>>>>);

impl GivenUp {
    fn ids(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, task: &str) -> bool {
        self.ids().as_ref().is_none_or(|ids| ids.contains(task))
    }
}

impl InProcess {
    fn start(train: Train, threads: usize) -> Result<InProcess, Error> {
        let (tasks, queue) = channel::<TrainingTask>();
        let (done, outcomes) = channel();
        let given_up = GivenUp(Arc::new(Mutex::new(Some(BTreeSet::new()))));
        let seen = given_up.clone();
        let work = move || {
            for task in queue {
                let outcome = run(&task, &train, threads, &seen);
                if done.send(outcome).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("training".to_string())
            .spawn(work)
            .map_err(|e| Error::external(format!("cannot start a thread for trainings: {e}")))?;
        Ok(InProcess { tasks, outcomes, known: BTreeSet::new(), awaited: 0, given_up })
    }

    /// An outcome on its way out; a cancellation that came after the end of the training counts.
    fn give(&mut self, mut outcome: TaskOutcome) -> TaskOutcome {
        self.awaited -= 1;
        if self.given_up.holds(&outcome.task) {
            outcome.result = Err(CANCELLED.to_string());
        }
        outcome
    }
}

fn run(task: &TrainingTask, train: &Train, threads: usize, given_up: &GivenUp) -> TaskOutcome {
    let start = Instant::now();
    let result = if given_up.holds(&task.id) {
        Err(CANCELLED.to_string())
    } else {
        guarded(task, train, threads)
    };
    TaskOutcome { task: task.id.clone(), result, seconds: start.elapsed().as_secs_f64() }
}

fn guarded(task: &TrainingTask, train: &Train, threads: usize) -> Result<Artifact, String> {
    match catch_unwind(AssertUnwindSafe(|| train(task, threads))) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the training panicked: {}", words(panic.as_ref()))),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

impl Executor for InProcess {
    fn submit(&mut self, task: TrainingTask) -> Result<(), Error> {
        if !self.known.insert(task.id.clone()) {
            return Ok(());
        }
        self.awaited += 1;
        self.tasks.send(task).map_err(|_| Error::internal("the training thread is gone"))
    }

    fn finished(&mut self) -> Vec<TaskOutcome> {
        let outcomes: Vec<_> = self.outcomes.try_iter().collect();
        outcomes.into_iter().map(|outcome| self.give(outcome)).collect()
    }

    /// Returns at once where nothing is under way.
    fn wait(&mut self, wait: Duration) -> Vec<TaskOutcome> {
        if self.awaited == 0 {
            return Vec::new();
        }
        let Ok(first) = self.outcomes.recv_timeout(wait) else { return Vec::new() };
        let mut outcomes = vec![self.give(first)];
        outcomes.extend(self.finished());
        outcomes
    }

    fn cancel(&mut self, task: &str) -> Result<(), Error> {
        if !self.known.contains(task) {
            return Err(Error::user(format!("there is no task {task}")));
        }
        if let Some(ids) = self.given_up.ids().as_mut() {
            ids.insert(task.to_string());
        }
        Ok(())
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        *self.given_up.ids() = None;
    }
}
