//! Which executor a task goes to, by its size, and where it goes when the world fails there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidemill_types::Error;
use tidemill_types::task::{FailureClass, Setback, TaskOutcome, TrainingTask};

use super::Executor;
use super::supervisor::PASSED_OVER;

/// One of the executors that a model's tasks may go to.
pub struct Choice {
    /// Its name in the pipeline.
    pub name: String,
    /// Tasks of more rows than this go to it; 0 for all.
    pub above: u64,
    /// The executor.
    pub executor: Box<dyn Executor>,
    /// Where its tasks go, among the choices, when it cannot run them; a later one.
    pub fallback: Option<usize>,
}

/// Sends each task to the first choice that is for its size, and on to that one's fallback when it failed
/// for no fault of the task.
pub struct Router {
    choices: Vec<Choice>,
    /// Those of the choices that tasks may be sent to first.
    first: usize,
    under_way: BTreeMap<String, Way>,
}

struct Way {
    task: TrainingTask,
    at: usize,
    setbacks: Vec<Setback>,
    seconds: f64,
    cancelled: bool,
}

impl Router {
    /// `first` of the choices are tried by size, in order; the rest are only fallbacks.
    pub fn new(choices: Vec<Choice>, first: usize) -> Router {
        Router { choices, first, under_way: BTreeMap::new() }
    }

    /// Hands over a task that reads so many rows.
    ///
    /// # Errors
    /// No executor is for this size, or it is gone.
    pub fn submit(&mut self, task: TrainingTask, rows: u64) -> Result<(), Error> {
        let fits = |choice: &Choice| choice.above == 0 || rows > choice.above;
        let at = self.choices[..self.first].iter().position(fits);
        let at = at.ok_or_else(|| Error::internal("no executor is for a task of this size"))?;
        if self.under_way.contains_key(&task.id) {
            return Ok(());
        }
        self.choices[at].executor.submit(task.clone())?;
        let way = Way { task, at, setbacks: Vec::new(), seconds: 0.0, cancelled: false };
        self.under_way.insert(way.task.id.clone(), way);
        Ok(())
    }

    /// Outcomes since the last call; never waits.
    pub fn finished(&mut self) -> Vec<TaskOutcome> {
        let outcomes = self.choices.iter_mut().flat_map(|c| c.executor.finished());
        let outcomes: Vec<_> = outcomes.collect();
        self.settle(outcomes)
    }

    /// Waits for an outcome, at most `wait`.
    pub fn wait(&mut self, wait: Duration) -> Vec<TaskOutcome> {
        let until = Instant::now() + wait;
        loop {
            let done = self.finished();
            let Some(at) = self.under_way.values().next().map(|way| way.at) else { return done };
            let left = until.saturating_duration_since(Instant::now());
            if !done.is_empty() || left.is_zero() {
                return done;
            }
            let outcomes = self.choices[at].executor.wait(left);
            let done = self.settle(outcomes);
            if !done.is_empty() {
                return done;
            }
        }
    }

    /// Gives a task up.
    ///
    /// # Errors
    /// There is no such task.
    pub fn cancel(&mut self, task: &str) -> Result<(), Error> {
        let Some(way) = self.under_way.get_mut(task) else {
            return Err(Error::user(format!("there is no task {task}")));
        };
        way.cancelled = true;
        self.choices[way.at].executor.cancel(task)
    }

    /// Sends on what may succeed elsewhere; what is left are outcomes.
    fn settle(&mut self, outcomes: Vec<TaskOutcome>) -> Vec<TaskOutcome> {
        let mut done = Vec::new();
        for mut outcome in outcomes {
            let Some(way) = self.under_way.get_mut(&outcome.task) else { continue };
            way.setbacks.append(&mut outcome.setbacks);
            way.seconds += outcome.seconds;
            let choice = &self.choices[way.at];
            let failure = outcome.result.as_ref().err();
            let failure = failure.filter(|f| f.class == FailureClass::Infra && !way.cancelled);
            if let (Some(failure), Some(next)) = (failure, choice.fallback) {
                let (executor, failure) = (choice.name.clone(), failure.clone());
                let to = &self.choices[next].name;
                tracing::warn!(executor, to, "the training goes elsewhere: {failure}");
                let attempt = way.setbacks.iter().filter(|s| s.executor == executor).count();
                let passed_over = failure.code == PASSED_OVER;
                let attempt = if passed_over { 0 } else { attempt as u32 + 1 };
                way.setbacks.push(Setback { executor, attempt, failure });
                way.at = next;
                let task = way.task.clone();
                match self.choices[next].executor.submit(task) {
                    Ok(()) => continue,
                    Err(error) => outcome.result = Err(error.to_string().into()),
                }
            }
            let Some(way) = self.under_way.remove(&outcome.task) else { continue };
            (outcome.setbacks, outcome.seconds) = (way.setbacks, way.seconds);
            done.push(outcome);
        }
        done
    }
}
