//! The same river on Apache Kafka: scores from topics equal those from files, byte for byte.

#[path = "support/flights.rs"]
mod flights;
#[path = "support/kafka.rs"]
mod kafka;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use flights::{Data, PIPELINE, summary};

const SOURCES: [&str; 4] = ["departures", "takeoffs", "arrivals", "weather"];

/// The `--set` pairs that take the sources from topics.
fn on_kafka(brokers: &str, prefix: &str) -> Vec<String> {
    SOURCES
        .iter()
        .flat_map(|source| {
            [
                ("path", String::new()),
                ("type", "kafka".to_string()),
                ("topic", format!("{prefix}{source}")),
                ("brokers", brokers.to_string()),
                ("until", "end".to_string()),
            ]
            .map(|(key, value)| format!("source.{source}.{key}={value}"))
        })
        .flat_map(|pair| ["--set".to_string(), pair])
        .collect()
}

/// The values of every message of a topic.
fn read_all(brokers: &str, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .create()
        .expect("a consumer");
    let wait = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), wait).expect("metadata");
    let mut list = TopicPartitionList::new();
    let mut awaited = 0;
    for partition in metadata.topics()[0].partitions() {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition.id(), wait).expect("watermarks");
        awaited += high - low;
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let next = || {
        let message = consumer.poll(wait).expect("a message in time").expect("no error");
        String::from_utf8(message.payload().expect("a value").to_vec()).expect("UTF-8")
    };
    (0..awaited).map(|_| next()).collect()
}

#[test]
fn scores_from_topics_equal_those_from_files() {
    let broker = kafka::shared();
    let data = Data::of_days(40);
    let prefix = format!("{}-", kafka::unique("river"));
    let produced = data
        .with_data(Command::new(env!("CARGO_BIN_EXE_tidemill")).args(["produce", PIPELINE]))
        .args(["--brokers", &broker.address(), "--prefix", &prefix, "--partitions", "3"])
        .args(["--output", "json"])
        .output()
        .expect("the program starts");
    let told = summary(&produced);
    let flights = fs::read_to_string(data.path("flights.csv")).expect("flights");
    assert_eq!(told["topics"][0]["rows"], flights.lines().count() - 1, "{told}");

    let told = summary(&data.run("files", &[]));
    let scored = told["scores"].as_u64().expect("scores");
    let wanted = fs::read(data.path("files/scores.jsonl")).expect("scores");
    for workers in ["1", "2"] {
        let topic = format!("{prefix}scores-{workers}");
        let models = format!("{prefix}models-{workers}");
        let mut more = on_kafka(&broker.address(), &prefix);
        let sinks = [
            "sink.copy.of=scores".to_string(),
            "sink.copy.type=kafka".to_string(),
            format!("sink.copy.topic={topic}"),
            format!("sink.copy.brokers={}", broker.address()),
            "sink.copy.create=true".to_string(),
            "sink.copy.partitions=2".to_string(),
            "sink.copy.key=id".to_string(),
            "sink.versions.of=models".to_string(),
            "sink.versions.type=kafka".to_string(),
            format!("sink.versions.topic={models}"),
            format!("sink.versions.brokers={}", broker.address()),
            "sink.versions.create=true".to_string(),
            "sink.versions.compact=true".to_string(),
            "sink.versions.key=model".to_string(),
        ];
        more.extend(sinks.into_iter().flat_map(|pair| ["--set".to_string(), pair]));
        more.extend(["--workers".to_string(), workers.to_string()]);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let folder = format!("kafka-{workers}");
        let told = summary(&data.run(&folder, &more));
        assert_eq!(told["late"], 0, "{told}");
        let found = fs::read(data.path(&folder).join("scores.jsonl")).expect("scores");
        assert!(found == wanted, "scores from topics with {workers} workers are others");

        // By value, sorted alike: a topic of several partitions has no order of its own.
        let read = read_all(&broker.address(), &topic);
        let lines = std::str::from_utf8(&wanted).expect("UTF-8").lines();
        let lines: BTreeSet<String> = lines.map(str::to_string).collect();
        assert_eq!(read.len() as u64, scored);
        assert!(read.into_iter().collect::<BTreeSet<_>>() == lines, "the topic holds other scores");
        let versions = read_all(&broker.address(), &models);
        assert!(versions.iter().any(|v| v.contains("\"model\":\"trees\"")), "{versions:?}");
        assert!(versions.iter().any(|v| v.contains("\"model\":\"online\"")), "{versions:?}");
    }
}
