//! Sources: where events come from.
//!
//! A source reads records of one or more partitions and hands them over in chunks: typed columns
//! of the declared schema, one offset a row, and the records that did not fit the schema as dead
//! letters. It keeps no time, drops nothing and orders nothing; the engine does.

mod file;
mod generator;
#[cfg(feature = "kafka")]
mod kafka;

use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{SourcePlan, Until};
use tidemill_types::{DeadLetter, Error, TraceContext};

/// Every source, in the order of the reference.
pub const SOURCES: &[Entry] = &[
    file::ENTRY,
    #[cfg(feature = "kafka")]
    kafka::ENTRY,
    generator::ENTRY,
];

/// What the list says about a source.
pub struct Entry {
    /// The value of `type`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// The component's own keys, `(key, type and default, meaning)`, for the reference and the JSON Schema.
    pub keys: &'static [(&'static str, &'static str, &'static str)],
    /// Where it ends if the file does not say.
    pub until: Until,
    /// Reads the keys without touching a peer.
    pub check: fn(&SourcePlan) -> Result<(), Vec<Diagnostic>>,
    /// Opens this worker's share of the partitions: those with `partition % share.1 == share.0`.
    pub open: fn(&SourcePlan, share: (usize, usize)) -> Result<Box<dyn Source>, Error>,
}

/// An open source. One thread drives it.
pub trait Source: Send {
    /// The partitions of this share, in order; an empty share is legal.
    fn partitions(&self) -> Vec<u32>;

    /// Reads on, for at most `wait`. At most a few thousand rows at a time.
    ///
    /// # Errors
    /// Only what stops the source for good; what may pass is retried inside, with a warning logged.
    fn poll(&mut self, wait: Duration) -> Result<Polled, Error>;

    /// The first offset of a partition that it reads when it is asked for nothing else: above 0 where what was
    /// before it is gone, or passed over.
    fn begins_at(&self, _partition: u32) -> u64 {
        0
    }

    /// The first offset of a partition that it will not read, where that is fixed from the start.
    fn ends_at(&self, _partition: u32) -> Option<u64> {
        None
    }

    /// The files that it reads, in their order.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// From now on chunks tell the contexts of their rows, where a source has any.
    fn trace(&mut self) {}

    /// Stops or resumes reading a partition (back-pressure).
    fn pause(&mut self, partition: u32, paused: bool);

    /// Places the next read of a partition at an offset (the first row with that offset or above).
    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), Error>;
}

/// What a read brought.
pub enum Polled {
    /// Rows.
    Chunk(Chunk),
    /// The partition stands at its end: for ever where the source is bounded, for now where it is live.
    /// Said once each time it gets there.
    AtEnd(u32),
    /// Nothing came within the time given.
    Nothing,
}

/// Some rows of one partition, in the order of its log.
pub struct Chunk {
    /// The partition.
    pub partition: u32,
    /// Typed columns: exactly the declared schema.
    pub rows: RecordBatch,
    /// One a row, growing: the offset in a topic, the line or row number (from 1) of a file.
    pub offsets: Vec<u64>,
    /// Records that did not fit the schema.
    pub rejects: Vec<DeadLetter>,
    /// Where each of them stands among the offsets: over several files its provenance does not say.
    pub rejected: Vec<u64>,
    /// Offsets of rows that came with the context of a sampled trace, growing.
    pub contexts: Vec<(u64, TraceContext)>,
}

/// Refuses a partition that is not of this share.
fn own(partitions: &[u32], partition: u32) -> Result<(), Error> {
    if partitions.contains(&partition) {
        return Ok(());
    }
    Err(Error::internal(format!("partition {partition} is not read here, only {partitions:?}")))
}
