//! `kafka`: one message a row.
//!
//! * **Value** the row as JSON (default) or CSV; **key** the columns of `key` as text, joined by `/`;
//!   without one, rows are spread. Equal keys go to one partition, chosen as the Java client does.
//! * **Order** kept within a partition: the producer is idempotent.
//! * **Commit** waits until the brokers have acknowledged every message.
//! * **Delivery** at least once: what was sent after the last commit is sent again after a crash.
//! * **Topic** with `create = true` it is made if there is none, with `partitions`, and compacted with
//!   `compact = true`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::SinkPlan;
use tidemill_types::{Error, Micros};

use super::{Delivery, Entry, Sink};
use crate::client::kafka::{Cluster, Log, Topic, explain, partitions};
use crate::format::{self, Encoder, Messages};
use crate::keys;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "kafka",
    summary: "one message a row",
    keys: &[
        ("topic", "text", "the topic"),
        ("brokers", "text or list of texts", "host:port of some brokers"),
        ("key", "text or list of texts, none", "columns that make the message's key"),
        ("create", "true or false, false", "make the topic if there is none"),
        ("partitions", "1 to 10000, 1", "of a topic that is made"),
        ("compact", "true or false, false", "a topic that is made keeps the last row of each key"),
        ("properties", "table, {}", "properties of librdkafka, for TLS and SASL say"),
    ],
    delivery: Delivery::AtLeastOnce,
    check: |plan| read(plan).map(drop),
    open: |plan, schema, _: &Path| {
        let keys = read(plan).map_err(keys::error)?;
        Ok(Box::new(KafkaSink::open(keys, &schema)?))
    },
    reopen: None,
};

/// Messages sent between two looks at what was delivered.
const LOOK_EVERY: usize = 256;

struct Keys {
    cluster: Cluster,
    topic: Topic,
    create: bool,
    key: Vec<String>,
    messages: &'static Messages,
}

fn read(plan: &SinkPlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let name = params.string("topic");
    let cluster = Cluster::read(&plan.section, &mut params);
    let key = params.strings("key");
    let create = params.boolean("create", false);
    let partitions = params.integer("partitions", 1, 1..=10_000);
    let compact = params.boolean("compact", false);
    let mut topic = Topic::new(name.value, partitions as i32);
    if compact {
        topic = topic.compacted();
    }
    let mut errors = params.finish().err().unwrap_or_default();
    if compact && key.value.is_empty() {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "a compacted topic needs keys",
            "compaction keeps the last message of each key",
            "add `key = \"...\"`, the column that tells rows apart",
        ));
    }
    let cluster = keys::take(cluster, &mut errors);
    let messages = format::for_messages(plan.format.as_ref()).map_err(|e| vec![e]);
    match (cluster, keys::take(messages, &mut errors)) {
        (Some(cluster), Some((_, messages))) if errors.is_empty() => {
            Ok(Keys { cluster, topic, create, key: key.value, messages })
        }
        _ => Err(errors),
    }
}

/// Hears what became of each message.
#[derive(Clone, Default)]
struct Deliveries {
    log: Log,
    failed: Arc<Mutex<Option<KafkaError>>>,
}

impl Deliveries {
    /// The first message that was not delivered.
    fn failure(&self) -> Option<KafkaError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.clone());
        }
    }
}

struct KafkaSink {
    topic: String,
    key: Vec<usize>,
    encoder: Box<dyn Encoder>,
    producer: BaseProducer<Deliveries>,
}

impl KafkaSink {
    fn open(keys: Keys, schema: &SchemaRef) -> Result<KafkaSink, Error> {
        let topic = keys.topic.name.clone();
        let column = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let columns: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Error::user(format!("the rows for the topic {topic} have no column {name}"))
                    .help(format!("`key` may name {}", columns.join(", ")))
            })
        };
        let key = keys.key.iter().map(column).collect::<Result<_, _>>()?;
        let encoder = (keys.messages.encoder)(schema)?;
        if keys.create {
            keys.cluster.create_topic(&keys.topic)?;
        }
        let deliveries = Deliveries::default();
        let mut config = keys.cluster.config();
        config.set("enable.idempotence", "true");
        keys.cluster.prefer(&mut config, "partitioner", "murmur2_random");
        // Rows come in batches already: a wait of 5 ms for more, which is librdkafka's own choice, would be
        // most of a row's way from topic to topic. Under load batches form behind those under way.
        if !keys.cluster.properties.contains_key("queue.buffering.max.ms") {
            keys.cluster.prefer(&mut config, "linger.ms", "0");
        }
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(deliveries.clone())
            .map_err(|e| explain("cannot make a producer", &e, None))?;
        partitions(producer.client(), &topic, &deliveries.log, &|| producer.poll(Duration::ZERO))?;
        Ok(KafkaSink { topic, key, encoder, producer })
    }

    /// Waits until nothing is under way. Not by the producer's own `flush`, which sleeps 100 ms
    /// after it has served its events.
    fn settle(&self) -> Result<(), Error> {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::ZERO);
            self.check()?;
            thread::sleep(Duration::from_micros(50));
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        check(&self.producer, &self.topic)
    }
}

fn check(producer: &BaseProducer<Deliveries>, topic: &str) -> Result<(), Error> {
    let context = producer.context();
    match context.failure() {
        None => Ok(()),
        Some(error) => Err(explain(
            &format!("cannot write to the topic {topic}"),
            &error,
            context.log.last().as_deref(),
        )),
    }
}

/// Sends one message, waiting while librdkafka's queue is full.
fn send(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    key: Option<&Vec<u8>>,
    value: &[u8],
) -> Result<(), Error> {
    let mut record = BaseRecord::<Vec<u8>, [u8]>::to(topic).payload(value);
    record.key = key;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(5));
                check(producer, topic)?;
                record = again;
            }
            Err((error, _)) => {
                return Err(explain(&format!("cannot write to the topic {topic}"), &error, None));
            }
        }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        let (producer, topic, columns) = (&self.producer, &self.topic, &self.key);
        let mut key = Vec::new();
        self.encoder.encode(rows, &mut |row, value| {
            if row % LOOK_EVERY == 0 {
                producer.poll(Duration::ZERO);
                check(producer, topic)?;
            }
            key.clear();
            format::write_key(rows, row, columns, &mut key)?;
            send(producer, topic, (!columns.is_empty()).then_some(&key), value)
        })
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.settle()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.settle()
    }
}
