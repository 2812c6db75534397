//! How far a sink has come, in Kafka itself: a record in a compacted topic of one partition, sent in the
//! transaction of the rows that it speaks of.
//!
//! Not as offsets of a consumer group, which a transaction may carry too: Kafka forgets those of a group that has
//! been silent for a week (`offsets.retention.minutes`), and with them what must not be sent again. A compacted topic
//! keeps the last record of a key for ever.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tidemill_types::Error;

use crate::client::kafka::{Cluster, Log, Topic, partitions, watermarks};
use crate::sink::transactions::{Place, Progress};

/// How long a broker may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the last records of the topic may take, all in all.
const ALL: Duration = Duration::from_secs(60);

/// The last record is looked for among so many first: a transaction leaves a record and a marker.
const TAIL: i64 = 64;

#[derive(Serialize, Deserialize)]
struct Written {
    rows: u64,
    chain: String,
    life: String,
}

/// The record as it stands in the topic.
pub(super) fn encode(progress: &Progress) -> Vec<u8> {
    let chain = format!("{:032x}", progress.held.chain);
    let written = Written { rows: progress.held.rows, chain, life: progress.life.clone() };
    serde_json::to_vec(&written).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Progress> {
    let written: Written = serde_json::from_slice(bytes).ok()?;
    let chain = u128::from_str_radix(&written.chain, 16).ok()?;
    Some(Progress { held: Place { rows: written.rows, chain }, life: written.life })
}

/// A name of this life of the process, which no other has.
pub(super) fn life() -> String {
    use std::hash::{BuildHasher, Hasher};
    let chance = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{}-{chance:016x}", std::process::id())
}

/// Makes the topic.
///
/// # Errors
/// A broker that does not make it.
pub(super) fn make(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let mut topic = Topic::new(name, 1).compacted();
    // A restart reads what compaction has not come to yet, and it never comes to the newest segment.
    let small = [("segment.bytes", "4194304"), ("segment.ms", "3600000")];
    topic.properties.extend(small.map(|(key, value)| (key.to_string(), value.to_string())));
    cluster.create_topic(&topic).map(drop).map_err(|error| {
        error.help(format!(
            "exactly once needs the topic {name}: make it with one partition and \
             cleanup.policy=compact, allow this user to, or name another one with `progress`"
        ))
    })
}

/// Reads what is committed.
pub(super) struct Reader {
    cluster: Cluster,
    consumer: BaseConsumer<Log>,
}

impl Reader {
    pub(super) fn new(cluster: &Cluster) -> Result<Reader, KafkaError> {
        let consumer = cluster
            .config()
            .set("group.id", "tidemill-unused")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .create_with_context(Log::default())?;
        Ok(Reader { cluster: cluster.clone(), consumer })
    }

    /// Whether there is such a topic.
    ///
    /// # Errors
    /// The broker's silence.
    pub(super) fn knows(&self, topic: &str) -> Result<bool, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.is_some_and(|found| found.error().is_none() && !found.partitions().is_empty()))
    }

    /// The number of partitions of a topic.
    ///
    /// # Errors
    /// Where no broker answers, or none knows it: then with the names that are near.
    pub(super) fn count(&self, topic: &str) -> Result<u32, Error> {
        let serve = || drop(self.consumer.poll(Duration::ZERO));
        let client = self.consumer.client();
        partitions(client, topic, client.context(), &serve)
    }

    /// What the committed transaction said that came last.
    ///
    /// # Errors
    /// What the broker says, or its silence.
    pub(super) fn last(&self, topic: &str) -> Result<Option<Progress>, KafkaError> {
        let (low, high) = watermarks(self.consumer.client(), topic, 0, ANSWER)?;
        for from in [high.saturating_sub(TAIL).max(low), low] {
            let mut found = None;
            each(&self.consumer, topic, 0, from, high, &mut |key, value| {
                if key == Some(topic.as_bytes()) {
                    found = decode(value).or(found.take());
                }
            })?;
            if found.is_some() || from == low {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Every committed message of a topic, by partition, in order: key and value. Transactions that are being
    /// committed are waited for: a broker says that one is before its readers may see it.
    ///
    /// # Errors
    /// What the broker says, or its silence.
    pub(super) fn all(
        &self,
        topic: &str,
        partitions: u32,
        take: &mut dyn FnMut(u32, Option<&[u8]>, &[u8]),
    ) -> Result<(), KafkaError> {
        let ends: BaseConsumer<Log> = self
            .cluster
            .config()
            .set("group.id", "tidemill-unused")
            .set("isolation.level", "read_uncommitted")
            .create_with_context(Log::default())?;
        let deadline = Instant::now() + ALL;
        for partition in 0..partitions {
            let (_, end) = watermarks(ends.client(), topic, partition, ALL)?;
            let (low, high) = loop {
                let (low, high) = watermarks(self.consumer.client(), topic, partition, ALL)?;
                if high >= end || Instant::now() >= deadline {
                    break (low, high);
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            each(&self.consumer, topic, partition as i32, low, high, &mut |key, value| {
                take(partition, key, value);
            })?;
        }
        Ok(())
    }
}

/// Every committed message of a partition between two offsets.
fn each(
    consumer: &BaseConsumer<Log>,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
    take: &mut dyn FnMut(Option<&[u8]>, &[u8]),
) -> Result<(), KafkaError> {
    if from >= to {
        return Ok(());
    }
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition, Offset::Offset(from))?;
    consumer.assign(&place)?;
    let deadline = Instant::now() + ALL;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.offset() < to => {
                take(message.key(), message.payload().unwrap_or_default());
                if message.offset() + 1 >= to {
                    return Ok(());
                }
            }
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) if Instant::now() >= deadline => return Err(error),
            None if Instant::now() >= deadline => {
                use rdkafka::error::RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageConsumption(OperationTimedOut));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_it_said() {
        let held = Place::default().after(Some(b"k"), b"v").after(None, b"w");
        let progress = Progress { held, life: life() };
        assert_eq!(decode(&encode(&progress)), Some(progress));
        assert_eq!(decode(b"{}"), None);
    }
}
