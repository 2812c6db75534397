//! A shop in small: payments by card, verdicts that come later, features by card, and a model; served.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", card = "string", amount = "float64", at = "timestamp" }
event_time = "at"
id = "id"

[source.verdicts]
type = "file"
path = "verdicts.jsonl"
schema = { id = "int64", fraud = "bool", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
card_1h = { by = "card", last = "1h" }

[features]
amount_now = "amount"
large = "amount > 150"
sum_1h = "sum(amount) over card_1h"
ratio = "amount / nullif(avg(amount) over card_1h, 0)"
latest = "last_k(amount, 3) over card_1h"

[label.fraud]
over = "verdicts"
value = "fraud"
wait = "2h"

[model.online]
type = "logistic_regression"
label = "fraud"

[drift.loss]
of = "loss"
detect = "page_hinkley"

[score]
champion = "online"
fallback = [0.5]

[online]
entity = "card"
max_age = "100m"

[sink.scores]
type = "file"
path = "scores.jsonl"

[sink.features]
type = "file"
path = "features.jsonl"
"#;

/// Cards of the shop; card `c7` has paid for the last time long ago.
pub const CARDS: usize = 8;
/// Payments, one a minute.
pub const PAYMENTS: usize = 400;

/// The shop's folder.
pub struct Shop {
    folder: tempfile::TempDir,
}

/// The card of a payment.
pub fn card(id: usize) -> usize {
    if id < 200 { id % CARDS } else { id % (CARDS - 1) }
}

/// What a payment was about.
pub fn amount(id: usize) -> f64 {
    (id * 37 % 200) as f64 + 0.5
}

fn at(minute: usize) -> String {
    format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60)
}

impl Shop {
    /// Writes its files.
    pub fn new() -> Shop {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut payments, mut verdicts) = (String::new(), String::new());
        for id in 0..PAYMENTS {
            let (card, amount, time) = (card(id), amount(id), at(id));
            let payment =
                json!({"id": id, "card": format!("c{card}"), "amount": amount, "at": time});
            writeln!(payments, "{payment}").expect("a line");
            if id + 30 < PAYMENTS {
                let verdict = json!({"id": id, "fraud": amount > 120.0, "at": at(id + 30)});
                writeln!(verdicts, "{verdict}").expect("a line");
            }
        }
        for (name, text) in
            [("shop.toml", PIPELINE), ("payments.jsonl", &payments), ("verdicts.jsonl", &verdicts)]
        {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Shop { folder }
    }

    /// A file or folder of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that runs and serves it.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("run").arg(self.path("shop.toml")).arg("--folder").arg(self.path("out"));
        command.args(["--linger", "--serve", "127.0.0.1:0"]).args(more);
        command
    }

    /// Runs it to the end of its input and serves on.
    pub fn serve(&self, more: &[&str]) -> Server {
        Server::start(self.command(more))
    }
}

/// A program that serves, and is stopped with this value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it and waits until the input has ended.
    pub fn start(mut command: Command) -> Server {
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a log"));
        let log = Arc::new(Mutex::new(String::new()));
        let mut address = None;
        loop {
            let mut line = String::new();
            let more = lines.read_line(&mut line).expect("a log") > 0;
            log.lock().expect("the log").push_str(&line);
            assert!(more, "the program ended:\n{}", log.lock().expect("the log"));
            let found =
                line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            address = address.or(found.map(str::to_string));
            if line.contains("HTTP is served on") {
                break;
            }
        }
        // The pipe must not fill up.
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
                copy.lock().expect("the log").push_str(&line);
                line.clear();
            }
        });
        Server { child, address: address.expect("an address"), log }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// Its memory that is in use, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the status of the program");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("a size") * 1024
    }

    /// A request with these headers, each ended by CR LF: status and body.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\n{headers}\r\n{body}",
            body.len()
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_string()))
    }

    /// A POST of JSON: status and body.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send("POST", path, "", &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Stops it in order.
    pub fn stop(mut self) {
        let kill = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(kill.is_ok_and(|status| status.success()), "the program takes a signal");
        assert!(self.child.wait().is_ok_and(|status| status.success()), "{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An input tensor.
pub fn tensor(name: &str, datatype: &str, data: Value) -> Value {
    let n = data.as_array().map_or(0, Vec::len);
    json!({"name": name, "shape": [n], "datatype": datatype, "data": data})
}
