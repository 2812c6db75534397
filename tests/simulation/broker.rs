//! A simulated broker: topics that are read from, in chunks as chance has it, and topics that transactions are written
//! to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use tidemill::engine::outputs::row_as_json;
use tidemill_connectors::sink::{Mark, Sink};
use tidemill_connectors::source::{Chunk, Polled, Source};
use tidemill_types::{DeadLetter, Error, Micros, Provenance};

use super::chance::Chance;

/// A value of a record.
#[derive(Clone, Debug)]
pub enum Cell {
    Int(i64),
    Time(Option<Micros>),
    Text(String),
    Float(f64),
    Bool(bool),
}

/// A record: columns, or bytes that are none.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: u64,
    pub row: Option<Vec<Cell>>,
}

/// The records of each partition.
pub type Log = Vec<Vec<Record>>;

fn column(of: &[&Vec<Cell>], at: usize) -> ArrayRef {
    macro_rules! all {
        ($kind:path) => {
            of.iter().map(|row| match &row[at] {
                $kind(value) => value.clone(),
                other => panic!("{other:?}"),
            })
        };
    }
    match &of[0][at] {
        Cell::Int(_) => Arc::new(Int64Array::from_iter_values(all!(Cell::Int))),
        Cell::Text(_) => Arc::new(StringArray::from_iter_values(all!(Cell::Text))),
        Cell::Float(_) => Arc::new(Float64Array::from_iter_values(all!(Cell::Float))),
        Cell::Bool(_) => Arc::new(BooleanArray::from_iter(all!(Cell::Bool).map(Some))),
        Cell::Time(_) => {
            Arc::new(TimestampMicrosecondArray::from_iter(all!(Cell::Time)).with_timezone("UTC"))
        }
    }
}

/// Reads a log.
pub struct Topic {
    pub name: String,
    pub schema: SchemaRef,
    pub log: Arc<Log>,
    /// The partitions that are read, with the place in each; none once its end was told.
    pub places: Vec<(u32, Option<usize>)>,
    /// Records of a chunk at most.
    pub most: u64,
    pub chance: Chance,
}

impl Source for Topic {
    fn partitions(&self) -> Vec<u32> {
        self.places.iter().map(|(partition, _)| *partition).collect()
    }

    fn poll(&mut self, _: Duration) -> Result<Polled, Error> {
        let open: Vec<usize> =
            (0..self.places.len()).filter(|i| self.places[*i].1.is_some()).collect();
        if open.is_empty() || self.chance.once_in(5) {
            return Ok(Polled::Nothing);
        }
        let (partition, place) = &mut self.places[self.chance.of(&open)];
        let from = place.expect("it is open");
        let all = &self.log[*partition as usize];
        if from == all.len() {
            *place = None;
            return Ok(Polled::AtEnd(*partition));
        }
        let n = 1 + self.chance.below(self.most) as usize;
        let records = &all[from..all.len().min(from + n)];
        *place = Some(from + records.len());
        let rows: Vec<&Vec<Cell>> = records.iter().filter_map(|r| r.row.as_ref()).collect();
        let columns = (0..self.schema.fields().len()).map(|at| column(&rows, at));
        let batch = match rows.is_empty() {
            true => RecordBatch::new_empty(Arc::clone(&self.schema)),
            false => RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())
                .map_err(|e| Error::internal(e.to_string()))?,
        };
        let bad = || records.iter().filter(|record| record.row.is_none());
        let letter = |record: &Record| DeadLetter {
            source: self.name.clone(),
            provenance: Provenance {
                origin: self.name.clone(),
                partition: *partition,
                offset: record.offset,
            },
            reason: "parse".to_string(),
            detail: "no JSON".to_string(),
            raw: b"?".to_vec(),
        };
        Ok(Polled::Chunk(Chunk {
            partition: *partition,
            rows: batch,
            offsets: records.iter().filter(|r| r.row.is_some()).map(|r| r.offset).collect(),
            rejects: bad().map(letter).collect(),
            rejected: bad().map(|record| record.offset).collect(),
            contexts: Vec::new(),
        }))
    }

    fn pause(&mut self, _: u32, _: bool) {}

    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        let place = self.log[partition as usize].partition_point(|r| r.offset < offset);
        for (known, at) in &mut self.places {
            if *known == partition {
                *at = Some(place);
            }
        }
        Ok(())
    }
}

/// What a topic holds that is written to by transactions.
#[derive(Default)]
pub struct Written {
    /// Committed messages, in order.
    pub rows: Vec<String>,
    /// Who may write: the life that opened it last.
    owner: u64,
}

/// Writes to a topic. What was committed is made again by a run that goes on, in the same order: it is passed over, and
/// must be the same.
pub struct Producer {
    topic: Arc<Mutex<Written>>,
    owner: u64,
    /// Rows that were given, and those of them that no transaction holds yet.
    given: usize,
    pending: Vec<String>,
    every: Duration,
}

impl Producer {
    /// Takes the topic over, behind the rows of a mark.
    pub fn open(topic: Arc<Mutex<Written>>, mark: Option<&[u8]>, every: Duration) -> Producer {
        let given = mark.map_or(0, |mark| {
            u64::from_le_bytes(mark.try_into().expect("a mark of this sink")) as usize
        });
        let mut written = topic.lock().expect("whole");
        assert!(given <= written.rows.len(), "a line was made behind rows that were not committed");
        written.owner += 1;
        let owner = written.owner;
        drop(written);
        Producer { topic, owner, given, pending: Vec::new(), every }
    }
}

impl Sink for Producer {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        let written = self.topic.lock().expect("whole");
        for line in (0..rows.num_rows()).map(|row| row_as_json(rows, row)) {
            if let Some(there) = written.rows.get(self.given) {
                if *there != line {
                    return Err(Error::external(format!(
                        "row {} of the topic is {there}, and this run makes {line}",
                        self.given
                    )));
                }
            } else {
                self.pending.push(line);
            }
            self.given += 1;
        }
        Ok(())
    }

    fn commit_every(&self) -> Duration {
        self.every
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut written = self.topic.lock().expect("whole");
        if written.owner != self.owner {
            return Err(Error::external("another run has taken over the topic"));
        }
        written.rows.append(&mut self.pending);
        Ok(())
    }

    fn mark(&mut self) -> Result<Option<Mark>, Error> {
        self.commit()?;
        let state = (self.given as u64).to_le_bytes().to_vec();
        Ok(Some(Mark { state, files: Vec::new() }))
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.commit()
    }
}
