//! The contract with whoever runs a task elsewhere: files in a folder that both sides see.
//!
//! ```text
//! RUN/tasks/blobs/ab/abcd...            artifacts by their SHA-256
//! RUN/tasks/ID/task.json                what is asked for; written once
//! RUN/tasks/ID/lease                    the attempt that may answer: "2", or "2 closed"
//! RUN/tasks/ID/cancel                   there when the task was given up
//! RUN/tasks/ID/result.json              the answer that was accepted; written once
//! RUN/tasks/ID/attempt-2/heartbeat.json replaced while the attempt lives
//! RUN/tasks/ID/attempt-2/log            what it said
//! RUN/tasks/ID/attempt-2/result.json    or failure.json: how it ended; written once
//! ```
//!
//! Three rules make it safe to believe nobody. *Truth* is a file that was written once, never what a
//! scheduler says. *Life* is the heartbeat. *Authority* is the lease: an attempt that was given up is
//! closed first, and whatever it writes later, nobody reads. So a task has one answer at most, however
//! many attempts are under way.

mod describe;
mod file;
pub mod folder;
pub mod policy;
pub mod runner;
mod sweep;

pub use describe::describe;
pub use file::write_once;
pub use sweep::{KEPT, sweep};
