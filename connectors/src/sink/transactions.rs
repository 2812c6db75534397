//! Exactly once by transactions: rows and a record of how far they go in one transaction. What a topic's brokers have
//! to do for it is a [`Broker`]; `tests/simulation.rs` has one that forgets answers and dies at any step.
//!
//! * **A row has a number**, for a run that is started again makes the same rows in the same order. The record
//!   ([`Progress`]) says how many rows committed transactions hold, and a hash of them; rows up to there are passed over.
//!   Where the hash is another one the run makes other rows than those that are there, and stops.
//! * **Fencing** whoever opens the sink takes its transactional id over: the broker ends a transaction that a former run
//!   left open, and refuses whatever that run still sends.
//! * **Unknown outcomes** a commit whose answer did not come is never guessed at: the id is taken over anew, which
//!   the broker grants when the fate of the former transaction is decided; then the record is read, and what it does not
//!   have is sent again. So is whatever was under way when a broker went.
//! * **A second run** that takes the id over leaves its name in the record; who is fenced and finds another's name stops.
//! * **Memory** the rows of the transaction under way, [`MOST`] at most.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use tidemill_types::{Error, Micros, TraceContext};
use xxhash_rust::xxh3::Xxh3;

use super::{Mark, Sink};
use crate::format::{self, Encoder};
use crate::steps;

/// Rows of one transaction, about.
pub const MOST: u64 = 50_000;

/// How long brokers may be away before the run ends. A restart goes on all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two warnings about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Why something did not go.
pub enum Failed {
    /// It may go when it is tried again, all of it from the beginning.
    Passing(Error),
    /// No second attempt mends it.
    ForGood(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::ForGood(error)
    }
}

/// A message.
pub struct Message<'a> {
    /// The number of its row in its batch.
    pub row: usize,
    /// Its key, if it has one.
    pub key: Option<&'a Vec<u8>>,
    /// Its value.
    pub value: &'a [u8],
    /// The contexts of rows of its batch.
    pub contexts: &'a [(usize, TraceContext)],
}

/// The brokers of one topic, and of the record of what it holds, as one transactional id has them.
pub trait Broker: Send {
    /// What the committed transaction said that came last.
    ///
    /// # Errors
    /// No answer, or a topic that is gone.
    fn last(&mut self) -> Result<Option<Progress>, Failed>;

    /// Takes the id over: no other producer has it any more, and the fate of all its transactions is decided.
    ///
    /// # Errors
    /// No answer.
    fn take_over(&mut self) -> Result<(), Failed>;

    /// Begins a transaction.
    ///
    /// # Errors
    /// The id was taken over; no answer.
    fn begin(&mut self) -> Result<(), Failed>;

    /// Sends a message in the transaction under way.
    ///
    /// # Errors
    /// The id was taken over; no answer.
    fn send(&mut self, message: Message<'_>) -> Result<(), Failed>;

    /// Sends the record and commits the transaction under way. Where there is no answer nobody knows whether it is
    /// committed.
    ///
    /// # Errors
    /// The id was taken over; no answer.
    fn commit(&mut self, record: &Progress) -> Result<(), Failed>;

    /// A pause before the next attempt.
    fn rest(&mut self);
}

/// Rows given so far, and a hash of all of them in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How many.
    pub rows: u64,
    /// The hash (XXH3-128) of the one before it and the row, from the first on.
    pub chain: u128,
}

impl Place {
    /// Behind one row more.
    pub fn after(self, key: Option<&[u8]>, value: &[u8]) -> Place {
        let mut hash = Xxh3::new();
        hash.update(&self.chain.to_le_bytes());
        // Lengths tell a key from the value behind it, and an empty key from none.
        let length = key.map_or(u64::MAX, |key| key.len() as u64);
        hash.update(&length.to_le_bytes());
        hash.update(key.unwrap_or_default());
        hash.update(value);
        Place { rows: self.rows + 1, chain: hash.digest128() }
    }
}

/// The record of what a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The rows that committed transactions hold.
    pub held: Place,
    /// The life of a run that said so.
    pub life: String,
}

/// Where the rows before a line end.
#[derive(Serialize, Deserialize)]
struct Standing {
    rows: u64,
    chain: u128,
}

/// What a sink by transactions is called, and how it makes messages.
pub struct About {
    /// The topic.
    pub topic: String,
    /// Where the record is, and the transactional id.
    pub progress: String,
    /// A name of this life of the process, which no other has.
    pub life: String,
    /// How long rows may wait for a commit.
    pub every: Duration,
    /// Columns that make the key.
    pub key: Vec<usize>,
    /// What makes the value.
    pub encoder: Box<dyn Encoder>,
}

/// See the head of this file.
pub struct ExactlyOnce<B> {
    broker: B,
    about: About,
    /// Whether this life's name was left in the record.
    claimed: bool,
    /// Whether a transaction is under way.
    begun: bool,
    /// The rows that were given.
    given: Place,
    /// The rows that committed transactions hold.
    held: Place,
    /// Where the rows under way begin, and they.
    from: Place,
    under_way: Vec<Batch>,
    /// Of the rows of the next write.
    contexts: Vec<(usize, TraceContext)>,
}

/// Rows, and the contexts of some of them.
type Batch = (RecordBatch, Vec<(usize, TraceContext)>);

impl<B: Broker> ExactlyOnce<B> {
    /// Opens the sink at the beginning or, with the state of a mark, behind the rows before it. `made` says that the
    /// topic was not there and is empty.
    ///
    /// # Errors
    /// Brokers that are away for too long; a record that does not fit the topic or the mark.
    pub fn open(
        broker: B,
        about: About,
        state: Option<&[u8]>,
        made: bool,
    ) -> Result<ExactlyOnce<B>, Error> {
        let given = match state {
            None => Place::default(),
            Some(state) => {
                let Standing { rows, chain } = bincode::deserialize(state)
                    .map_err(|e| Error::internal(format!("the mark of a topic: {e}")))?;
                Place { rows, chain }
            }
        };
        let mut sink = ExactlyOnce {
            broker,
            about,
            claimed: false,
            begun: false,
            given,
            held: Place::default(),
            from: given,
            under_way: Vec::new(),
            contexts: Vec::new(),
        };
        sink.withstand(ExactlyOnce::take_over)?;
        let About { topic, progress, .. } = &sink.about;
        if made && sink.held.rows > 0 {
            return Err(Error::external(format!(
                "the topic {topic} was not there and is made anew, and {progress} counts {} rows in it",
                sink.held.rows
            ))
            .help("restore the topic, or name another `progress` to write all rows again"));
        }
        steps::pass("kafka.fenced");
        let passed_over = sink.held.rows - sink.given.rows;
        tracing::info!(
            topic,
            rows = sink.held.rows,
            passed_over,
            "the topic holds rows of this pipeline"
        );
        Ok(sink)
    }

    /// Takes the transactional id over and reads how far its transactions have come; then leaves this
    /// life's name there.
    fn take_over(&mut self) -> Result<(), Failed> {
        self.begun = false;
        let before = self.broker.last()?;
        // Who took the id from this life has left another name; brokers take it from whoever is silent for too long
        // too, and leave none.
        if self.claimed && before.is_some_and(|last| last.life != self.about.life) {
            return Err(Failed::ForGood(self.taken_over()));
        }
        self.broker.take_over()?;
        self.held = self.broker.last()?.map_or_else(Place::default, |found| found.held);
        let before = self.from;
        if self.held.rows < before.rows || self.held.rows == before.rows && self.held != before {
            return Err(Failed::ForGood(self.gone(before)));
        }
        self.broker.begin()?;
        self.begun = true;
        let given = std::mem::replace(&mut self.given, self.held);
        let claimed = self.commit_once();
        self.given = given;
        self.claimed |= claimed.is_ok();
        claimed
    }

    fn gone(&self, before: Place) -> Error {
        let About { topic, progress, .. } = &self.about;
        Error::external(format!(
            "the topic {progress} says that {topic} holds {} rows of this sink, and the checkpoint was made behind {}",
            self.held.rows, before.rows
        ))
        .help("the topic of progress is another one or was changed: restore it. To begin again, name a new topic for the rows, or they will be there twice, and remove the run's folder of checkpoints")
    }

    /// Sends a batch without the rows that the topic has.
    fn send(&mut self, (rows, contexts): &Batch) -> Result<(), Failed> {
        let (broker, held, begun) = (&mut self.broker, self.held, &mut self.begun);
        let About { topic, key: columns, encoder, .. } = &mut self.about;
        let mut given = self.given;
        let mut failed = None;
        let mut key = Vec::new();
        let sent = encoder.encode(rows, &mut |row, value| {
            key.clear();
            format::write_key(rows, row, columns, &mut key)?;
            let key = (!columns.is_empty()).then_some(&key);
            given = given.after(key.map(Vec::as_slice), value);
            if given.rows <= held.rows {
                let same = given.rows < held.rows || given == held;
                return if same { Ok(()) } else { Err(other_rows(topic, held)) };
            }
            let mut sent = Ok(());
            if !*begun {
                sent = broker.begin();
                *begun = true;
            }
            sent.and_then(|()| broker.send(Message { row, key, value, contexts })).map_err(|why| {
                failed = Some(why);
                Error::internal("what the broker said stands beside it")
            })
        });
        self.given = given;
        match failed {
            Some(why) => Err(why),
            None => sent.map_err(Failed::ForGood),
        }
    }

    /// Commits what is under way, with the record of it.
    fn commit_once(&mut self) -> Result<(), Failed> {
        if !self.begun {
            return Ok(());
        }
        self.broker.commit(&Progress { held: self.given, life: self.about.life.clone() })?;
        steps::pass("kafka.committed");
        self.held = self.given;
        self.begun = false;
        Ok(())
    }

    /// Goes on after trouble: takes the id over, finds out what is there, and sends what is not.
    fn recover(&mut self, mut why: Error) -> Result<(), Error> {
        let (began, mut warned) = (Instant::now(), None::<Instant>);
        loop {
            if began.elapsed() >= PATIENCE {
                return Err(why);
            }
            if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                tracing::warn!(topic = self.about.topic, "{}; trying on", why.message);
            }
            self.broker.rest();
            match self.take_over().and_then(|()| self.send_again()) {
                Ok(()) => return Ok(()),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::Passing(error)) => why = error,
            }
        }
    }

    fn send_again(&mut self) -> Result<(), Failed> {
        self.given = self.from;
        for batch in self.under_way.clone() {
            self.send(&batch)?;
        }
        self.commit_once()
    }

    fn taken_over(&self) -> Error {
        let About { topic, progress, .. } = &self.about;
        Error::external(format!(
            "another run has taken over the topic {topic}: it writes as `{progress}` too"
        ))
        .help("let one of them run; two that shall both write there want a name of `progress` each")
    }

    /// Does something; where the broker fails, goes on from what it has.
    fn withstand(
        &mut self,
        work: impl FnOnce(&mut ExactlyOnce<B>) -> Result<(), Failed>,
    ) -> Result<(), Error> {
        match work(self) {
            Ok(()) => Ok(()),
            Err(Failed::ForGood(error)) => Err(error),
            Err(Failed::Passing(error)) => self.recover(error),
        }
    }
}

fn other_rows(topic: &str, held: Place) -> Error {
    Error::external(format!(
        "the topic {topic} holds {} rows of this pipeline, and this run makes other ones",
        held.rows
    ))
    .help(
        "a run that goes on must read the same input; to send what it makes now behind them, give the sink a \
         new name of `progress`",
    )
}

impl<B: Broker> Sink for ExactlyOnce<B> {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        let batch = (rows.clone(), std::mem::take(&mut self.contexts));
        self.under_way.push(batch.clone());
        self.withstand(|sink| sink.send(&batch))?;
        if !self.begun {
            // All of it is there.
            self.under_way.clear();
            self.from = self.given;
        }
        if self.given.rows - self.from.rows >= MOST { self.commit() } else { Ok(()) }
    }

    fn trace(&mut self, contexts: &[(usize, TraceContext)]) {
        self.contexts = contexts.to_vec();
    }

    fn commit_every(&self) -> Duration {
        self.about.every
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.withstand(ExactlyOnce::commit_once)?;
        self.under_way.clear();
        self.from = self.given;
        Ok(())
    }

    fn mark(&mut self) -> Result<Option<Mark>, Error> {
        // A line that tells of rows which no transaction holds would lose them.
        self.commit()?;
        let Place { rows, chain } = self.given;
        let state = bincode::serialize(&Standing { rows, chain });
        let state = state.map_err(|e| Error::internal(e.to_string()))?;
        Ok(Some(Mark { state, files: Vec::new() }))
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.commit()?;
        if self.given.rows < self.held.rows {
            tracing::warn!(
                topic = self.about.topic,
                "the topic holds {} rows of this pipeline and the run came to {} of them",
                self.held.rows,
                self.given.rows
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_knows_each_row_and_their_order() {
        let start = Place::default();
        let (a, b) = (start.after(Some(b"a"), b"b"), start.after(None, b"ab"));
        assert_ne!(a.chain, b.chain);
        assert_ne!(start.after(Some(b""), b"ab").chain, b.chain);
        assert_ne!(
            a.after(None, b"c").chain,
            start.after(None, b"c").after(Some(b"a"), b"b").chain
        );
    }
}
