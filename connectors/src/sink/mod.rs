//! Sinks: where results go.
//!
//! A sink takes record batches of one stream, in order, and makes them visible at [`Sink::commit`].
//! One thread drives it; its slowness is the engine's back-pressure.

mod blackhole;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod redis;
mod stdout;
pub mod transactions;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SinkPlan};
use tidemill_types::{Error, Micros, TraceContext};

/// Every sink, in the order of the reference.
pub const SINKS: &[Entry] = &[
    file::ENTRY,
    #[cfg(feature = "kafka")]
    kafka::ENTRY,
    redis::ENTRY,
    stdout::ENTRY,
    blackhole::ENTRY,
];

/// What a sink promises about doubles after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// What is committed is there once.
    ExactlyOnce,
    /// What is committed is there once, if the run makes the same rows in the same order when it is started
    /// again: those that are there are passed over.
    Transactions,
    /// A crash may write a row again, which changes nothing: what is there afterwards is the same.
    Upserts,
    /// A crash may repeat rows; said at start-up.
    AtLeastOnce,
}

/// What the list says about a sink.
pub struct Entry {
    /// The value of `type`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`.
    pub keys: &'static [(&'static str, &'static str, &'static str)],
    /// What it promises with these keys.
    pub delivery: fn(&SinkPlan) -> Delivery,
    /// Reads the keys without touching a peer.
    pub check: fn(&SinkPlan) -> Result<(), Vec<Diagnostic>>,
    /// What it writes to with these keys that other sinks may name too.
    pub targets: fn(&SinkPlan) -> Vec<Target>,
    /// Opens it; relative paths start at `folder`, the run's output folder.
    pub open: fn(&SinkPlan, schema: SchemaRef, folder: &Path) -> Result<Box<dyn Sink>, Error>,
    /// Opens it where a mark was made: what was taken after that has not been. A sink without it is
    /// opened as at the beginning, and gets rows again.
    pub reopen: Option<Reopen>,
    /// How a test looks at what is there, where that is no file in the run's folder.
    pub readback: Option<Readback>,
}

/// Something outside that a sink writes to.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Its name, and where in the file it is given.
    pub name: At<String>,
    /// The servers at which that name means it, any of them; none for what is no server's.
    pub servers: Vec<String>,
}

/// What a sink writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A file, by its path.
    File,
    /// A topic of rows, by its name. It takes the rows of several sinks.
    Topic,
    /// A topic that tells how far one sink has come, by its name, which is the transactional id too.
    Progress,
}

/// See [`Entry::readback`].
#[derive(Clone, Copy)]
pub struct Readback {
    /// The keys with which the sink writes to a place of its own, which nobody else uses.
    pub elsewhere: fn(&SinkPlan, suffix: &str) -> Vec<(&'static str, String)>,
    /// What a reader sees there: equal where the rows are.
    pub read: fn(&SinkPlan) -> Result<Vec<u8>, Error>,
    /// Removes it.
    pub remove: fn(&SinkPlan) -> Result<(), Error>,
}

/// See [`Entry::reopen`]; the bytes are those of [`Mark::state`].
pub type Reopen =
    fn(&SinkPlan, schema: SchemaRef, folder: &Path, &[u8]) -> Result<Box<dyn Sink>, Error>;

/// Where a sink stands.
pub struct Mark {
    /// What it needs to go on from there.
    pub state: Vec<u8>,
    /// Files that must be on the disk before the mark counts.
    pub files: Vec<File>,
}

/// An open sink.
pub trait Sink: Send {
    /// Takes rows. `times` are their event times, not falling from call to call.
    fn write(&mut self, rows: &RecordBatch, times: &[Micros]) -> Result<(), Error>;

    /// Tells the contexts of rows of the next [`Sink::write`], by their place in it and growing: who reads them
    /// there may go on with the trace, where the sink has a place to say so.
    fn trace(&mut self, _contexts: &[(usize, TraceContext)]) {}

    /// How long rows that were taken may wait for a commit.
    fn commit_every(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// Makes everything taken so far visible, as far as the sink's own rolling allows.
    fn commit(&mut self) -> Result<(), Error>;

    /// Where it stands, for a restart to go on from; nothing where it keeps no place. The sink goes on
    /// taking rows meanwhile, and what it writes shows nothing of it.
    fn mark(&mut self) -> Result<Option<Mark>, Error> {
        Ok(None)
    }

    /// The last commit: nothing more will come; files get their final names.
    fn close(self: Box<Self>) -> Result<(), Error>;
}
