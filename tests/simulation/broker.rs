//! A simulated broker: topics that are read from, in chunks as chance has it, and topics that transactions are written
//! to.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use tidemill::checkpoint::points;
use tidemill_connectors::format::for_messages;
use tidemill_connectors::sink::Sink;
use tidemill_connectors::sink::transactions::{
    About, Broker, ExactlyOnce, Failed, Message, Progress,
};
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

/// A topic that is written to by transactions, and the record of what it holds.
#[derive(Default)]
pub struct Written {
    /// Committed messages, in order.
    pub rows: Vec<String>,
    progress: Option<Progress>,
    /// How often the transactional id was taken over.
    epoch: u64,
    /// A commit of which nobody knows yet whether it will be done: its rows and its record.
    undecided: Option<(Vec<String>, Progress)>,
}

impl Written {
    fn commit(&mut self, rows: Vec<String>, record: Progress) {
        self.rows.extend(rows);
        self.progress = Some(record);
    }
}

/// Its brokers, as the owner of the transactional id has them: now and then they do not answer, whatever they did.
pub struct Brokers {
    topic: Arc<Mutex<Written>>,
    epoch: u64,
    /// What was sent in the transaction under way.
    sent: Option<Vec<String>>,
    chance: Chance,
    /// Whether what a former owner sent has its fate when the id is taken over.
    fences: bool,
}

impl Brokers {
    /// Nothing was asked of them yet.
    pub fn new(topic: Arc<Mutex<Written>>, chance: Chance, fences: bool) -> Brokers {
        Brokers { topic, epoch: 0, sent: None, chance, fences }
    }

    fn answer(&mut self) -> Result<(), Failed> {
        match self.chance.once_in(60) {
            true => Err(Failed::Passing(Error::external("no answer"))),
            false => Ok(()),
        }
    }

    fn own(&self) -> Result<MutexGuard<'_, Written>, Failed> {
        let written = self.topic.lock().expect("whole");
        match written.epoch == self.epoch {
            true => Ok(written),
            false => Err(Failed::Passing(Error::external("the id was taken over"))),
        }
    }
}

impl Broker for Brokers {
    fn last(&mut self) -> Result<Option<Progress>, Failed> {
        self.answer()?;
        Ok(self.topic.lock().expect("whole").progress.clone())
    }

    fn take_over(&mut self) -> Result<(), Failed> {
        self.answer()?;
        self.sent = None;
        let mut written = self.topic.lock().expect("whole");
        written.epoch += 1;
        self.epoch = written.epoch;
        if self.fences
            && let Some((rows, record)) =
                written.undecided.take().filter(|_| self.chance.once_in(2))
        {
            written.commit(rows, record);
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failed> {
        drop(self.own()?);
        assert!(self.sent.is_none(), "a transaction is under way");
        self.sent = Some(Vec::new());
        Ok(())
    }

    fn send(&mut self, message: Message<'_>) -> Result<(), Failed> {
        self.answer()?;
        drop(self.own()?);
        let sent = self.sent.as_mut().expect("a transaction is under way");
        sent.push(String::from_utf8_lossy(message.value).into_owned());
        Ok(())
    }

    fn commit(&mut self, record: &Progress) -> Result<(), Failed> {
        let sent = self.sent.take().expect("a transaction is under way");
        let mut written = self.own()?;
        // Only where the id is not fenced there is still something of before.
        if let Some((rows, record)) = written.undecided.replace((sent, record.clone())) {
            written.commit(rows, record);
        }
        drop(written);
        points::pass("kafka.sent");
        let silent = Err(Failed::Passing(Error::external("no answer to a commit")));
        let fate = self.chance.below(40);
        let mut written = self.own()?;
        match (fate, written.undecided.take()) {
            (0, undecided) => {
                written.undecided = undecided;
                silent
            }
            (1, Some((rows, record))) => {
                written.commit(rows, record);
                silent
            }
            (_, Some((rows, record))) => {
                written.commit(rows, record);
                Ok(())
            }
            (_, None) => unreachable!("nobody else decides"),
        }
    }

    fn rest(&mut self) {}
}

/// The sink that writes to a topic: the product's own, over these brokers.
///
/// # Errors
/// The topic does not fit the mark.
pub fn sink(
    brokers: Brokers,
    (name, life): (&str, u64),
    schema: &SchemaRef,
    mark: Option<&[u8]>,
    every: Duration,
) -> Result<Box<dyn Sink>, Error> {
    let (_, messages) = for_messages(None).map_err(|_| Error::internal("no JSON"))?;
    let about = About {
        topic: name.to_string(),
        progress: format!("{name}.progress"),
        life: format!("life {life}"),
        every,
        key: Vec::new(),
        encoder: (messages.encoder)(schema)?,
    };
    Ok(Box::new(ExactlyOnce::open(brokers, about, mark, false)?))
}
