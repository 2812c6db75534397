//! A run that is killed answers for its entities when it is back, before anything new has come; so does one that
//! finds at once what came to another bit by bit.

#[path = "support/kafka.rs"]
mod kafka;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value as Json, json};
use tidemill_connectors::client::kafka::{Cluster, Topic};

const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"
mode = "MODE"

[source.payments]
type = "kafka"
topic = "TOPIC"
brokers = "BROKER"
schema = { id = "int64", card = "string", amount = "float64", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
last_day = { by = "card", last = "1d" }

[features]
amount = "amount"
latest = "last_k(amount, 3) over last_day"
ratio = "amount / nullif(avg(amount) over last_day, 0)"
unknown = "nullif(amount, amount)"

[label.large]
over = "payments"
value = "amount > 100"
wait = "1m"

[model.online]
type = "logistic_regression"
label = "large"
inputs = ["ratio"]

[score]
champion = "online"
fallback = [0.5]

[online]
entity = "card"

[checkpoint]
interval = "100ms"

[sink.scores]
type = "file"
path = "scores.jsonl"
"#;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that serves; it is killed with this value.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(folder: &Path, out: &str, workers: &str) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["run", "shop.toml", "--folder", out, "--serve", "127.0.0.1:0"])
            .args(["--workers", workers])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("a log"));
        let mut said = String::new();
        let address = loop {
            let from = said.len();
            assert!(log.read_line(&mut said).expect("a log") > 0, "the program ended:\n{said}");
            if let Some((_, address)) = said[from..].split_once("address=") {
                break address.trim().to_string();
            }
        };
        // The pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Running { child, address }
    }

    fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let body = body.to_string();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        (status, serde_json::from_str(body).unwrap_or(json!(body)))
    }

    /// What is known of each card, and its score.
    fn answers(&self) -> Option<Json> {
        let cards: Vec<String> = (0..CARDS).map(|card| format!("c{card}")).collect();
        let features = ["amount", "latest", "ratio", "unknown"].map(|f| format!("shop:{f}"));
        let asked = json!({ "features": features, "entities": { "card": cards } });
        let (status, known) = self.post("/get-online-features", &asked);
        let known = known.get("results").filter(|_| status == 200)?.clone();
        let data =
            json!([{ "name": "card", "shape": [CARDS], "datatype": "BYTES", "data": cards }]);
        let (status, scores) = self.post("/v2/models/shop/infer", &json!({ "inputs": data }));
        let scores = scores.get("outputs").filter(|_| status == 200)?.clone();
        Some(json!([known, scores]))
    }

    /// How far in event time the run says it is, as RFC 3339.
    fn as_of(&self) -> Option<String> {
        let data = json!([{ "name": "card", "shape": [1], "datatype": "BYTES", "data": ["c0"] }]);
        let (_, scores) = self.post("/v2/models/shop/infer", &json!({ "inputs": data }));
        Some(scores.pointer("/parameters/as_of")?.as_str()?.to_string())
    }

    /// The answers when all up to this minute, the last but one, is done with: the last waits for more.
    /// That they stay the same for a while says nothing before, for the broker may be slow.
    fn settled(&self, minute: usize) -> Json {
        let (whole, deadline) = (Some(moment(minute)), Instant::now() + PATIENCE);
        loop {
            let before = self.answers().filter(|_| self.as_of() >= whole);
            std::thread::sleep(Duration::from_millis(500));
            match before {
                Some(before) if self.answers().as_ref() == Some(&before) => return before,
                _ => assert!(Instant::now() < deadline, "{:?} of {whole:?}", self.as_of()),
            }
        }
    }

    /// Waits until the answers are these.
    fn comes_to(&self, wanted: &Json, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut unlike = Vec::new();
            differences(&self.answers().unwrap_or_default(), wanted, "", &mut unlike);
            if unlike.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {unlike:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const CARDS: usize = 40;

/// The time of the payments of a minute, as RFC 3339.
fn moment(minute: usize) -> String {
    tidemill_types::time::to_rfc3339(1_767_225_600_000_000 + minute as i64 * 60_000_000)
}

/// Where two answers differ: a whole one has a thousand lines.
fn differences(found: &Json, wanted: &Json, at: &str, into: &mut Vec<String>) {
    match (found, wanted) {
        (Json::Array(found), Json::Array(wanted)) if found.len() == wanted.len() => {
            for (n, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                differences(found, wanted, &format!("{at}/{n}"), into);
            }
        }
        (Json::Object(found), Json::Object(wanted)) if found.keys().eq(wanted.keys()) => {
            for ((key, found), wanted) in found.iter().zip(wanted.values()) {
                differences(found, wanted, &format!("{at}/{key}"), into);
            }
        }
        _ if found == wanted => {}
        _ => into.push(format!("{at}: {found}, wanted {wanted}")),
    }
}

struct Topics {
    topic: String,
    producer: BaseProducer,
}

impl Topics {
    fn pay(&self, id: usize, card: &str, minute: usize) {
        let at = moment(minute);
        let amount = (id * 37 % 200) as f64 + 0.5;
        let event = json!({ "id": id, "card": card, "amount": amount, "at": at }).to_string();
        let record = BaseRecord::<[u8], str>::to(&self.topic).payload(&event);
        self.producer.send(record).map_err(|(e, _)| e).expect("queued");
        // To wait for each of them would take a tenth of a second.
        self.producer.poll(Duration::ZERO);
    }
}

/// The numbers of the lines that stand.
fn newest_line(folder: &Path) -> u64 {
    let lines = std::fs::read_dir(folder.join("out/checkpoints/lines"));
    let names = lines.into_iter().flatten().flatten().map(|entry| entry.path());
    let number = |path: std::path::PathBuf| path.file_stem()?.to_str()?.parse().ok();
    names.filter_map(number).max().unwrap_or(0)
}

#[test]
fn entities_are_known_again_at_once() {
    let broker = kafka::shared();
    for mode in ["final", "at_once"] {
        let topic = kafka::unique("payments");
        assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 1)).expect("made"));
        let producer =
            ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("one");
        let topics = Topics { topic, producer };
        let folder = tempfile::tempdir().expect("a folder");
        let pipeline = PIPELINE.replace("MODE", mode).replace("TOPIC", &topics.topic);
        let pipeline = pipeline.replace("BROKER", &broker.address());
        std::fs::write(folder.path().join("shop.toml"), pipeline).expect("a pipeline");
        let mut running = Running::start(folder.path(), "out", "2");
        for id in 0..5 * CARDS {
            topics.pay(id, &format!("c{}", id % CARDS), id);
        }
        // Somebody else moves time on, so that all others are done, and lines are made behind them.
        let (mut next, mut at, mut wanted) = (5 * CARDS, None, None);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{mode}: no line after {next} payments");
            topics.pay(next, "somebody else", next);
            next += 1;
            match (&wanted, at) {
                (None, _) => {
                    let found = running.answers();
                    let done = found
                        .as_ref()
                        .is_some_and(|found| !found.to_string().contains("NOT_FOUND"));
                    if done && next > 6 * CARDS {
                        (wanted, at) = (found, Some(newest_line(folder.path())));
                    }
                }
                (Some(_), Some(at)) if newest_line(folder.path()) > at + 2 => break,
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        topics.producer.flush(PATIENCE).expect("sent");
        let wanted = running.settled(next - 2);
        running.child.kill().expect("killed");
        running.child.wait().expect("gone");
        // The same run; and one that finds all of it there at once, where the first one came to each in its turn.
        for out in ["out", "anew"] {
            Running::start(folder.path(), out, "1").comes_to(&wanted, &format!("{mode}, {out}"));
        }
    }
}
