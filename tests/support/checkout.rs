//! A checkout that goes on: payments and verdicts in two topics, six hours of history and then as they happen,
//! with what goes wrong in the world: rows that come late, records that are none, texts that look like markup,
//! and customers who change. Served until it is dropped.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tidemill_connectors::client::kafka::{Cluster, Topic};
use tidemill_types::time::to_rfc3339;

use super::kafka;

const PIPELINE: &str = include_str!("checkout.toml");

/// What a browser must show and never run.
pub const MARKUP: &str = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">";

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Payments of the past, three seconds apart.
const PAST: i64 = 7_200;
/// How long after a payment its verdict comes.
const VERDICT: i64 = 10 * MINUTE;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 294247")
}

/// The running pipeline, and who feeds it.
pub struct Checkout {
    child: Child,
    /// Where it listens.
    pub address: String,
    log: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
    feeder: Option<JoinHandle<()>>,
    /// Its folder; what it writes is in `out`.
    pub folder: tempfile::TempDir,
    /// The last to go: clients that are closed want to talk to it.
    _broker: Arc<kafka::Broker>,
}

impl Checkout {
    /// Starts it with these flags of `run`, and waits until its trees have a version and some drift was read.
    pub fn start(more: &[&str]) -> Checkout {
        let broker = kafka::shared();
        let topics = ["payments", "verdicts"].map(kafka::unique);
        let cluster = Cluster::new(broker.address());
        for topic in &topics {
            assert!(cluster.create_topic(&Topic::new(topic, 1)).expect("a topic"));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("checkout.toml");
        std::fs::write(&file, PIPELINE).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(&file).arg("--folder").arg(folder.path().join("out"));
        command.args(["--serve", "127.0.0.1:0"]).args(more);
        for (source, topic) in ["payments", "verdicts"].iter().zip(&topics) {
            command.arg("--set").arg(format!("source.{source}.brokers={}", broker.address()));
            command.arg("--set").arg(format!("source.{source}.topic={topic}"));
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a log"));
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            let more = lines.read_line(&mut line).expect("a log") > 0;
            log.lock().expect("the log").push_str(&line);
            assert!(more, "the program ended:\n{}", log.lock().expect("the log"));
            if let Some(rest) = line.split("address=").nth(1) {
                break rest.split_whitespace().next().expect("an address").to_string();
            }
        };
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
                copy.lock().expect("the log").push_str(&line);
                line.clear();
            }
        });
        let over = Arc::new(AtomicBool::new(false));
        let (told, to) = (Arc::clone(&over), broker.address().to_string());
        let feeder = std::thread::spawn(move || feed(&to, &topics, &told));
        let feeder = Some(feeder);
        Checkout { child, address, log, over, feeder, folder, _broker: broker }
    }

    /// Waits until what the dashboard shows is there: versions of the trees, drift, alerts, and rows of
    /// today. `headers` say who asks.
    pub fn ripen(&self, headers: &str) {
        let deadline = Instant::now() + Duration::from_secs(240);
        loop {
            let drift =
                self.get("/api/v1/drift", headers)["map"]["columns"].as_array().map_or(0, Vec::len);
            let models = self.get("/api/v1/models", headers);
            let versions = models["models"][0]["versions"].as_array();
            let former = |of: &&Value| of["stage"] == "former";
            let versions = versions.map_or(0, |all| all.iter().filter(former).count());
            let status = self.get("/api/v1/status", headers);
            let lag = status["lag_seconds"].as_f64().unwrap_or(f64::MAX);
            if drift > 20 && versions > 0 && lag < 30.0 && status["alerts"].as_u64() > Some(0) {
                return;
            }
            let log = self.log();
            assert!(Instant::now() < deadline, "{drift} {versions} {status}\n{log}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// A file or folder that it writes.
    pub fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join("out").join(name)
    }

    /// A request: status, headers and body.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let (head, body) = answer.split_once("\r\n\r\n").expect("headers");
        (status, head.to_string(), body.to_string())
    }

    /// The JSON at a path.
    pub fn get(&self, path: &str, headers: &str) -> Value {
        let (status, _, body) = self.send("GET", path, headers, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
    }
}

/// A number in [0, 1) of the n-th payment, for the purpose `of`.
fn dice(n: i64, of: i64) -> f64 {
    let mut x = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (of as u64) << 32;
    for _ in 0..3 {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

const COUNTRIES: [&str; 6] = ["DE", "FR", "NL", "PL", "ES", "US"];

/// The n-th payment. From the 4,000th on people pay more, and more of them from abroad.
fn payment(n: i64, at: i64) -> Value {
    let later = n > 4_000;
    let amount = 8.0 * (2.4 * dice(n, 1) + if later { 0.9 } else { 0.0 }).exp();
    let abroad = dice(n, 2) < if later { 0.5 } else { 0.12 };
    let country = COUNTRIES[if abroad { 5 } else { (dice(n, 3) * 5.0) as usize }];
    let wallet = (dice(n, 6) > 0.1).then(|| format!("{:.0}", 90.0 * dice(n, 7)));
    json!({
        "id": format!("p{n}"),
        "card": format!("card-{:03}", (dice(n, 4) * 400.0) as u32),
        "shop": format!("shop-{:02}", (dice(n, 5) * 30.0) as u32),
        "amount": (amount * 100.0).round() / 100.0,
        "country": country,
        "wallet_days": wallet.map(|days| days.parse::<f64>().expect("a number")),
        "at": to_rfc3339(at),
    })
}

/// Whether it turns out to be fraud.
fn is_fraud(n: i64) -> bool {
    let made = payment(n, 0);
    let amount = made["amount"].as_f64().expect("a number");
    let abroad = made["country"] == "US";
    let share = 0.02 + if amount > 60.0 { 0.22 } else { 0.0 } + if abroad { 0.18 } else { 0.0 };
    dice(n, 9) < share
}

fn feed(broker: &str, topics: &[String; 2], over: &AtomicBool) {
    let client = ClientConfig::new().set("bootstrap.servers", broker).create();
    let producer: BaseProducer = client.expect("a producer");
    let send = |topic: &str, text: &str| {
        let record = BaseRecord::<[u8], str>::to(topic).payload(text);
        while let Err((_, record)) = producer.send(BaseRecord::<[u8], str>::to(topic).payload(text))
        {
            drop(record);
            producer.poll(Duration::from_millis(20));
        }
        drop(record);
    };
    let begin = now() - PAST * 3 * SECOND;
    let at = |n: i64| begin + n * 3 * SECOND;
    let mut judged = 0;
    let mut judge = |until: i64| {
        while at(judged) + VERDICT <= until {
            let said = json!({"id": format!("p{judged}"), "fraud": is_fraud(judged), "at": to_rfc3339(at(judged) + VERDICT)});
            send(&topics[1], &said.to_string());
            judged += 1;
        }
    };
    let mut n = 0;
    let mut wrong = 0;
    while !over.load(Ordering::SeqCst) {
        // Ten minutes of the past at a time; then payments as they happen.
        let past = n < PAST;
        for _ in 0..if past { 200 } else { 4 } {
            let made = if past { at(n) } else { now() };
            send(&topics[0], &payment(n, made).to_string());
            n += 1;
            if n % 151 == 0 {
                let mut late = payment(1_000_000 + n, made - 90 * SECOND);
                late["shop"] = json!(MARKUP);
                if n % 302 == 0 {
                    late["id"] = json!(format!("{MARKUP}{n}"));
                }
                send(&topics[0], &late.to_string());
            }
            if n % 97 == 0 {
                wrong += 1;
                let mut bad = payment(2_000_000 + n, made);
                let text = match wrong % 4 {
                    0 => format!("{{\"id\": \"{n}\", \"shop\": \"{}", MARKUP.replace('"', "'")),
                    1 => {
                        bad["at"] = Value::Null;
                        bad.to_string()
                    }
                    2 => {
                        bad["amount"] = json!(MARKUP);
                        bad.to_string()
                    }
                    _ => {
                        bad["at"] = json!("2099-01-01T00:00:00Z");
                        bad.to_string()
                    }
                };
                send(&topics[0], &text);
            }
        }
        judge(if past { at(n) } else { now() });
        // Verdicts come without end, so that their topic does not hold the others.
        let beat = json!({"id": format!("beat{n}"), "fraud": false, "at": to_rfc3339(if past { at(n) } else { now() })});
        send(&topics[1], &beat.to_string());
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(if past { 250 } else { 100 }));
    }
    let _ = producer.flush(Duration::from_secs(1));
}
