//! Exactly once into a topic: rows and a record of how far they go in one transaction.
//!
//! * **A row has a number**, for a run that is started again makes the same rows in the same order. The record
//!   ([`super::progress`]) says how many rows committed transactions hold, and a hash of them; rows up to there are passed over.
//!   Where the hash is another one the run makes other rows than those that are there, and stops.
//! * **Fencing** the transactional id is the name of the topic of progress. Whoever opens the sink takes the id over:
//!   the broker ends a transaction that a former run left open, and refuses whatever that run still sends.
//! * **Unknown outcomes** a commit whose answer did not come is never guessed at: the id is taken over anew, which
//!   the broker grants when the fate of the former transaction is decided; then the record is read, and what it does not
//!   have is sent again. So is whatever was under way when a broker went.
//! * **A second run** that takes the id over leaves its name in the record; who is fenced and finds another's name stops.
//! * **Memory** the rows of the transaction under way, [`MOST`] at most.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};
use tidemill_types::{Error, Micros, TraceContext};

use super::progress::{self, Place, Progress, Reader};
use super::{Deliveries, Keys, LOOK_EVERY, column_places, producer_config, queue, settled};
use crate::client::kafka::{Cluster, explain, headers_of};
use crate::format::{self, Encoder};
use crate::sink::{Mark, Sink};
use crate::steps;

/// Rows of one transaction, about.
const MOST: u64 = 50_000;

/// How long a broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long brokers may be away before the run ends. A restart goes on all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// Between two warnings about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Brokers end a transaction by themselves that is older, and readers wait for it until then.
const TIMEOUT: &str = "30000";

/// Why something did not go: what Kafka said, or something that no second attempt mends.
enum Failed {
    Kafka(KafkaError),
    For(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::For(error)
    }
}

/// Where the rows before a line end.
#[derive(Serialize, Deserialize)]
struct Standing {
    rows: u64,
    chain: u128,
}

/// See the head of this file.
pub(super) struct ExactlyOnce {
    cluster: Cluster,
    topic: String,
    progress: String,
    every: Duration,
    key: Vec<usize>,
    encoder: Box<dyn Encoder>,
    life: String,
    /// Whether this life's name was left in the topic of progress.
    claimed: bool,
    producer: Option<BaseProducer<Deliveries>>,
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

impl ExactlyOnce {
    /// Opens the sink at the beginning or, with the state of a mark, behind the rows before it.
    pub(super) fn open(
        keys: Keys,
        schema: &SchemaRef,
        state: Option<&[u8]>,
    ) -> Result<ExactlyOnce, Error> {
        let key = column_places(&keys, schema)?;
        let encoder = (keys.messages.encoder)(schema)?;
        let made = keys.create && keys.cluster.create_topic(&keys.topic)?;
        let given = match state {
            None => Place::default(),
            Some(state) => {
                let Standing { rows, chain } = bincode::deserialize(state)
                    .map_err(|e| Error::internal(format!("the mark of a topic: {e}")))?;
                Place { rows, chain }
            }
        };
        let mut sink = ExactlyOnce {
            topic: keys.topic.name,
            progress: keys.progress,
            cluster: keys.cluster,
            every: keys.commit_every,
            key,
            encoder,
            life: progress::life(),
            claimed: false,
            producer: None,
            begun: false,
            given,
            held: Place::default(),
            from: given,
            under_way: Vec::new(),
            contexts: Vec::new(),
        };
        match sink.take_over() {
            Err(Failed::Kafka(error)) => sink.recover(error)?,
            Err(Failed::For(error)) => return Err(error),
            Ok(()) => {}
        }
        if made && sink.held.rows > 0 {
            return Err(Error::external(format!(
                "the topic {} was not there and is made anew, and {} counts {} rows in it",
                sink.topic, sink.progress, sink.held.rows
            ))
            .help("restore the topic, or name another `progress` to write all rows again"));
        }
        steps::pass("kafka.fenced");
        let passed_over = sink.held.rows - sink.given.rows;
        tracing::info!(
            topic = sink.topic,
            rows = sink.held.rows,
            passed_over,
            "the topic holds rows of this pipeline"
        );
        Ok(sink)
    }

    /// Takes the transactional id over and reads how far its transactions have come; then leaves this
    /// life's name there.
    fn take_over(&mut self) -> Result<(), Failed> {
        // The former producer goes first: two of one id in one process would only fence each other.
        self.producer = None;
        self.begun = false;
        let reader = Reader::new(&self.cluster).map_err(Failed::Kafka)?;
        if !reader.knows(&self.topic).map_err(Failed::Kafka)? {
            return Err(Failed::For(reader.count(&self.topic).err().unwrap_or_else(|| {
                Error::external(format!("the topic {} came and went", self.topic))
            })));
        }
        if !reader.knows(&self.progress).map_err(Failed::Kafka)? {
            progress::make(&self.cluster, &self.progress)?;
        }
        // Who took the id from this life has left another name; brokers take it from whoever is silent for too long
        // too, and leave none.
        if self.claimed {
            let last = reader.last(&self.progress).map_err(Failed::Kafka)?;
            if last.is_some_and(|last| last.life != self.life) {
                return Err(Failed::For(self.taken_over()));
            }
        }
        let config = &mut producer_config(&self.cluster);
        config.set("transactional.id", &self.progress);
        self.cluster.prefer(config, "transaction.timeout.ms", TIMEOUT);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|e| explain("cannot make a producer", &e, None))?;
        // A client that has not met its broker yet asks for the coordinator again only half a second later.
        producer.client().fetch_metadata(Some(&self.topic), ANSWER).map_err(Failed::Kafka)?;
        producer.init_transactions(ANSWER).map_err(Failed::Kafka)?;
        let found = reader.last(&self.progress).map_err(Failed::Kafka)?;
        self.held = found.map_or_else(Place::default, |found| found.held);
        let before = self.from;
        if self.held.rows < before.rows || self.held.rows == before.rows && self.held != before {
            return Err(Failed::For(self.gone(before)));
        }
        producer.begin_transaction().map_err(Failed::Kafka)?;
        self.producer = Some(producer);
        self.begun = true;
        let given = std::mem::replace(&mut self.given, self.held);
        let claimed = self.commit_once();
        self.given = given;
        self.claimed |= claimed.is_ok();
        claimed
    }

    fn gone(&self, before: Place) -> Error {
        Error::external(format!(
            "the topic {} says that {} holds {} rows of this sink, and the checkpoint was made behind {}",
            self.progress, self.topic, self.held.rows, before.rows
        ))
        .help("the topic of progress is another one or was changed: restore it. To begin again, name a new topic for the rows, or they will be there twice, and remove the run's folder of checkpoints")
    }

    /// Sends a batch without the rows that the topic has.
    fn send(&mut self, (rows, contexts): &Batch) -> Result<(), Failed> {
        let Some(producer) = &self.producer else {
            return Err(Failed::For(Error::internal("a sink without a producer")));
        };
        let (topic, columns, held, begun) = (&self.topic, &self.key, self.held, &mut self.begun);
        let mut given = self.given;
        let mut kafka = None;
        let mut key = Vec::new();
        let sent = self.encoder.encode(rows, &mut |row, value| {
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
                sent = producer.begin_transaction();
                *begun = true;
            }
            if row % LOOK_EVERY == 0 {
                producer.poll(Duration::ZERO);
                sent = sent.and(producer.context().failure().map_or(Ok(()), Err));
            }
            let mut record = BaseRecord::to(topic).payload(value);
            record.headers = headers_of(contexts, row);
            sent.and_then(|()| queue(producer, record, key)).map_err(|error| {
                kafka = Some(error);
                Error::internal("what Kafka said stands beside it")
            })
        });
        self.given = given;
        match kafka {
            Some(error) => Err(Failed::Kafka(error)),
            None => sent.map_err(Failed::For),
        }
    }

    /// Commits what is under way, with the record of it.
    fn commit_once(&mut self) -> Result<(), Failed> {
        let Some(producer) = self.producer.as_ref().filter(|_| self.begun) else { return Ok(()) };
        let said = Progress { held: self.given, life: self.life.clone() }.encode();
        let name = self.progress.as_bytes().to_vec();
        let record = BaseRecord::to(&self.progress).partition(0).payload(&said[..]);
        queue(producer, record, Some(&name)).map_err(Failed::Kafka)?;
        // Not by `commit_transaction`: its flush would sleep 100 ms.
        settled(producer).map_err(Failed::Kafka)?;
        steps::pass("kafka.sent");
        let began = Instant::now();
        loop {
            match producer.commit_transaction(ANSWER) {
                Ok(()) => break,
                // The same commit goes on.
                Err(KafkaError::Transaction(e)) if e.is_retriable() && began.elapsed() < ANSWER => {
                }
                Err(error) => return Err(Failed::Kafka(error)),
            }
        }
        steps::pass("kafka.committed");
        self.held = self.given;
        self.begun = false;
        Ok(())
    }

    /// Goes on after trouble: takes the id over, finds out what is there, and sends what is not.
    fn recover(&mut self, mut why: KafkaError) -> Result<(), Error> {
        let (began, mut warned) = (Instant::now(), None::<Instant>);
        loop {
            let what = format!("cannot write to the topic {}", self.topic);
            let last = self.producer.as_ref().and_then(|p| p.context().log.last());
            let error = explain(&what, &why, last.as_deref());
            if hopeless(&why) || began.elapsed() >= PATIENCE {
                return Err(error);
            }
            if warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                tracing::warn!(topic = self.topic, "{}; trying on", error.message);
            }
            std::thread::sleep(Duration::from_millis(200));
            match self.take_over().and_then(|()| self.send_again()) {
                Ok(()) => return Ok(()),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Kafka(error)) => why = error,
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
        Error::external(format!(
            "another run has taken over the topic {}: it writes as `{}` too",
            self.topic, self.progress
        ))
        .help("let one of them run; two that shall both write there want a name of `progress` each")
    }

    /// Does something; where Kafka fails, goes on from what it has.
    fn withstand(
        &mut self,
        work: impl FnOnce(&mut ExactlyOnce) -> Result<(), Failed>,
    ) -> Result<(), Error> {
        match work(self) {
            Ok(()) => Ok(()),
            Err(Failed::For(error)) => Err(error),
            Err(Failed::Kafka(error)) => self.recover(error),
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

/// Trouble that no second attempt mends. A topic that is gone is found out by the next one: clients that have not
/// heard of a new one say the same.
fn hopeless(error: &KafkaError) -> bool {
    let codes = [
        Code::TopicAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::TransactionalIdAuthorizationFailed,
        Code::Authentication,
        Code::SaslAuthenticationFailed,
        Code::MessageSizeTooLarge,
        Code::InvalidMessageSize,
        Code::InvalidTransactionTimeout,
        Code::UnsupportedFeature,
    ];
    matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_))
        || error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

impl Sink for ExactlyOnce {
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
        self.every
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
                topic = self.topic,
                "the topic holds {} rows of this pipeline and the run came to {} of them",
                self.held.rows,
                self.given.rows
            );
        }
        Ok(())
    }
}
