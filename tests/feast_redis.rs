//! Features into Redis: Feast's SDK reads them, and neither a killed run nor a killed Redis shows in them.

#[path = "support/python.rs"]
mod python;
#[path = "support/redis.rs"]
mod redis;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Authority, Cluster, Redis};
use serde_json::{Value as Json, json};
use tidemill_connectors::client::redis::Value;

const PIPELINE: &str = r#"
[pipeline]
name = "payments"
spine = "payments"
bundle = 60

[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", card = "string", shop = "int64", whole = "int64", number = "float64", word = "string", ok = "bool", seen = "timestamp", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
recent = { by = "card", last = "1h" }

[features]
card = "card"
shop = "shop"
whole = "whole"
number = "number"
word = "word"
ok = "ok"
seen = "seen"
total = "sum(number) over recent"
latest = "last_k(number, 3) over recent"
wholes = "array_agg(whole, 3) over recent"
words = "last_k(word, 3) over recent"
oks = "array_agg(ok, 3) over recent"
times = "array_agg(seen, 3) over recent"
counts = "histogram(word) over recent"

[sink.features]
type = "file"
path = "features.jsonl"

[sink.online]
of = "features"
type = "redis"
url = "URL"
feature_view = "cards"
key = ["card", "shop"]
"#;

/// Payments of so many cards, with NULLs and awkward values.
fn payments(count: usize, cards: usize) -> String {
    let mut text = String::new();
    let words = ["plain", "", "\u{fc}ml\u{e4}ut \u{1f4b6}", "with \"quotes\"\nand lines"];
    let numbers = [-0.0, 5e-324, 1.7e300, -123.456, 0.1];
    for id in 0..count {
        let at = 1_700_000_000_000 + id as i64 * 250;
        let some = |n: usize, value: Json| if id % n == 0 { Json::Null } else { value };
        let time = |ms: i64| {
            let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
            tidemill_types::time::to_rfc3339((days * 86_400_000 + of_day) * 1_000)
        };
        let row = json!({
            "id": id,
            "card": some(97, json!(format!("c{}", id * 7 % cards))),
            "shop": id as i64 * 7 % cards as i64 % 3 - 1,
            "whole": some(5, json!(if id % 2 == 0 { i64::MIN + id as i64 } else { id as i64 })),
            "number": some(4, json!(numbers.get(id % 23).copied().unwrap_or(id as f64 / 7.0))),
            "word": some(3, json!(words[id % 4])),
            "ok": some(6, json!(id % 2 == 1)),
            "seen": some(7, json!(time(at - (id as i64 % 11) * 1_000_000_000_007 / 3))),
            "at": time(at),
        });
        writeln!(text, "{row}").expect("a line");
    }
    text
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(redis: &Redis, count: usize, cards: usize) -> Folder {
        Folder::with(&format!("{:?}", redis.url()), count, cards)
    }

    /// Into Redis at such a `url`, with the keys that follow it.
    fn with(url: &str, count: usize, cards: usize) -> Folder {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("payments.jsonl"), payments(count, cards)).expect("payments");
        let pipeline = PIPELINE.replace("\"URL\"", url);
        fs::write(folder.path().join("payments.toml"), pipeline).expect("a pipeline");
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn start(&self, folder: &str, more: &[&str]) -> (Child, PathBuf) {
        let log = self.path().join(format!("{folder}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .arg("run")
            .arg(self.path().join("payments.toml"))
            .args(["--output", "json", "--folder", folder])
            .args(more)
            .current_dir(self.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("it starts");
        (child, log)
    }

    fn run(&self, folder: &str, more: &[&str]) {
        let (mut child, log) = self.start(folder, more);
        let status = child.wait().expect("it ends");
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "{status}: {said}");
    }
}

/// Feast's SDK beside a run in `once`; the store is what Feast calls an online store's configuration.
fn feast(folder: &Folder, store: &Json, mode: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols/feast_redis.py");
    let mut python = python::command("feast", include_str!("protocols/feast.txt"));
    python.arg(script).arg(store.to_string()).arg(folder.path().join("once/features.jsonl"));
    let done = python.arg(mode).output().expect("Python starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.ends_with("all is well\n"), "{said}{errors}");
}

#[test]
fn feast_reads_every_type_and_writes_beside_the_sink() {
    let redis = Redis::start(&[]);
    let folder = Folder::new(&redis, 3_000, 40);
    let store = json!({ "type": "redis", "connection_string": redis.address() });
    folder.run("once", &[]);
    feast(&folder, &store, "read");
    feast(&folder, &store, "write");
    // All rows again: what Feast wrote is newer, and stays.
    folder.run("again", &[]);
    feast(&folder, &store, "after");
}

/// The same in a cluster that speaks TLS, and only with those who have a certificate.
#[test]
fn feast_reads_from_a_cluster_over_tls() {
    let authority = Authority::new();
    let cluster = Cluster::start(0, Some(&authority));
    let url = format!("{}\ncluster = true\n{}", cluster.url(), authority.keys());
    let folder = Folder::with(&url, 3_000, 40);
    folder.run("once", &[]);
    let mut connection: Vec<String> = cluster.nodes.iter().map(Redis::address).collect();
    connection.push("ssl=true".to_string());
    for (key, name) in
        [("ca_certs", "ca.pem"), ("certfile", "client.pem"), ("keyfile", "client-key.pem")]
    {
        connection.push(format!("ssl_{key}={}", authority.file(name)));
    }
    let store = json!({
        "type": "redis",
        "redis_type": "redis_cluster",
        "connection_string": connection.join(","),
    });
    feast(&folder, &store, "read");
    feast(&folder, &store, "write");
    folder.run("again", &[]);
    feast(&folder, &store, "after");
    // The crash kit reads all masters, and clears them.
    let before = cluster.contents("payments");
    crash_test(&folder, 5);
    assert!(cluster.contents("payments") == before, "a life has touched another's rows");
    for node in &cluster.nodes {
        let keys = node.contents("").len();
        assert_eq!(keys, node.contents("payments").len(), "lives clear away what they wrote");
    }
}

/// The crash kit kills the run at any moment and where Redis has answered, and compares every field.
fn crash_test(folder: &Folder, kills: u64) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("crash-test")
        .arg(folder.path().join("payments.toml"))
        .args(["--output", "json", "--kills", &kills.to_string(), "--seed", "5", "--folder"])
        .arg(folder.path().join("runs"))
        .output()
        .expect("it starts");
    let (said, told) =
        (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}{told}");
    let told: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(told["kills"].as_u64() >= Some(kills), "{told}");
    assert_eq!(told["not_compared"], json!([]), "{told}");
    if kills >= 20 {
        assert!(told["went_on"].as_u64() > Some(0), "{told}");
        assert!(told["by_point"]["redis.answered"].as_u64() > Some(0), "{told}");
    }
}

#[test]
fn killed_runs_leave_the_same_in_redis() {
    let redis = Redis::start(&[]);
    let folder = Folder::new(&redis, 20_000, 5_000);
    crash_test(&folder, 20);
    assert_eq!(redis.ask(&["DBSIZE"]), Value::Int(0), "lives clear away what they wrote");
}

#[test]
fn a_redis_that_is_killed_and_comes_back_has_every_row() {
    let mut redis = Redis::start(&["--appendonly", "yes"]);
    let folder = Folder::new(&redis, 40_000, 20_000);
    folder.run("whole", &["--set", "sink.online.project=whole"]);
    let wanted = redis.contents("whole");
    assert!(wanted.len() > 19_000, "{}", wanted.len());
    let Value::Int(before) = redis.ask(&["DBSIZE"]) else { panic!("no number") };
    let (mut child, log) = folder.start("interrupted", &["--set", "sink.online.project=cut"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while redis.ask(&["DBSIZE"]) == Value::Int(before) {
        assert!(Instant::now() < deadline, "nothing was written");
    }
    redis.kill();
    thread::sleep(Duration::from_millis(300));
    let said = || fs::read_to_string(&log).unwrap_or_default();
    assert!(child.try_wait().expect("a child").is_none(), "it did not wait: {}", said());
    redis.start_again();
    assert!(child.wait().expect("it ends").success(), "{}", said());
    assert!(said().contains("Redis does not take rows: they wait"), "{}", said());
    assert!(redis.contents("cut") == wanted, "other contents: {}", said());
}
