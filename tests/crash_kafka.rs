//! The crash kit from Kafka to Kafka: what readers of committed messages see is what a run writes that was
//! never killed, however often it is.

#[path = "support/kafka.rs"]
mod kafka;

use std::fs;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
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

#[test]
fn killed_runs_from_topic_to_topic_write_every_row_once() {
    let broker = kafka::shared();
    let topic = kafka::unique("payments");
    assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 2)).expect("a topic"));
    let events: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a producer");
    let payments = 30_000u64;
    for id in 0..payments {
        let card = id * 7 % 100;
        // One in nine is up to 5 s late, one in a thousand is no payment.
        let late = if id % 9 == 0 { id * 37 % 4_900 } else { 0 };
        let ts = 1_600_000_000_000 + id * 200 - late;
        let event = match id % 1_000 {
            999 => "no JSON".to_string(),
            _ => format!(r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, id * 13 % 997),
        };
        let mut record = BaseRecord::<[u8], str>::to(&topic).partition((card % 2) as i32).payload(&event);
        while let Err((_, again)) = events.send(record) {
            events.poll(Duration::from_millis(5));
            record = again;
        }
    }
    events.flush(Duration::from_secs(60)).expect("sent");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cards.toml");
    let text = PIPELINE.replace("TOPIC", &topic).replace("BROKER", &broker.address());
    fs::write(&file, text).expect("a pipeline");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("crash-test").arg(&file).args(["--output", "json", "--kills", "24", "--seed", "9"]);
    let output = command.arg("--folder").arg(folder.path().join("runs")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{told}");
    let told: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let count = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert!(count("kills") >= 24 && count("went_on") > 0, "{told}");
    for point in ["kafka.sent", "kafka.committed", "kafka.fenced"] {
        assert!(told["by_point"][point].as_u64() > Some(0), "{point}: {told}");
    }
    eprintln!("{told}");
}
