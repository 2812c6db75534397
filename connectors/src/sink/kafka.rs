//! `kafka`: one message a row.
//!
//! * **Value** the row as JSON (default) or CSV; **key** the columns of `key` as text, joined by `/`;
//!   without one, rows are spread. Equal keys go to one partition, chosen as the Java client does.
//! * **Order** kept within a partition: the producer is idempotent.
//! * **Commit** waits until the brokers have acknowledged every message.
//! * **Delivery** at least once, or with `delivery = "exactly_once"` by transactions: [`super::transactions`].
//! * **Dead letters** of records that are too large for a message have the beginning of the record: [`letters`].
//! * **Topic** with `create = true` it is made if there is none, with `partitions`, and compacted with
//!   `compact = true`.

mod exactly_once;
mod letters;
mod progress;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, SinkPlan};
use tidemill_types::time::{MILLISECOND, SECOND};
use tidemill_types::{Error, Micros, TraceContext};

use super::transactions::{About, ExactlyOnce};
use super::{Delivery, Entry, Readback, Sink, Target, TargetKind};
use crate::client::kafka::{
    Cluster, LONGEST, Log, Topic, explain, headers_of, partitions, topic_name,
};
use crate::format::{self, Encoder, Messages};
use crate::keys;
use exactly_once::Kafka;

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
        (
            "delivery",
            "\"at_least_once\" or \"exactly_once\", at_least_once",
            "what a crash may do to rows: repeat them, or nothing",
        ),
        ("commit_every", "duration, 100ms", "with exactly_once, how often rows become visible"),
        (
            "progress",
            "text, TOPIC.PIPELINE.SINK.progress",
            "with exactly_once, the topic that tells how far the sink has come, and the transactional id",
        ),
        ("properties", "table, {}", "properties of librdkafka, for TLS and SASL say"),
    ],
    delivery: |plan| match read(plan) {
        Ok(keys) if keys.exactly_once => Delivery::Transactions,
        _ => Delivery::AtLeastOnce,
    },
    check: |plan| read(plan).map(drop),
    targets,
    open: |plan, schema, _: &Path| {
        let keys = read(plan).map_err(keys::error)?;
        if keys.exactly_once {
            return Ok(Box::new(exactly_once(keys, &schema, None)?));
        }
        Ok(Box::new(KafkaSink::open(keys, &schema)?))
    },
    reopen: Some(|plan, schema, _: &Path, state| {
        let keys = read(plan).map_err(keys::error)?;
        Ok(Box::new(exactly_once(keys, &schema, Some(state))?))
    }),
    readback: Some(Readback { elsewhere, read: read_back, remove }),
};

/// Opens a sink by transactions at the beginning or, with the state of a mark, behind the rows before it.
fn exactly_once(
    keys: Keys,
    schema: &SchemaRef,
    state: Option<&[u8]>,
) -> Result<ExactlyOnce<Kafka>, Error> {
    let key = column_places(&keys, schema)?;
    let encoder = encoder(&keys, schema, &key)?;
    let made = keys.create && keys.cluster.create_topic(&keys.topic)?;
    let topic = keys.topic.name;
    let broker = Kafka::new(keys.cluster, topic.clone(), keys.progress.clone());
    let (progress, every) = (keys.progress, keys.commit_every);
    let about = About { topic, progress, life: progress::life(), every, key, encoder };
    ExactlyOnce::open(broker, about, state, made)
}

/// The topic of the rows and, exactly once, that of the progress.
fn targets(plan: &SinkPlan) -> Vec<Target> {
    let Ok(keys) = read(plan) else { return Vec::new() };
    let servers: Vec<String> =
        keys.cluster.brokers.split(',').map(|broker| broker.trim().to_lowercase()).collect();
    let mut params = plan.section.params();
    let topic = At { value: keys.topic.name, span: params.text("topic").span };
    let mut targets =
        vec![Target { kind: TargetKind::Topic, name: topic, servers: servers.clone() }];
    if keys.exactly_once {
        let span = params.optional_text("progress").map_or(plan.section.span.clone(), |p| p.span);
        let name = At { value: keys.progress, span };
        targets.push(Target { kind: TargetKind::Progress, name, servers });
    }
    targets
}

/// The keys with which the sink writes to topics of its own, which it makes.
fn elsewhere(plan: &SinkPlan, suffix: &str) -> Vec<(&'static str, String)> {
    let Ok(keys) = read(plan) else { return Vec::new() };
    let mut moved =
        vec![("topic", format!("{}-{suffix}", keys.topic.name)), ("create", "true".to_string())];
    if keys.exactly_once {
        moved.push(("progress", format!("{}-{suffix}", keys.progress)));
    }
    moved
}

/// What a reader of committed messages sees: a line each, `partition key value`. Without keys rows are
/// spread by chance: then the lines are sorted, and tell no partition.
fn read_back(plan: &SinkPlan) -> Result<Vec<u8>, Error> {
    let keys = read(plan).map_err(keys::error)?;
    let topic = &keys.topic.name;
    let failed = |e| explain(&format!("cannot read the topic {topic}"), &e, None);
    let reader = progress::Reader::new(&keys.cluster).map_err(failed)?;
    let count = reader.count(topic)?;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut take = |partition: u32, key: Option<&[u8]>, value: &[u8]| {
        let mut line = Vec::new();
        if let Some(key) = key {
            line.extend(format!("{partition} ").into_bytes());
            line.extend(key);
            line.push(b' ');
        }
        line.extend(value);
        lines.push(line);
    };
    reader.all(topic, count, &mut take).map_err(failed)?;
    if keys.key.is_empty() && count > 1 {
        lines.sort_unstable();
    }
    Ok(lines.join(&b'\n'))
}

fn remove(plan: &SinkPlan) -> Result<(), Error> {
    let keys = read(plan).map_err(keys::error)?;
    match keys.exactly_once {
        true => keys.cluster.remove_topics(&[&keys.topic.name, &keys.progress]),
        false => keys.cluster.remove_topics(&[&keys.topic.name]),
    }
}

/// Messages sent between two looks at what was delivered.
const LOOK_EVERY: usize = 256;

/// The longest that rows wait for a commit: well below the timeout of a transaction.
const LONGEST_COMMIT: Micros = 10 * SECOND;

struct Keys {
    cluster: Cluster,
    topic: Topic,
    create: bool,
    key: Vec<String>,
    messages: &'static Messages,
    exactly_once: bool,
    progress: String,
    commit_every: Duration,
}

fn read(plan: &SinkPlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let name = params.string("topic");
    let cluster = Cluster::read(&plan.section, &mut params);
    let key = params.strings("key");
    let create = params.boolean("create", false);
    let partitions = params.integer("partitions", 1, 1..=10_000);
    let compact = params.boolean("compact", false);
    let delivery = params.choice("delivery", "at_least_once", &["at_least_once", "exactly_once"]);
    let exactly_once = delivery == "exactly_once";
    let commit_every = params.optional_duration("commit_every");
    let progress = params.optional_text("progress");
    let default = format!("{}.{}.{}.progress", name.value, plan.pipeline, plan.name.value);
    let illegal = topic_name(&name);
    let mut topic = Topic::new(name.value, partitions as i32);
    if compact {
        topic = topic.compacted();
    }
    let mut errors = params.finish().err().unwrap_or_default();
    // One that is missing is told already.
    errors.extend(illegal.filter(|_| !topic.name.is_empty()));
    if compact && key.value.is_empty() {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "a compacted topic needs keys",
            "compaction keeps the last message of each key",
            "add `key = \"...\"`, the column that tells rows apart",
        ));
    }
    if !exactly_once && (commit_every.is_some() || progress.is_some()) {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "`commit_every` and `progress` are of exactly_once",
            "at least once, rows leave at once and nothing is kept of how far they went",
            "add `delivery = \"exactly_once\"`, or leave them out",
        ));
    }
    let (progress, span) = match progress {
        Some(progress) => (progress.value, progress.span),
        None => (default, plan.section.span.clone()),
    };
    if exactly_once && progress == topic.name {
        errors.push(Diagnostic::new(
            &span,
            "`progress` is the topic of the rows itself",
            "it is compacted, and rows would be lost in it",
            "name a topic of its own, or leave `progress` out",
        ));
    }
    if commit_every.is_some_and(|every| every > LONGEST_COMMIT) {
        errors.push(Diagnostic::new(
            &plan.section.span,
            "`commit_every` is longer than 10 s",
            "a broker ends a transaction that is older than 30 s, and readers wait for it until then",
            "choose 10 s or less; the default is 100 ms",
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if exactly_once && (progress.len() > LONGEST || !progress.chars().all(legal)) {
        errors.push(Diagnostic::new(
            &span,
            format!("`{progress}` cannot be the name of a topic"),
            format!("a name has up to {LONGEST} letters, digits, dots, dashes and underscores"),
            "name a topic of its own with `progress`",
        ));
    }
    let commit_every = commit_every.unwrap_or(100 * MILLISECOND);
    let commit_every = Duration::from_micros(commit_every.unsigned_abs());
    let cluster = keys::take(cluster, &mut errors);
    let messages = format::for_messages(plan.format.as_ref()).map_err(|e| vec![e]);
    match (cluster, keys::take(messages, &mut errors)) {
        (Some(cluster), Some((_, messages))) if errors.is_empty() => {
            let key = key.value;
            Ok(Keys { cluster, topic, create, key, messages, exactly_once, progress, commit_every })
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

/// The places of the columns that make the key.
fn column_places(keys: &Keys, schema: &SchemaRef) -> Result<Vec<usize>, Error> {
    let place = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let columns: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let topic = &keys.topic.name;
            Error::user(format!("the rows for the topic {topic} have no column {name}"))
                .help(format!("`key` may name {}", columns.join(", ")))
        })
    };
    keys.key.iter().map(place).collect()
}

/// What writes a message's value; `key` are the places of the columns that make its key.
fn encoder(keys: &Keys, schema: &SchemaRef, key: &[usize]) -> Result<Box<dyn Encoder>, Error> {
    let encoder = (keys.messages.encoder)(schema)?;
    Ok(letters::fitting(encoder, schema, key, &keys.cluster))
}

fn producer_config(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.config();
    config.set("enable.idempotence", "true");
    cluster.prefer(&mut config, "partitioner", "murmur2_random");
    // Rows come in batches already: a wait of 5 ms for more, which is librdkafka's own choice, would be
    // most of a row's way from topic to topic. Under load batches form behind those under way.
    if !cluster.properties.contains_key("queue.buffering.max.ms") {
        cluster.prefer(&mut config, "linger.ms", "0");
    }
    config
}

/// Waits until nothing is under way. Not by the producer's own `flush`, which sleeps 100 ms after it
/// has served its events.
fn settled(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    loop {
        producer.poll(Duration::ZERO);
        producer.context().failure().map_or(Ok(()), Err)?;
        if producer.in_flight_count() == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_micros(50));
    }
}

/// Puts a message into the producer's queue, waiting while it is full.
fn queue<'a>(
    producer: &BaseProducer<Deliveries>,
    mut record: BaseRecord<'a, Vec<u8>, [u8]>,
    key: Option<&'a Vec<u8>>,
) -> Result<(), KafkaError> {
    record.key = key;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(Duration::from_millis(5));
                producer.context().failure().map_or(Ok(()), Err)?;
                record = again;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

struct KafkaSink {
    topic: String,
    key: Vec<usize>,
    encoder: Box<dyn Encoder>,
    producer: BaseProducer<Deliveries>,
    /// Of the rows of the next write.
    contexts: Vec<(usize, TraceContext)>,
}

impl KafkaSink {
    fn open(keys: Keys, schema: &SchemaRef) -> Result<KafkaSink, Error> {
        let topic = keys.topic.name.clone();
        let key = column_places(&keys, schema)?;
        let encoder = encoder(&keys, schema, &key)?;
        if keys.create {
            keys.cluster.create_topic(&keys.topic)?;
        }
        let deliveries = Deliveries::default();
        let config = producer_config(&keys.cluster);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(deliveries.clone())
            .map_err(|e| explain("cannot make a producer", &e, None))?;
        partitions(producer.client(), &topic, &deliveries.log, &|| producer.poll(Duration::ZERO))?;
        Ok(KafkaSink { topic, key, encoder, producer, contexts: Vec::new() })
    }

    fn settle(&self) -> Result<(), Error> {
        settled(&self.producer).map_err(|error| cannot_write(&self.producer, &self.topic, &error))
    }
}

fn cannot_write(producer: &BaseProducer<Deliveries>, topic: &str, error: &KafkaError) -> Error {
    let last = producer.context().log.last();
    explain(&format!("cannot write to the topic {topic}"), error, last.as_deref())
}

impl Sink for KafkaSink {
    fn write(&mut self, rows: &RecordBatch, _: &[Micros]) -> Result<(), Error> {
        let (producer, topic, columns) = (&self.producer, &self.topic, &self.key);
        let contexts = std::mem::take(&mut self.contexts);
        let mut key = Vec::new();
        self.encoder.encode(rows, &mut |row, value| {
            let mut sent = Ok(());
            if row % LOOK_EVERY == 0 {
                producer.poll(Duration::ZERO);
                sent = producer.context().failure().map_or(Ok(()), Err);
            }
            key.clear();
            format::write_key(rows, row, columns, &mut key)?;
            let key = (!columns.is_empty()).then_some(&key);
            let mut record = BaseRecord::to(topic).payload(value);
            record.headers = headers_of(&contexts, row);
            sent.and_then(|()| queue(producer, record, key))
                .map_err(|error| cannot_write(producer, topic, &error))
        })
    }

    fn trace(&mut self, contexts: &[(usize, TraceContext)]) {
        self.contexts = contexts.to_vec();
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.settle()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.settle()
    }
}
