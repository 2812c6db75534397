//! `in_process`: trainings on one thread beside the dataflow. A training that runs is not interrupted, for
//! nothing in it could be.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::Fault;
use tidemill_types::task::{Artifact, Failure, FailureClass, Setback, Task, Train};

use super::queue::{Carry, Queue};
use super::{Entry, Keys};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "in_process",
    summary: "trainings on a thread of this process",
    keys: KEYS,
    apart: false,
    check: |section| threads(section, 1).map(drop),
    open: |section, setup| {
        let threads = threads(section, setup.threads).map_err(keys::error)?;
        Ok(Box::new(Queue::start(InProcess { train: setup.train.clone(), threads })?))
    },
};

const KEYS: Keys =
    &[("threads", "1 to 1024, none", "what a training may use; every core if not given")];

fn threads(section: &Section, default: usize) -> Result<usize, Vec<Diagnostic>> {
    let mut params = section.params();
    let threads = params.integer("threads", default.max(1) as i64, 1..=1_024);
    params.finish()?;
    Ok(threads as usize)
}

struct InProcess {
    train: Train,
    threads: usize,
}

impl Carry for InProcess {
    fn carry(
        &mut self,
        task: &Task,
        _: &dyn Fn() -> bool,
        _: &mut Vec<Setback>,
    ) -> Result<Artifact, Failure> {
        let Task::Train(task) = task else {
            let message = "parts of a backfill run in this process without an executor";
            return Err(Failure::new(FailureClass::Code, "NO_TRAINING", message));
        };
        (self.train)(task, self.threads).map_err(|error| match error.fault {
            Fault::External => {
                Failure::new(FailureClass::Data, "TRAINING_FAILED", error.to_string())
            }
            _ => error.to_string().into(),
        })
    }
}
