//! The crash kit from Kafka to Kafka: what readers of committed messages see is what a run writes that was
//! never killed, however often it is.

#[path = "support/kafka.rs"]
mod kafka;

use std::fs;
use std::process::Command;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value as Json;
use tidemill_connectors::client::kafka::{Cluster, Topic};

const PIPELINE: &str = r#"
[pipeline]
name = "cards"
spine = "payments"
bundle = 60

[source.payments]
type = "kafka"
topic = "TOPIC"
brokers = "BROKER"
until = "end"
schema = { id = "int64", ts = "int64", card = "int64", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "5s"

[windows]
last_10m = { by = "card", last = "10m" }
ever = { by = "card", lifetime = true }

[features]
card = "card"
n = "count(*) over last_10m"
mean = "avg(amount) over last_10m"
total = "sum(amount) over ever"

[sink.features]
type = "kafka"
topic = "TOPIC-features"
brokers = "BROKER"
key = "card"
partitions = 3
delivery = "exactly_once"
commit_every = "20ms"

[sink.narrow]
of = "features"
type = "kafka"
topic = "TOPIC-narrow"
brokers = "BROKER"
format = "csv"
columns = ["id", "n"]
delivery = "exactly_once"

[sink.file]
of = "features"
type = "file"
path = "features.csv"

[sink.dead_letters]
type = "file"
path = "dead.jsonl"
"#;

/// A topic of payments, late, out of order and broken; and a pipeline over it.
fn payments(broker: &kafka::Broker, payments: u64) -> (String, String) {
    let topic = kafka::unique("payments");
    assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 2)).expect("a topic"));
    let event = |id: u64| {
        let card = id * 7 % 100;
        // One in nine is up to 5 s late, one in a thousand is no payment.
        let late = if id.is_multiple_of(9) { id * 37 % 4_900 } else { 0 };
        let ts = 1_600_000_000_000 + id * 200 - late;
        let event = match id % 1_000 {
            999 => "no JSON".to_string(),
            _ => format!(r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, id * 13 % 997),
        };
        ((card % 2) as i32, event)
    };
    broker.send(&topic, (0..payments).map(event));
    let pipeline = PIPELINE.replace("TOPIC", &topic).replace("BROKER", &broker.address());
    (topic, pipeline)
}

/// Kills runs over so many payments and, if often enough, holds that they came to every step of a transaction.
fn kill(events: u64, more: &[&str]) {
    let broker = kafka::shared();
    let (_, pipeline) = payments(&broker, events);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cards.toml");
    fs::write(&file, pipeline).expect("a pipeline");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("crash-test").arg(&file).args(["--output", "json", "--seed", "9"]).args(more);
    let output =
        command.arg("--folder").arg(folder.path().join("runs")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{told}");
    let told: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let count = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    let least: u64 = more[1].parse().expect("a number of kills");
    assert!(count("kills") >= least && count("went_on") > 0, "{told}");
    // Points come in turn, and these are the last.
    let last = ["kafka.sent", "kafka.committed", "kafka.fenced"];
    for point in last.into_iter().filter(|_| least >= 40) {
        assert!(told["by_point"][point].as_u64() > Some(0), "{point}: {told}");
    }
}

#[test]
fn killed_runs_from_topic_to_topic_write_every_row_once() {
    kill(100_000, &["--kills", "40"]);
}

/// In `at_once` too: a restart sends what it had sent, or the sink would stop it at the first row that differs.
#[test]
fn killed_runs_in_at_once_send_every_row_and_correction_once() {
    kill(60_000, &["--kills", "24", "--set", "pipeline.mode=at_once"]);
}

/// A replay reads the topic again, and says so when it cannot: retention has taken the beginning.
#[test]
fn a_replay_wants_the_beginning_of_the_log() {
    let broker = kafka::shared();
    let (topic, pipeline) = payments(&broker, 3_000);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cards.toml");
    fs::write(&file, pipeline).expect("a pipeline");
    let tidemill = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg(arguments[0]).arg(&file).args(&arguments[1..]).current_dir(folder.path());
        let made = ["--set", "sink.features.create=true", "--set", "sink.narrow.create=true"];
        let output = command.args(made).arg("--quiet").output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let ran = tidemill(&["run"]);
    assert_eq!(ran.0, Some(0), "{}", ran.1);
    let stretch = ["replay", "--from", "2020-09-13T12:28:00Z", "--to", "2020-09-13T12:30:00Z"];
    let replayed = tidemill(&stretch);
    assert_eq!(replayed.0, Some(0), "{}", replayed.1);
    let text =
        fs::read_to_string(folder.path().join("out/cards-replay/features.csv")).expect("rows");
    // Five payments a second, and a header.
    assert!((590..=601).contains(&text.lines().count()), "{} lines", text.lines().count());

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("an admin");
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&topic, 1, Offset::Offset(10)).expect("an offset");
    let removal = admin.delete_records(&gone, &AdminOptions::new());
    futures::executor::block_on(removal).expect("removed");
    let (code, said) = tidemill(&stretch);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("partition 1 begins at offset 10") && said.contains("retention.ms"),
        "{said}"
    );
}
