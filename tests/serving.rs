//! Scores over HTTP while and after a run.

#[path = "support/flights.rs"]
mod flights;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use flights::Data;
use serde_json::{Value, json};

/// A request over a connection of its own: status and body.
fn ask(address: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let body = body.map(ToString::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string());
    (status, body.unwrap_or_default())
}

/// A program that is stopped with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the log up to the line that contains this, and gives that line.
fn wait_for(log: &mut impl BufRead, wanted: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(log.read_line(&mut line).expect("a log") > 0, "the log ended before `{wanted}`");
        if line.contains(wanted) {
            return line;
        }
    }
}

/// Starts a run that serves, and waits for its end; where it serves on.
fn served(mut command: Command) -> (Running, String) {
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut running = Running(command.spawn().expect("the program starts"));
    let mut log = BufReader::new(running.0.stderr.take().expect("a log"));
    let line = wait_for(&mut log, "HTTP is served");
    let address = line.split("address=").nth(1).expect("an address").trim().to_string();
    wait_for(&mut log, "HTTP is served on");
    (running, address)
}

/// Whoever tries what stands in the docs gets an answer.
#[test]
fn the_examples_of_the_docs_are_answered() {
    let docs = include_str!("../docs/serving.md");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .args(["run", "config/pipelines/fraud_scoring.toml"])
        .args(["--serve", "127.0.0.1:0", "--linger", "--folder"])
        .arg(folder.path())
        .args(["--set", "source.payments.times=3", "--set", "source.complaints.times=3"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let (_running, address) = served(command);
    let between = |text: &str, from: &str, to: &str| -> String {
        let rest = text.split_once(from).expect("a beginning").1;
        rest.split_once(to).expect("an end").0.to_string()
    };
    let mut asked: Vec<(String, String)> = docs
        .split("curl -d ")
        .skip(1)
        .map(|text| (between(text, "127.0.0.1:8080", "\n"), between(text, "'", "'")))
        .collect();
    let load = between(docs, "--path ", " ");
    asked.push((load, between(docs, "echo '", "'")));
    assert_eq!(asked.len(), 3, "{asked:?}");
    for (path, body) in asked {
        let body = serde_json::from_str(&body).expect("JSON");
        let (status, answer) = ask(&address, "POST", &path, Some(&body));
        assert_eq!(status, 200, "{path}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        if path == "/get-online-features" {
            let statuses = answer["results"].as_array().expect("results").iter();
            assert!(statuses.clone().all(|r| r["statuses"] == json!(["PRESENT"])), "{answer}");
        } else {
            assert!(answer["outputs"][0]["data"][0].is_number(), "{answer}");
            assert!(answer["parameters"]["features_at"].is_string(), "the card is known: {answer}");
        }
    }
}

#[test]
fn scores_are_served_with_the_model_of_the_hour() {
    let data = Data::of_days(20);
    let command = data.command("out", &["--serve", "127.0.0.1:0", "--linger"]);
    let (_running, address) = served(command);

    assert_eq!(ask(&address, "GET", "/healthz", None).0, 200);
    assert_eq!(ask(&address, "GET", "/readyz", None).0, 200);
    let (status, metrics) = ask(&address, "GET", "/metrics", None);
    assert_eq!(status, 200);
    let scored = "tidemill_scores_total{degraded=\"no\"";
    assert!(metrics.contains(scored), "no {scored} in\n{metrics}");

    // A flight that is still awaited, by its id; then with another departure hour.
    let text = std::fs::read_to_string(data.path("out/scores.jsonl")).expect("scores");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let id = json!({ "inputs": [
        { "name": "id", "shape": [1], "datatype": "BYTES", "data": [last["id"].to_string()] },
    ]});
    let path = "/v2/models/flight_delays/infer";
    let (status, body) = ask(&address, "POST", path, Some(&id));
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let score = answer["outputs"][0]["data"][0].as_f64().expect("a score");
    assert!((0.0..=1.0).contains(&score), "{body}");

    let features = json!({ "inputs": [
        { "name": "origin", "shape": [2], "datatype": "BYTES", "data": ["EWR", "JFK"] },
        { "name": "wait_3h", "shape": [2], "datatype": "FP64", "data": [90.0, -10.0] },
        { "name": "minute_of_day", "shape": [2], "datatype": "INT64", "data": [1100, 600] },
    ]});
    let (status, body) = ask(&address, "POST", path, Some(&features));
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let scores: Vec<f64> = answer["outputs"][0]["data"]
        .as_array()
        .expect("scores")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert!(scores.len() == 2 && scores[0] > scores[1], "a delayed evening is worse: {body}");

    let unknown = json!({ "inputs": [
        { "name": "id", "shape": [1], "datatype": "BYTES", "data": ["999999999"] },
    ]});
    assert_eq!(ask(&address, "POST", path, Some(&unknown)).0, 404);
    assert_eq!(ask(&address, "POST", "/v2/models/nobody/infer", Some(&id)).0, 404);
}
