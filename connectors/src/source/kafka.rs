//! `kafka`: the records of a topic.
//!
//! * **Partitions** those of the topic, as many as there are at open; worker i of n assigns those
//!   with p % n = i. Nothing is subscribed, so no rebalance moves one.
//! * **Offsets** the topic's. None is committed to Kafka: they belong to the checkpoint.
//! * **End** `until = "end"`: each partition's end as it is at open, the last stable offset; what comes
//!   later is not read. Otherwise live, and "at end" is said each time a partition is drained.
//! * **Bad records** become dead letters with partition and offset; so does a message without a
//!   payload.
//! * **Trouble** a broker that is away is waited for, with a warning every ten seconds. A topic that
//!   does not exist, a refusal, or records that retention deleted before they were read, end it.
//! * **Cost** one thread of librdkafka, and up to its `queued.max.messages.kbytes` of memory.

mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{SourcePlan, Until};
use tidemill_types::{DeadLetter, Error, Provenance, TraceContext};

use super::{Chunk, Entry, Polled, Source};
use crate::client::kafka::{Cluster, Log, context_of, explain, partitions, topic_name, watermarks};
use crate::format::rows::Rows;
use crate::format::{self, Decoder, Layout, MAX_RECORD, Messages, Refusal};
use crate::keys;
use trouble::Trouble;

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "kafka",
    summary: "the records of a topic",
    keys: &[
        ("topic", "text", "the topic"),
        ("brokers", "text or list of texts", "host:port of some brokers"),
        ("start", "\"earliest\" or \"latest\", earliest", "where a partition is read from first"),
        ("properties", "table, {}", "properties of librdkafka, for TLS and SASL say"),
        ("max_record", "bytes, 1048576", "a larger record goes to the dead letters"),
    ],
    until: Until::Stopped,
    check: |plan| read(plan).map(drop),
    open: |plan, share| {
        let keys = read(plan).map_err(keys::error)?;
        Ok(Box::new(KafkaSource::open(plan, keys, share)?))
    },
};

/// Messages taken before rows are handed over, if so many are there already.
const MESSAGES: usize = 4_096;

/// How often is looked whether a live topic has more partitions now.
const GROWS: Duration = Duration::from_secs(10);

/// How long a broker may take for the ends of a partition.
const WATERMARKS: Duration = Duration::from_secs(30);

struct Keys {
    cluster: Cluster,
    topic: String,
    latest: bool,
    messages: &'static Messages,
    layout: Layout,
}

fn read(plan: &SourcePlan) -> Result<Keys, Vec<Diagnostic>> {
    let mut params = plan.section.params();
    let topic = params.string("topic");
    let cluster = Cluster::read(&plan.section, &mut params);
    let start = params.optional_string("start");
    let max_record = params.integer("max_record", MAX_RECORD as i64, 1..=1 << 30);
    let mut errors = params.finish().err().unwrap_or_default();
    // One that is missing is told already.
    errors.extend(topic_name(&topic).filter(|_| !topic.value.is_empty()));
    if let Some(other) =
        start.as_ref().filter(|s| !["earliest", "latest"].contains(&s.value.as_str()))
    {
        errors.push(Diagnostic::new(
            &other.span,
            format!("`start` cannot be `{}`", other.value),
            "a partition is read from its first record or from what comes next",
            "write \"earliest\" or \"latest\"",
        ));
    }
    errors.extend(keys::timezone(&plan.timezone).err());
    let cluster = keys::take(cluster, &mut errors);
    let messages = format::for_messages(plan.format.as_ref()).map_err(|e| vec![e]);
    let messages = keys::take(messages, &mut errors);
    let layout = Layout {
        threads: 1,
        schema: plan.schema.clone(),
        null: plan.null.clone(),
        max_record: max_record as usize,
    };
    let latest = start.is_some_and(|s| s.value == "latest");
    match (cluster, messages) {
        (Some(cluster), Some((_, messages))) if errors.is_empty() => {
            Ok(Keys { cluster, topic: topic.value, latest, messages, layout })
        }
        _ => Err(errors),
    }
}

/// One partition of this share.
struct Partition {
    /// The next offset to be taken.
    next: i64,
    /// The first one.
    began: i64,
    /// The first offset that was there when it was opened.
    low: i64,
    /// The one behind the last.
    high: i64,
    /// Where it ends, if it is bounded.
    end: Option<i64>,
    ended: bool,
    paused: bool,
    rows: Rows,
    offsets: Vec<u64>,
    rejects: Vec<DeadLetter>,
    contexts: Vec<(u64, TraceContext)>,
}

impl Partition {
    /// Whether nothing more shall be read.
    fn stopped(&self) -> bool {
        self.paused || self.ended && self.end.is_some()
    }

    fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.rejects.is_empty()
    }

    fn chunk(&mut self, partition: u32) -> Result<Chunk, Error> {
        Ok(Chunk {
            partition,
            rows: self.rows.finish()?,
            offsets: std::mem::take(&mut self.offsets),
            rejected: self.rejects.iter().map(|reject| reject.provenance.offset).collect(),
            rejects: std::mem::take(&mut self.rejects),
            contexts: std::mem::take(&mut self.contexts),
        })
    }
}

struct KafkaSource {
    source: String,
    topic: String,
    consumer: BaseConsumer<Log>,
    decoder: Box<dyn Decoder>,
    partitions: BTreeMap<u32, Partition>,
    /// Whether the consumer reads from the partitions' places. It is told so once for all of them: librdkafka dies of
    /// an assertion when it is assigned anew while the assignment before is on its way (confluentinc/librdkafka#5573).
    assigned: bool,
    ready: VecDeque<Polled>,
    trouble: Trouble,
    /// Partitions of the topic, and when that was looked at; none where it does not matter.
    count: Option<(u32, Instant)>,
    /// Whether anybody asks for the contexts of rows.
    traced: bool,
    /// Bytes of what was refused since rows were handed over.
    refused: usize,
}

/// What one look at the consumer brought.
enum Seen {
    Message(u32),
    End(u32),
    Nothing,
}

impl KafkaSource {
    fn open(plan: &SourcePlan, keys: Keys, share: (usize, usize)) -> Result<KafkaSource, Error> {
        let log = Log::default();
        let consumer: BaseConsumer<Log> = keys
            .cluster
            .config()
            .set("group.id", "tidemill-unused")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create_with_context(log.clone())
            .map_err(|e| explain("cannot make a consumer", &e, None))?;
        let count = partitions(consumer.client(), &keys.topic, &log, &|| {
            drop(consumer.poll(Duration::ZERO))
        })?;
        let mut source = KafkaSource {
            source: plan.name.value.clone(),
            topic: keys.topic,
            consumer,
            decoder: (keys.messages.decoder)(&keys.layout),
            partitions: BTreeMap::new(),
            assigned: false,
            ready: VecDeque::new(),
            trouble: Trouble::default(),
            // The first worker looks for all.
            count: (plan.until != Some(Until::End) && share.0 == 0)
                .then(|| (count, Instant::now())),
            traced: false,
            refused: 0,
        };
        for partition in (0..count).filter(|p| *p as usize % share.1.max(1) == share.0) {
            let client = source.consumer.client();
            let (low, high) =
                watermarks(client, &source.topic, partition, WATERMARKS).map_err(|e| {
                    let what = format!("cannot find the end of {}/{partition}", source.topic);
                    explain(&what, &e, log.last().as_deref())
                })?;
            let read = Partition {
                next: if keys.latest { high } else { low },
                began: if keys.latest { high } else { low },
                low,
                high,
                end: (plan.until == Some(Until::End)).then_some(high),
                ended: false,
                paused: false,
                rows: Rows::new(&keys.layout.schema),
                offsets: Vec::new(),
                rejects: Vec::new(),
                contexts: Vec::new(),
            };
            source.partitions.insert(partition, read);
        }
        Ok(source)
    }

    /// Reads every partition on from its place. What is under way is dropped and read again.
    fn assign(&mut self) -> Result<(), Error> {
        let failed = |e: KafkaError| explain("cannot assign partitions", &e, None);
        let mut places = TopicPartitionList::new();
        for (partition, read) in &mut self.partitions {
            places
                .add_partition_offset(&self.topic, *partition as i32, Offset::Offset(read.next))
                .map_err(failed)?;
        }
        self.consumer.assign(&places).map_err(failed)?;
        let bounded: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, read)| !read.ended && read.end.is_some_and(|end| read.next >= end))
            .map(|(partition, _)| *partition)
            .collect();
        for partition in bounded {
            self.end(partition)?;
        }
        // librdkafka remembers a pause over an assignment.
        for (partition, read) in &self.partitions {
            self.hold(*partition, read.stopped())?;
        }
        Ok(())
    }

    fn hold(&self, partition: u32, hold: bool) -> Result<(), Error> {
        let mut which = TopicPartitionList::new();
        which.add_partition(&self.topic, partition as i32);
        let done = if hold { self.consumer.pause(&which) } else { self.consumer.resume(&which) };
        done.map_err(|e| explain("cannot pause a partition", &e, None))
    }

    /// Notes that a partition stands at its end, behind what was read of it.
    fn end(&mut self, partition: u32) -> Result<(), Error> {
        let Some(read) = self.partitions.get_mut(&partition) else { return Ok(()) };
        if read.ended && read.end.is_some() {
            return Ok(());
        }
        read.ended = true;
        if !read.is_empty() {
            let chunk = read.chunk(partition)?;
            self.ready.push_back(Polled::Chunk(chunk));
        }
        self.ready.push_back(Polled::AtEnd(partition));
        if self.partitions[&partition].end.is_some() { self.hold(partition, true) } else { Ok(()) }
    }

    /// Looks for one message, for at most `wait`.
    fn look(&mut self, wait: Duration) -> Result<Seen, Error> {
        let message = match self.consumer.poll(wait) {
            None => return Ok(Seen::Nothing),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.trouble = Trouble::default();
                return Ok(Seen::End(partition as u32));
            }
            Some(Err(error)) => {
                let log = self.consumer.client().context().last();
                self.trouble.met(&self.topic, &error, log.as_deref())?;
                return Ok(Seen::Nothing);
            }
            Some(Ok(message)) => message,
        };
        self.trouble = Trouble::default();
        let partition = message.partition() as u32;
        let Some(read) = self.partitions.get_mut(&partition) else { return Ok(Seen::Nothing) };
        let offset = message.offset();
        if offset < read.next || read.end.is_some_and(|end| offset >= end) {
            let over = read.end.is_some_and(|end| offset >= end);
            return Ok(if over { Seen::End(partition) } else { Seen::Nothing });
        }
        read.next = offset + 1;
        read.ended = false;
        let outcome = match message.payload() {
            Some(payload) => self.decoder.decode(payload, &mut read.rows),
            None => Err(Refusal::new("parse", "the message has no payload")),
        };
        match outcome {
            Ok(()) => {
                read.offsets.push(offset as u64);
                if self.traced
                    && let Some(context) = context_of(&message)
                {
                    read.contexts.push((offset as u64, context));
                }
            }
            Err(refusal) => {
                let raw = message.payload().unwrap_or_default().to_vec();
                self.refused += raw.len();
                read.rejects.push(DeadLetter {
                    source: self.source.clone(),
                    provenance: Provenance {
                        origin: self.topic.clone(),
                        partition,
                        offset: offset as u64,
                    },
                    reason: refusal.reason.to_string(),
                    detail: refusal.detail,
                    raw,
                });
            }
        }
        let last = read.end.is_some_and(|end| read.next >= end);
        Ok(if last { Seen::End(partition) } else { Seen::Message(partition) })
    }

    /// Takes what is there: waits for the first message only.
    fn fill(&mut self, wait: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + wait;
        let mut taken = 0;
        let mut bytes = 0;
        self.refused = 0;
        while taken < MESSAGES && bytes.max(self.refused) < format::PART_BYTES {
            let wait = match taken {
                0 => deadline.saturating_duration_since(Instant::now()),
                _ => Duration::ZERO,
            };
            match self.look(wait)? {
                Seen::Message(partition) => {
                    taken += 1;
                    bytes = bytes.max(self.partitions[&partition].rows.text_bytes());
                }
                Seen::End(partition) => {
                    taken += 1;
                    self.end(partition)?;
                }
                Seen::Nothing if taken > 0 || Instant::now() >= deadline => break,
                Seen::Nothing => {}
            }
        }
        for (partition, read) in &mut self.partitions {
            if !read.is_empty() {
                self.ready.push_back(Polled::Chunk(read.chunk(*partition)?));
            }
        }
        Ok(())
    }

    /// Tells of partitions that the topic has got since. They are read after a restart: which events a run has
    /// is settled when it begins.
    fn look_for_more(&mut self) {
        let Some((known, looked)) = &mut self.count else { return };
        if looked.elapsed() < GROWS {
            return;
        }
        *looked = Instant::now();
        let Ok(metadata) = self.consumer.fetch_metadata(Some(&self.topic), GROWS / 10) else {
            return;
        };
        let now = metadata.topics().first().map_or(0, |topic| topic.partitions().len() as u32);
        if now > *known {
            *known = now;
            tracing::warn!(
                topic = self.topic,
                "the topic has {now} partitions now, and those that were added are not read: stop the run and start it again"
            );
        }
    }

    /// The first thing that is ready, of a partition that is not paused.
    fn take(&mut self) -> Option<Polled> {
        let place = self.ready.iter().position(|polled| match polled {
            Polled::Chunk(Chunk { partition, .. }) | Polled::AtEnd(partition) => {
                self.partitions.get(partition).is_some_and(|read| !read.paused)
            }
            Polled::Nothing => false,
        })?;
        self.ready.remove(place)
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> Vec<u32> {
        self.partitions.keys().copied().collect()
    }

    fn begins_at(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).map_or(0, |read| read.began.unsigned_abs())
    }

    fn ends_at(&self, partition: u32) -> Option<u64> {
        self.partitions.get(&partition)?.end.map(i64::unsigned_abs)
    }

    fn poll(&mut self, wait: Duration) -> Result<Polled, Error> {
        if !std::mem::replace(&mut self.assigned, true) {
            self.assign()?;
        }
        if let Some(polled) = self.take() {
            return Ok(polled);
        }
        self.look_for_more();
        self.fill(wait)?;
        Ok(self.take().unwrap_or(Polled::Nothing))
    }

    fn trace(&mut self) {
        self.traced = true;
    }

    fn pause(&mut self, partition: u32, paused: bool) {
        let Some(read) = self.partitions.get_mut(&partition) else { return };
        read.paused = paused;
        if !self.assigned || (read.ended && read.end.is_some()) {
            return;
        }
        if let Err(error) = self.hold(partition, paused) {
            tracing::warn!(topic = self.topic, partition, %error, "reading goes on");
        }
    }

    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), Error> {
        super::own(&self.partitions(), partition)?;
        self.ready.retain(|polled| match polled {
            Polled::Chunk(chunk) => chunk.partition != partition,
            Polled::AtEnd(at) => *at != partition,
            Polled::Nothing => false,
        });
        if let Some(read) = self.partitions.get_mut(&partition) {
            let next = i64::try_from(offset).unwrap_or(i64::MAX);
            if next < read.low {
                let (topic, low) = (&self.topic, read.low);
                return Err(Error::external(format!(
                    "records {next} to {} of {topic}/{partition} were deleted by the topic's retention before they were read",
                    low - 1
                ))
                .help("what they held is lost: begin again with a folder of its own, and keep records longer (retention.ms)"));
            }
            if next > read.high {
                let (topic, high) = (&self.topic, read.high);
                return Err(Error::external(format!(
                    "{topic}/{partition} is to be read on from offset {next}, and ends before {high}: it is another topic than it was"
                ))
                .help("restore the topic, or begin again with a folder of its own"));
            }
            (read.next, read.ended) = (next, false);
        }
        self.assigned = false;
        Ok(())
    }
}
