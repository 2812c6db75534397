//! What a restart costs: payments from topic to topic with windows over 90 days, killed when all of them are in a
//! checkpoint, and started again.
//!
//!     cargo bench --bench restart -- [PAYMENTS] [CARDS]
//!     cargo bench --bench restart -- [PAYMENTS] [CARDS] sessions
//!
//! With `sessions` no key comes back: each card pays a few times within minutes, and the windows are its open session and
//! its last hour.
//!
//! Told: bytes of the checkpoint, on the disk and unpacked, per payment and per card; the time that making it takes; the
//! time from the start of the program to the first row behind those that were there.

#![allow(clippy::print_stdout)]

#[path = "../tests/support/kafka.rs"]
mod kafka;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemill_connectors::client::kafka::{Cluster, Topic};

const PIPELINE: &str = r#"
[pipeline]
name = "restart"
spine = "payments"
tick = "1ms"

[source.payments]
type = "kafka"
topic = "events"
brokers = "BROKERS"
schema = { id = "int64", ts = "int64", card = "int64", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"
lateness = "1s"

[windows]
longest = { by = "card", LONGEST }
card_1h = { by = "card", last = "1h" }

[features]
n = "count(*) over longest"
spent = "sum(amount) over longest"
mean = "avg(amount) over longest"
largest = "max(amount) over longest"
recent = "sum(amount) over card_1h"

[sink.features]
type = "kafka"
topic = "features"
brokers = "BROKERS"
format = "csv"

[checkpoint]
interval = "2s"
"#;

/// Payments over 90 days, in the order of their times.
fn payment(id: u64, of: u64, cards: u64, sessions: bool) -> String {
    let ts = 1_600_000_000_000 + id * (90 * 86_400_000) / of;
    let mixed = id.wrapping_mul(6_364_136_223_846_793_005).rotate_left(31);
    // Eight sessions are open at a time.
    let each = (of / cards).max(1);
    let card = if sessions { id / (8 * each) * 8 + mixed % 8 } else { mixed % cards };
    format!(r#"{{"id":{id},"ts":{ts},"card":{card},"amount":{}.25}}"#, mixed % 997)
}

fn run(file: &Path, out: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("run").arg(file).arg("--folder").arg(out).arg("--quiet");
    command.stdout(Stdio::null()).spawn().expect("it starts")
}

/// Bytes of the files of a folder, and how many there are.
fn bytes(folder: &Path) -> (u64, usize) {
    let files: Vec<u64> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|file| file.len()))
        .collect();
    (files.iter().sum(), files.len())
}

/// The largest that a process was, in MiB.
fn peak(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib =
        line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// The newest checkpoint's part that were read: its number, and the bytes of its parts.
fn newest(out: &Path) -> Option<(u64, u64)> {
    let lines = fs::read_dir(out.join("checkpoints/lines")).ok()?.flatten();
    let newest = lines.map(|entry| entry.path()).max()?;
    let line: serde_json::Value = serde_json::from_slice(&fs::read(newest).ok()?).ok()?;
    let parts = line["line"]["parts"].as_array()?;
    let bytes = parts.iter().filter_map(|part| part["bytes"].as_u64()).sum();
    Some((line["line"]["line"].as_u64()?, bytes))
}

fn main() {
    let mut given = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let sessions = std::env::args().any(|word| word == "sessions");
    let (payments, cards) = (given.next().unwrap_or(2_000_000), given.next().unwrap_or(200_000));
    let broker = kafka::Broker::start();
    let cluster = Cluster::new(broker.address());
    for topic in ["events", "features"] {
        assert!(cluster.create_topic(&Topic::new(topic, 1)).expect("a topic"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (file, out) = (folder.path().join("restart.toml"), folder.path().join("out"));
    let longest = if sessions { r#"session = "30m""# } else { r#"last = "90d""# };
    let pipeline = PIPELINE.replace("BROKERS", &broker.address()).replace("LONGEST", longest);
    fs::write(&file, pipeline).expect("a pipeline");
    let began = Instant::now();
    broker.send("events", (0..payments).map(|id| (0, payment(id, payments, cards, sessions))));
    eprintln!("{payments} payments sent in {:.1} s", began.elapsed().as_secs_f64());
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .create()
        .expect("a consumer");
    let rows = || {
        let ends = reader.fetch_watermarks("features", 0, Duration::from_secs(10));
        ends.map_or(0, |(_, end)| end as u64)
    };

    let began = Instant::now();
    let mut first = run(&file, &out);
    // All but those of the last second, which the watermark has not passed.
    while rows() + 2 * payments / (90 * 86_400) + 2 < payments {
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "read: {payments} payments of {cards} cards in {took:.1} s, {:.0}/s",
        payments as f64 / took
    );
    // The line under way, and one that begins afterwards; a run to which nothing comes makes none.
    let before = newest(&out).map_or(0, |(line, _)| line);
    let mut next = payments;
    let mut send = |many| {
        broker.send(
            "events",
            (next..next + many).map(|id| (0, payment(id, payments, cards, sessions))),
        );
        next += many;
    };
    let line = loop {
        match newest(&out) {
            Some((line, bytes)) if line >= before + 2 => break bytes,
            _ => send(100),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (journal, _) = bytes(&out.join("journal"));
    println!(
        "checkpoint: {:.0} MB, {:.1} bytes a payment, {:.0} a card; journal {journal} bytes; memory {} MiB",
        line as f64 / 1e6,
        line as f64 / payments as f64,
        line as f64 / cards as f64,
        peak(first.id()),
    );
    let there = rows();
    first.kill().expect("killed");
    first.wait().expect("gone");
    send(10_000);
    let began = Instant::now();
    let mut again = run(&file, &out);
    while rows() <= there {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!(
        "restart: {:.2} s to the first row behind the {there} that were there; memory {} MiB",
        began.elapsed().as_secs_f64(),
        peak(again.id()),
    );
    again.kill().expect("killed");
    again.wait().expect("gone");
}
