//! The brokers of Kafka as [`super::super::transactions`] wants them. The transactional id is the name of the topic of
//! progress, which the sink makes.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill_types::Error;

use super::progress::{self, Reader};
use super::{Deliveries, LOOK_EVERY, producer_config, queue, settled};
use crate::client::kafka::{Cluster, explain, headers_of};
use crate::sink::transactions::{Broker, Failed, Message, Progress};
use crate::steps;

/// How long a broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Brokers end a transaction by themselves that is older, and readers wait for it until then.
const TIMEOUT: &str = "30000";

/// See the head of this file.
pub(super) struct Kafka {
    cluster: Cluster,
    topic: String,
    progress: String,
    producer: Option<BaseProducer<Deliveries>>,
}

impl Kafka {
    /// Those of a topic, with this topic of progress; nothing is asked yet.
    pub(super) fn new(cluster: Cluster, topic: String, progress: String) -> Kafka {
        Kafka { cluster, topic, progress, producer: None }
    }

    /// Does something; what Kafka says against it is explained.
    fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut Kafka) -> Result<T, KafkaError>,
    ) -> Result<T, Failed> {
        work(self).map_err(|why| self.explained(&why))
    }

    fn explained(&self, why: &KafkaError) -> Failed {
        let what = format!("cannot write to the topic {}", self.topic);
        let last = self.producer.as_ref().and_then(|p| p.context().log.last());
        let error = explain(&what, why, last.as_deref());
        if hopeless(why) { Failed::ForGood(error) } else { Failed::Passing(error) }
    }

    fn producer(&self) -> Result<&BaseProducer<Deliveries>, Failed> {
        let none = || Failed::ForGood(Error::internal("a sink without a producer"));
        self.producer.as_ref().ok_or_else(none)
    }
}

impl Broker for Kafka {
    fn last(&mut self) -> Result<Option<Progress>, Failed> {
        let reader = self.ask(|kafka| Reader::new(&kafka.cluster))?;
        if !self.ask(|kafka| reader.knows(&kafka.topic))? {
            return Err(Failed::ForGood(reader.count(&self.topic).err().unwrap_or_else(|| {
                Error::external(format!("the topic {} came and went", self.topic))
            })));
        }
        if !self.ask(|kafka| reader.knows(&kafka.progress))? {
            progress::make(&self.cluster, &self.progress)?;
        }
        self.ask(|kafka| reader.last(&kafka.progress))
    }

    fn take_over(&mut self) -> Result<(), Failed> {
        // The former producer goes first: two of one id in one process would only fence each other.
        self.producer = None;
        let config = &mut producer_config(&self.cluster);
        config.set("transactional.id", &self.progress);
        self.cluster.prefer(config, "transaction.timeout.ms", TIMEOUT);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(Deliveries::default())
            .map_err(|e| explain("cannot make a producer", &e, None))?;
        // A client that has not met its broker yet asks for the coordinator again only half a second later.
        self.ask(|kafka| producer.client().fetch_metadata(Some(&kafka.topic), ANSWER))?;
        self.ask(|_| producer.init_transactions(ANSWER))?;
        self.producer = Some(producer);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failed> {
        self.producer()?.begin_transaction().map_err(|why| self.explained(&why))
    }

    fn send(&mut self, message: Message<'_>) -> Result<(), Failed> {
        let producer = self.producer()?;
        let Message { row, key, value, contexts } = message;
        let mut sent = Ok(());
        if row % LOOK_EVERY == 0 {
            producer.poll(Duration::ZERO);
            sent = producer.context().failure().map_or(Ok(()), Err);
        }
        let mut record = BaseRecord::to(&self.topic).payload(value);
        record.headers = headers_of(contexts, row);
        sent.and_then(|()| queue(producer, record, key)).map_err(|why| self.explained(&why))
    }

    fn commit(&mut self, record: &Progress) -> Result<(), Failed> {
        let producer = self.producer()?;
        let said = progress::encode(record);
        let name = self.progress.as_bytes().to_vec();
        let record = BaseRecord::to(&self.progress).partition(0).payload(&said[..]);
        let sent = queue(producer, record, Some(&name));
        // Not by `commit_transaction`: its flush would sleep 100 ms.
        sent.and_then(|()| settled(producer)).map_err(|why| self.explained(&why))?;
        steps::pass("kafka.sent");
        let began = Instant::now();
        loop {
            match producer.commit_transaction(ANSWER) {
                Ok(()) => return Ok(()),
                // The same commit goes on.
                Err(KafkaError::Transaction(e)) if e.is_retriable() && began.elapsed() < ANSWER => {
                }
                Err(error) => return Err(self.explained(&error)),
            }
        }
    }

    fn rest(&mut self) {
        std::thread::sleep(Duration::from_millis(200));
    }
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
