//! A simulated executor: a training ends when chance has it, or when it is waited for. Whether it fails is decided by the
//! task, so that it does so however often it is tried.

use std::time::Duration;

use tidemill_connectors::executor::Executor;
use tidemill_types::Error;
use tidemill_types::task::{Failure, FailureClass, Task, TaskOutcome, Train, TrainingTask};

use super::chance::Chance;

/// See the head of this file.
pub struct Trainings {
    train: Train,
    chance: Chance,
    waiting: Vec<TrainingTask>,
}

impl Trainings {
    /// Nothing is under way.
    pub fn new(train: Train, chance: Chance) -> Trainings {
        Trainings { train, chance, waiting: Vec::new() }
    }

    fn carry_out(&mut self) -> Vec<TaskOutcome> {
        let task = self.waiting.remove(0);
        let fails = task.id.starts_with(['0', '1', '2']);
        let result = match fails {
            true => Err(Failure::new(FailureClass::Code, "SIMULATED", "it fails")),
            false => (self.train)(&task, 1)
                .map_err(|e| Failure::new(FailureClass::Data, "TRAINING_FAILED", e.to_string())),
        };
        vec![TaskOutcome { task: task.id, result, setbacks: Vec::new(), seconds: 0.0 }]
    }
}

impl Executor for Trainings {
    fn hand_over(&mut self, task: Task) -> Result<(), Error> {
        if let Task::Train(task) = task {
            self.waiting.push(task);
        }
        Ok(())
    }

    fn finished(&mut self) -> Vec<TaskOutcome> {
        if self.waiting.is_empty() || !self.chance.once_in(3) {
            return Vec::new();
        }
        self.carry_out()
    }

    fn wait(&mut self, _: Duration) -> Vec<TaskOutcome> {
        if self.waiting.is_empty() { Vec::new() } else { self.carry_out() }
    }

    fn cancel(&mut self, task: &str) -> Result<(), Error> {
        self.waiting.retain(|waiting| waiting.id != task);
        Ok(())
    }
}
