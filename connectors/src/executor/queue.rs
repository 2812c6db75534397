//! What executors share: one thread that takes tasks in turn.
//!
//! * **Order** one after the other, as handed over.
//! * **Identity** an id is run at most once in the life of the executor, whatever became of it.
//! * **Failure** an error or a panic of the training is the task's outcome; the next task is run.
//! * **Cancel** a task that waits is never begun; one that runs is asked to end, and its outcome is an
//!   error whatever it makes of that.
//! * **Drop** gives up what waits and does not wait for what runs.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidemill_types::Error;
use tidemill_types::task::{Artifact, Failure, FailureClass, Setback, Task, TaskOutcome};

use super::Executor;

/// How one task is carried out. It may look at any time whether the task was given up.
pub(super) trait Carry: Send + 'static {
    /// Carries a task out; attempts that came to nothing are added to the setbacks.
    fn carry(
        &mut self,
        task: &Task,
        given_up: &dyn Fn() -> bool,
        setbacks: &mut Vec<Setback>,
    ) -> Result<Artifact, Failure>;
}

/// An executor with a thread of its own.
pub(super) struct Queue {
    tasks: Sender<Task>,
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

pub(super) fn cancelled() -> Failure {
    Failure::new(FailureClass::Cancelled, "CANCELLED", "cancelled")
}

impl Queue {
    pub(super) fn start(mut carrier: impl Carry) -> Result<Queue, Error> {
        let (tasks, queue) = channel::<Task>();
        let (done, outcomes) = channel();
        let given_up = GivenUp(Arc::new(Mutex::new(Some(BTreeSet::new()))));
        let seen = given_up.clone();
        let work = move || {
            for task in queue {
                if done.send(run(&task, &mut carrier, &seen)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("training".to_string())
            .spawn(work)
            .map_err(|e| Error::external(format!("cannot start a thread for trainings: {e}")))?;
        Ok(Queue { tasks, outcomes, known: BTreeSet::new(), awaited: 0, given_up })
    }

    /// An outcome on its way out; a cancellation that came after the end of the training counts.
    fn give(&mut self, mut outcome: TaskOutcome) -> TaskOutcome {
        self.awaited -= 1;
        if self.given_up.holds(&outcome.task) {
            outcome.result = Err(cancelled());
        }
        outcome
    }
}

fn run(task: &Task, carrier: &mut impl Carry, given_up: &GivenUp) -> TaskOutcome {
    let start = Instant::now();
    let mut setbacks = Vec::new();
    let is_given_up = || given_up.holds(task.id());
    let result = if is_given_up() {
        Err(cancelled())
    } else {
        let carried =
            catch_unwind(AssertUnwindSafe(|| carrier.carry(task, &is_given_up, &mut setbacks)));
        carried.unwrap_or_else(|panic| {
            Err(format!("the training panicked: {}", words(panic.as_ref())).into())
        })
    };
    let seconds = start.elapsed().as_secs_f64();
    TaskOutcome { task: task.id().to_string(), result, setbacks, seconds }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

impl Executor for Queue {
    fn hand_over(&mut self, task: Task) -> Result<(), Error> {
        if !self.known.insert(task.id().to_string()) {
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

impl Drop for Queue {
    fn drop(&mut self) {
        *self.given_up.ids() = None;
    }
}
