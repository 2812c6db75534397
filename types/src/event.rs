//! What an event carries besides its columns: an id, where it came from, or why it was refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What orders events of one time and joins labels to rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Id {
    /// A whole number.
    Int(i64),
    /// A text.
    Text(Box<str>),
    /// No id is named by the pipeline: the canonical bytes of the typed row.
    Row(Box<[u8]>),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Int(i) => write!(f, "{i}"),
            Id::Text(text) => f.write_str(text),
            Id::Row(bytes) => f.write_str(&crate::schema::hex(bytes)),
        }
    }
}

/// Where a record stands in its log. It orders nothing: it differs between a file and Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The file or topic.
    pub origin: String,
    /// The partition; 0 for a file.
    pub partition: u32,
    /// The offset in a topic; the line (from 1) or row of a file.
    pub offset: u64,
}

/// A record that could not be used: nothing of it is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The name of the source in the pipeline.
    pub source: String,
    /// Where it stands.
    pub provenance: Provenance,
    /// A short stable word for counting: `parse`, `type`, `no_time`, `future`, `encoding`,
    /// `missing_column`, `duplicate_id`, `expression`, `too_large`.
    pub reason: String,
    /// The same for people, naming the column and what was found.
    pub detail: String,
    /// The raw bytes as they came.
    pub raw: Vec<u8>,
}
