//! What flows between the operators: batches, never single rows.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_types::{Id, Key, Micros};

use crate::window::Rank;

/// Timely's timestamp: a bundle of ticks, or an epoch.
pub type Round = u64;

/// Rows of one source after parsing, computed columns and the late check. They stay on the worker
/// that read them.
#[derive(Debug)]
pub struct Rows {
    /// Index of the source in the plan.
    pub source: usize,
    /// Event time of each row.
    pub times: Vec<Micros>,
    /// Id of each row.
    pub ids: Vec<Id>,
    /// Declared and computed columns.
    pub batch: RecordBatch,
    /// Number of the first row among the spine rows that this worker has read.
    pub first_slot: u64,
    /// `at_once`, after a restart: spine rows that were taken in and answered before it, and are owed their
    /// last answer.
    pub known: bool,
}

/// `at_once`: spine rows that the watermark has not passed, as a line keeps them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldRows {
    /// Event time of each row.
    pub times: Vec<Micros>,
    /// Id of each row.
    pub ids: Vec<Id>,
    /// Declared and computed columns: several batches where they are long.
    pub columns: Wires,
}

/// A record batch that can cross a process border, as an Arrow IPC stream.
#[derive(Clone, Debug)]
pub struct Wire(pub RecordBatch);

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        streamed(std::slice::from_ref(&self.0), serializer)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wire, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let mut reader = StreamReader::try_new(bytes.as_slice(), None).map_err(D::Error::custom)?;
        match reader.next() {
            Some(batch) => batch.map(Wire).map_err(D::Error::custom),
            None => Ok(Wire(RecordBatch::new_empty(reader.schema()))),
        }
    }
}

/// Record batches of one schema, one at least, as one stream; a single one is written as [`Wire`] is.
#[derive(Clone, Debug)]
pub struct Wires(pub Vec<RecordBatch>);

impl Serialize for Wires {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        streamed(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Wires {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wires, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(D::Error::custom)?;
        reader.collect::<Result<_, _>>().map(Wires).map_err(D::Error::custom)
    }
}

fn streamed<S: Serializer>(batches: &[RecordBatch], serializer: S) -> Result<S::Ok, S::Error> {
    let first = batches.first().ok_or_else(|| S::Error::custom("a stream of no batch"))?;
    let mut bytes = Vec::new();
    let mut writer =
        StreamWriter::try_new(&mut bytes, &first.schema()).map_err(S::Error::custom)?;
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(S::Error::custom)?;
    writer.finish().map_err(S::Error::custom)?;
    serializer.serialize_bytes(&bytes)
}

/// Inserts into or reads from one group of windows, addressed to the worker that owns the keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requests {
    /// The worker that owns the keys.
    pub to: usize,
    /// The worker that asks.
    pub from: usize,
    /// Index of the group in the program.
    pub group: usize,
    /// One a row; a NULL key matches nothing.
    pub keys: Vec<Option<Key>>,
    /// One a row.
    pub times: Vec<Micros>,
    /// One a row.
    pub ids: Vec<Id>,
    /// What is asked.
    pub kind: Kind,
}

/// What a batch of requests asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Take the rows of this stream in: the group's columns.
    Insert(Rank, Wire),
    /// Answer as of these rows, known to the asker by these slots.
    Read(Vec<u64>),
    /// Take the rows of the spine in and answer as of them: the slots, and the group's columns.
    Take(Vec<u64>, Wire),
    /// Answer these rows when the watermark passes them, and not before: known rows, by their slots.
    Wait(Vec<u64>),
    /// The asker's watermark, in `at_once` mode: each worker tells all.
    Mark(Micros),
}

impl Kind {
    /// The stream of the rows; that of the spine is the last where it is one of the group's.
    pub(super) fn rank(&self) -> Rank {
        match self {
            Kind::Insert(rank, _) => *rank,
            Kind::Read(_) | Kind::Take(..) | Kind::Wait(_) | Kind::Mark(_) => Rank::LAST,
        }
    }
}

/// Answers of one group to rows of one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// The worker that asked.
    pub to: usize,
    /// Index of the group in the program.
    pub group: usize,
    /// Whether the watermark has passed the rows, so that this is their last answer.
    pub last: bool,
    /// The rows, as the asker knows them.
    pub slots: Vec<u64>,
    /// The group's outputs, a column each.
    pub columns: Wire,
    /// The pipeline's watermark, where this message is there to tell it.
    pub watermark: Option<Micros>,
}

/// Spine rows with their features, in (event time, id) order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Features {
    /// Whether the watermark has passed the rows; otherwise they may be corrected once.
    pub last: bool,
    /// Event time of each row.
    pub times: Vec<Micros>,
    /// Id of each row.
    pub ids: Vec<Id>,
    /// The feature columns.
    pub columns: Wire,
    /// What the program keeps beside them.
    pub kept: Option<Wire>,
}

/// An expression of the program, by where it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Site {
    /// That of a feature.
    Feature(usize),
    /// That of a label.
    Label(usize),
    /// Of a group of windows, a component of the key that rows of the spine read.
    Key(usize, usize),
    /// Of a group of windows, a column that it keeps: what a call aggregates, or its filter.
    Column(usize, usize),
}

/// Rows on which an expression failed, and is NULL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which expression.
    pub site: Site,
    /// How many.
    pub rows: u64,
    /// Event time and id of the first of them.
    pub first: (Micros, Id),
    /// Why that one did.
    pub reason: String,
}

impl Failed {
    /// Of rows of these times and ids, those on which the expression failed; none where it did on none.
    pub fn of(
        site: Site,
        failed: Vec<(usize, String)>,
        times: &[Micros],
        ids: &[Id],
    ) -> Option<Failed> {
        let rows = failed.len() as u64;
        let first = failed.into_iter().map(|(row, reason)| (times[row], &ids[row], reason)).min();
        let (time, id, reason) = first?;
        Some(Failed { site, rows, first: (time, id.clone()), reason })
    }

    /// Adds further rows on which the same expression failed: what is told of all of them does not depend on
    /// who told of which.
    pub fn add(&mut self, other: &Failed) {
        self.rows += other.rows;
        if (&other.first, &other.reason) < (&self.first, &self.reason) {
            (self.first, self.reason) = (other.first.clone(), other.reason.clone());
        }
    }
}

/// Labels of one label section as they landed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Labels {
    /// Index of the label in the plan.
    pub label: usize,
    /// When each became known.
    pub times: Vec<Micros>,
    /// The id of the spine row that each belongs to.
    pub ids: Vec<Id>,
    /// The label; NaN where its expression gave NULL.
    pub values: Vec<f64>,
}

/// How far partitions were read, by `source/partition`: at each tick of event time the highest offset.
pub type Reached = Vec<(String, Vec<(i64, u64)>)>;

/// What arrives where models learn, score and are chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Decide {
    /// Rows to score.
    Features(Features),
    /// Labels to learn.
    Labels(Labels),
    /// Expressions that failed on some rows: each row is told of once.
    Failed(Vec<Failed>),
    /// The pipeline's watermark as of this epoch (`at_once`).
    Watermark(Micros),
    /// A worker has read all of its bounded input; its largest event time.
    End(Micros),
    /// How far a worker of another process has read, before any of these rows is seen.
    Reached(Reached),
}
