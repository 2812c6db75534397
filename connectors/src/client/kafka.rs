//! Apache Kafka, by librdkafka: what the source, the sink and `produce` share.
//!
//! Keys of a pipeline file: `brokers` (a text or a list of `host:port`) and `properties`, a table
//! that goes to librdkafka as it is (TLS, SASL, buffers). What Tidemill's promises rest on is set
//! here and refused there.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::At;
use tidemill_config::section::{Params, Section};
use tidemill_types::trace::TRACEPARENT;
use tidemill_types::{Error, TraceContext};

/// How long a broker may take to say what topics there are.
const METADATA: Duration = Duration::from_secs(15);

/// Between two questions about a partition that has no leader.
const AGAIN: Duration = Duration::from_millis(100);

/// Bytes of a topic's name, at most.
pub(crate) const LONGEST: usize = 249;

/// Events to be handled before an error is explained.
const EVENTS: usize = 32;

/// Properties that belong to Tidemill.
const OWNED: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "allow.auto.create.topics",
    "enable.idempotence",
    "transactional.id",
    "acks",
    "request.required.acks",
];

/// Which brokers, and how to talk to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Properties of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl Cluster {
    /// A cluster that needs no properties.
    pub fn new(brokers: impl Into<String>) -> Cluster {
        Cluster { brokers: brokers.into(), properties: BTreeMap::new() }
    }

    /// Reads `brokers` and `properties`.
    pub(crate) fn read(
        section: &Section,
        params: &mut Params<'_>,
    ) -> Result<Cluster, Vec<Diagnostic>> {
        let brokers = params.strings("brokers");
        let properties = params.table("properties");
        let mut errors = Vec::new();
        if brokers.value.is_empty() {
            errors.push(Diagnostic::new(
                &section.span,
                "`brokers` is missing",
                "the first broker to talk to must be known",
                "add `brokers = \"localhost:9092\"`",
            ));
        }
        for (name, _) in properties.value.iter().filter(|(name, _)| OWNED.contains(&name.as_str()))
        {
            errors.push(Diagnostic::new(
                &properties.span,
                format!("the property `{name}` cannot be set"),
                "Tidemill's promises about order and delivery rest on its own value",
                "leave it out",
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let properties = properties.value.into_iter().collect();
        Ok(Cluster { brokers: brokers.value.join(","), properties })
    }

    /// The configuration of a client, to which its kind adds what it needs.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        self.prefer(&mut config, "client.id", "tidemill");
        // A request of a few rows does not wait for the acknowledgement of the one before.
        self.prefer(&mut config, "socket.nagle.disable", "true");
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Sets a property unless the pipeline file does.
    pub(crate) fn prefer(&self, config: &mut ClientConfig, name: &str, value: &str) {
        if !self.properties.contains_key(name) {
            config.set(name, value);
        }
    }

    /// Creates a topic; `Ok(false)` where there is one of that name already, whose settings are
    /// left alone.
    ///
    /// # Errors
    /// Where no broker answers, or it refuses.
    pub fn create_topic(&self, topic: &Topic) -> Result<bool, Error> {
        let what = format!("cannot create the topic {}", topic.name);
        let admin: AdminClient<Log> = self
            .config()
            .create_with_context(Log::default())
            .map_err(|e| explain(&what, &e, None))?;
        let replication = TopicReplication::Fixed(topic.replication);
        let mut wanted = NewTopic::new(&topic.name, topic.partitions, replication);
        for (name, value) in &topic.properties {
            wanted = wanted.set(name, value);
        }
        let options =
            AdminOptions::new().request_timeout(Some(METADATA)).operation_timeout(Some(METADATA));
        let results = wait(admin.create_topics([&wanted], &options))
            .map_err(|e| explain(&what, &e, admin.inner().context().last().as_deref()))?;
        let made = match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => false,
            Some(Err((_, code))) => return Err(explain(&what, &KafkaError::AdminOp(code), None)),
            _ => true,
        };
        // The controller knows the topic before every broker does.
        let deadline = Instant::now() + METADATA;
        let client = admin.inner();
        while let Err(error) = partitions(client, &topic.name, client.context(), &|| ()) {
            if Instant::now() >= deadline {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(made)
    }

    /// Removes topics; those that are not there are passed over.
    ///
    /// # Errors
    /// Where no broker answers, or it refuses.
    pub fn remove_topics(&self, names: &[&str]) -> Result<(), Error> {
        let what = format!("cannot remove the topics {}", names.join(", "));
        let admin: AdminClient<Log> = self
            .config()
            .create_with_context(Log::default())
            .map_err(|e| explain(&what, &e, None))?;
        let options =
            AdminOptions::new().request_timeout(Some(METADATA)).operation_timeout(Some(METADATA));
        let results = wait(admin.delete_topics(names, &options))
            .map_err(|e| explain(&what, &e, admin.inner().context().last().as_deref()))?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((_, code)) => return Err(explain(&what, &KafkaError::AdminOp(code), None)),
            }
        }
        Ok(())
    }
}

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its number of partitions.
    pub partitions: i32,
    /// Copies of each; -1 leaves it to the brokers.
    pub replication: i32,
    /// Settings, `cleanup.policy` for example.
    pub properties: Vec<(String, String)>,
}

impl Topic {
    /// A topic with the brokers' own settings.
    pub fn new(name: impl Into<String>, partitions: i32) -> Topic {
        Topic { name: name.into(), partitions, replication: -1, properties: Vec::new() }
    }

    /// Keeps the last record of each key for ever.
    pub fn compacted(mut self) -> Topic {
        self.properties.push(("cleanup.policy".to_string(), "compact".to_string()));
        self
    }
}

/// Sends librdkafka's log to ours, and remembers why a connection failed last, which says more than
/// the time-out that it leads to.
#[derive(Clone, Default)]
pub(crate) struct Log {
    last: Arc<Mutex<Option<String>>>,
}

impl Log {
    /// What went wrong last, in librdkafka's words.
    pub(crate) fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            // It comes again with each attempt; who waits for the connection says so now and then.
            tracing::debug!(facility, "{message}");
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_string());
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(facility, "{message}"),
            RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
            _ => tracing::debug!(facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka reports an error");
    }
}

impl ConsumerContext for Log {}

/// Refuses what no broker takes as the name of a topic.
pub(crate) fn topic_name(name: &At<String>) -> Option<Diagnostic> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let whole =
        (1..=LONGEST).contains(&name.value.len()) && ![".", ".."].contains(&name.value.as_str());
    (!whole || !name.value.chars().all(legal)).then(|| {
        Diagnostic::new(
            &name.span,
            format!("`{}` cannot be the name of a topic", name.value),
            format!("a name has up to {LONGEST} letters, digits, dots, dashes and underscores"),
            "write the topic's name as the brokers have it",
        )
    })
}

/// The number of partitions of a topic. `serve` lets the client handle its events, among which is
/// why it could not connect.
///
/// # Errors
/// Where no broker answers, or none knows the topic: then with the names that are near.
pub(crate) fn partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    log: &Log,
    serve: &dyn Fn(),
) -> Result<u32, Error> {
    let what = format!("cannot read about the topic {topic}");
    let failed = |e: KafkaError| {
        (0..EVENTS).for_each(|_| serve());
        explain(&what, &e, log.last().as_deref())
    };
    let metadata = client.fetch_metadata(Some(topic), METADATA).map_err(failed)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let error = found.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
    let count = found.map_or(0, |t| t.partitions().len());
    match error {
        None if count > 0 => Ok(count as u32),
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {
            let all = client.fetch_metadata(None, METADATA).map_err(failed)?;
            let names: Vec<_> = all.topics().iter().map(|t| t.name()).collect();
            Err(unknown_topic(topic, &names))
        }
        Some(code) => Err(failed(KafkaError::MetadataFetch(code))),
    }
}

/// The first offset of a partition, and that behind its last. A partition may be without a leader for a while (its
/// broker stood still and is taken for dead, or was restarted): it is asked for again until `patience` is over.
///
/// # Errors
/// What the broker says, or its silence.
pub(crate) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: u32,
    patience: Duration,
) -> Result<(i64, i64), KafkaError> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(AGAIN);
        match client.fetch_watermarks(topic, partition as i32, left.min(METADATA)) {
            Err(_) if Instant::now() < deadline => {
                thread::sleep(AGAIN);
                // librdkafka keeps an answer without a leader for minutes, and asks nobody in the meantime.
                let _ = client.fetch_metadata(Some(topic), left.min(METADATA));
            }
            found => return found,
        }
    }
}

fn unknown_topic(topic: &str, names: &[&str]) -> Error {
    let error = Error::user(format!("there is no topic {topic}"));
    let near = crate::keys::nearest(topic, names.iter().copied().filter(|n| !n.starts_with("__")));
    match near {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("create it first (a sink does, with `create = true`)"),
    }
}

/// An error of Kafka's for people: what was attempted, what happened, what to do. `last` is what
/// librdkafka said before it gave up.
pub(crate) fn explain(what: &str, error: &KafkaError, last: Option<&str>) -> Error {
    use RDKafkaErrorCode as Code;
    let code = match error {
        // The crate keeps back what the admin client was told.
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    let Some(code) = code else {
        return match error {
            KafkaError::ClientConfig(_, reason, name, _) => {
                Error::user(format!("{what}: the property `{name}` is refused: {reason}"))
                    .help("librdkafka's CONFIGURATION.md lists properties and values")
            }
            other => Error::external(format!("{what}: {other}")),
        };
    };
    let said = match last {
        Some(last) => format!("{what}: {code} ({last})"),
        None => format!("{what}: {code}"),
    };
    match code {
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut
        | Code::RequestTimedOut | Code::Resolve => Error::external(said)
            .help("is a broker running at `brokers`, and does it advertise an address that is reachable from here?"),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Error::user(said).help("the broker's access rules forbid it to this user")
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            Error::user(said).help("see `security.protocol`, `sasl.*` and `ssl.*` in `properties`")
        }
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Error::external(said)
            .help("records that are still needed were deleted by the topic's retention"),
        Code::MessageSizeTooLarge => Error::user(said)
            .help("raise `\"message.max.bytes\"` in `properties`, and on the topic"),
        Code::InvalidReplicationFactor | Code::InvalidPartitions | Code::InvalidConfig => Error::user(said),
        _ => Error::external(said),
    }
}

/// Waits for an answer on this thread. The admin client polls on a thread of its own, so no runtime
/// is needed.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The context of the trace that a message belongs to, where its sender samples it.
pub(crate) fn context_of(message: &BorrowedMessage<'_>) -> Option<TraceContext> {
    let headers = message.headers()?;
    // Of several the last counts: whoever passed the message on added it.
    let of_trace = headers.iter().filter(|header| header.key == TRACEPARENT).last()?;
    TraceContext::sampled(of_trace.value?)
}

/// The headers of a row's message: the context of its trace, where the row has one.
pub(crate) fn headers_of(contexts: &[(usize, TraceContext)], row: usize) -> Option<OwnedHeaders> {
    let at = contexts.binary_search_by_key(&row, |(row, _)| *row).ok()?;
    let value = contexts[at].1.header();
    Some(
        OwnedHeaders::new_with_capacity(1).insert(Header { key: TRACEPARENT, value: Some(&value) }),
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::mocking::MockCluster;

    use super::*;

    /// A broker of librdkafka's own, since a real one that stands alone is without a leader for an instant only,
    /// at a time of its choosing.
    #[test]
    fn a_partition_without_a_leader_is_waited_for() {
        let brokers = MockCluster::new(1).expect("a broker");
        brokers.create_topic("rows", 2, 1).expect("a topic");
        brokers.partition_leader("rows", 1, None).expect("no leader");
        let consumer: BaseConsumer<Log> = Cluster::new(brokers.bootstrap_servers())
            .config()
            .set("group.id", "unused")
            .create_with_context(Log::default())
            .expect("a consumer");
        let ends = |patience| watermarks(consumer.client(), "rows", 1, patience);
        assert!(ends(AGAIN).is_err(), "nobody could know");
        thread::scope(|scope| {
            let found = scope.spawn(|| ends(METADATA));
            thread::sleep(5 * AGAIN);
            brokers.partition_leader("rows", 1, Some(1)).expect("a leader");
            assert_eq!(found.join().expect("no panic"), Ok((0, 0)));
        });
    }
}
