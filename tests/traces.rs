//! Traces go through: from the header of a record to that of its score, and into requests. A collector in this file takes
//! OTLP with JSON, one in OpenTelemetry's own classes the other protocols; Kafka is real.

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/python.rs"]
mod python;
#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value as Json, json};
use shop::{Shop, tensor};
use tidemill_connectors::client::kafka::{Cluster, Topic};

/// The protocol of the collector in this file.
const JSON: &str = "traces.protocol=http/json";

/// What a collector was sent.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Json>>>);

struct Collector {
    address: String,
    spans: Spans,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let spans = Spans::default();
        let to = spans.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = to.clone();
                thread::spawn(move || serve(client, &to));
            }
        });
        Collector { address, spans }
    }

    fn endpoint(&self) -> String {
        format!("traces.endpoint=http://{}", self.address)
    }

    fn spans(&self) -> Vec<Json> {
        self.spans.0.lock().expect("nobody panicked").clone()
    }

    /// Waits until so many came.
    fn wait(&self, count: usize) -> Vec<Json> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.spans().len() < count {
            assert!(Instant::now() < deadline, "{} spans of {count}", self.spans().len());
            thread::sleep(Duration::from_millis(10));
        }
        self.spans()
    }
}

/// Answers on one connection, as the OpenTelemetry Collector does.
fn serve(client: TcpStream, to: &Spans) {
    let mut answers = client.try_clone().expect("the same connection");
    let mut lines = BufReader::new(client);
    loop {
        let (mut length, mut head) = (0, String::new());
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            let lower = line.to_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
            head += &lower;
        }
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let mut body = vec![0; length];
        lines.read_exact(&mut body).expect("a body");
        let body: Json = serde_json::from_slice(&body).expect("JSON");
        for resource in body["resourceSpans"].as_array().expect("resources") {
            let of = attributes(&resource["resource"]);
            assert_eq!(of["service.name"], json!("tidemill"));
            for scope in resource["scopeSpans"].as_array().expect("scopes") {
                let spans = scope["spans"].as_array().expect("spans").clone();
                to.0.lock().expect("nobody panicked").extend(spans);
            }
        }
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        answers.write_all(answer.as_bytes()).expect("answered");
    }
}

fn attributes(of: &Json) -> BTreeMap<String, Json> {
    let pairs = of["attributes"].as_array().expect("attributes").iter();
    let value = |value: &Json| match value.as_object().and_then(|o| o.iter().next()) {
        Some((kind, text)) if kind == "intValue" => {
            json!(text.as_str().expect("64 bits are a text").parse::<i64>().expect("a number"))
        }
        Some((_, value)) => value.clone(),
        None => Json::Null,
    };
    pairs.map(|p| (p["key"].as_str().expect("a key").to_string(), value(&p["value"]))).collect()
}

fn text<'a>(span: &'a Json, key: &str) -> &'a str {
    span[key].as_str().unwrap_or_else(|| panic!("{key} of {span}"))
}

fn nanos(span: &Json, key: &str) -> u128 {
    text(span, key).parse().expect("nanoseconds")
}

const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"

[source.payments]
type = "kafka"
topic = "TOPIC"
brokers = "BROKER"
until = "end"
schema = { id = "int64", ts = "int64", card = "int64", amount = "float64" }
columns = { at = "to_timestamp_millis(ts)" }
event_time = "at"
id = "id"

[source.verdicts]
type = "file"
path = "verdicts.jsonl"
schema = { id = "int64", fraud = "bool", at = "timestamp" }
event_time = "at"
id = "id"

[windows]
last_10m = { by = "card", last = "10m" }

[features]
amount = "amount"
mean = "avg(amount) over last_10m"

[label.fraud]
over = "verdicts"
value = "fraud"
wait = "1h"

[model.online]
type = "logistic_regression"
label = "fraud"

[score]
champion = "online"
fallback = [0.5]

[sink.scores]
type = "kafka"
topic = "TOPIC-scores"
brokers = "BROKER"
create = true

[sink.features]
type = "kafka"
topic = "TOPIC-features"
brokers = "BROKER"
create = true
DELIVERY

[sink.file]
of = "scores"
type = "file"
path = "scores.jsonl"
"#;

const PAYMENTS: u64 = 300;

/// The header of a payment: of each ten, one has a sampled trace, one a trace that nobody samples, one a broken header.
fn header(id: u64) -> Option<String> {
    let flags = match id % 10 {
        3 => "01",
        5 => "00",
        7 => return Some("no context".to_string()),
        _ => return None,
    };
    Some(format!("00-{:032x}-{:016x}-{flags}", id + 1_000_000, id + 1))
}

/// A topic of payments with headers, and a pipeline over it.
fn payments(broker: &kafka::Broker, folder: &std::path::Path, delivery: &str) -> String {
    let topic = kafka::unique("payments");
    assert!(Cluster::new(broker.address()).create_topic(&Topic::new(&topic, 1)).expect("a topic"));
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .create()
        .expect("a producer");
    for id in 0..PAYMENTS {
        let ts = 1_600_000_000_000 + id * 1_000;
        let event = format!(r#"{{"id":{id},"ts":{ts},"card":{},"amount":{}.5}}"#, id % 7, id % 90);
        let mut record = BaseRecord::<[u8], str>::to(&topic).payload(&event);
        let value = header(id);
        if let Some(value) = &value {
            let value = Some(value.as_str());
            record =
                record.headers(OwnedHeaders::new().insert(Header { key: "traceparent", value }));
        }
        producer.send(record).map_err(|(error, _)| error).expect("it is queued");
    }
    producer.flush(Duration::from_secs(30)).expect("sent");
    fs::write(folder.join("verdicts.jsonl"), "").expect("verdicts");
    let pipeline = PIPELINE.replace("TOPIC", &topic).replace("BROKER", &broker.address());
    fs::write(folder.join("shop.toml"), pipeline.replace("DELIVERY", delivery))
        .expect("a pipeline");
    topic
}

fn run(folder: &std::path::Path, more: &[&str]) -> (Json, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("run")
        .arg(folder.join("shop.toml"))
        .args(["--output", "json"])
        .args(more)
        .current_dir(folder)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).expect("JSON"), said)
}

/// The `traceparent` of each row of a topic, by id.
fn headers(broker: &kafka::Broker, topic: &str) -> BTreeMap<u64, Option<String>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", kafka::unique("reader"))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while (found.len() as u64) < PAYMENTS {
        assert!(Instant::now() < deadline, "{} rows of {topic}", found.len());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
        let row: Json = serde_json::from_slice(message.payload().expect("a row")).expect("JSON");
        let value = message.headers().map(|headers| {
            assert_eq!(headers.count(), 1);
            let header = headers.get(0);
            assert_eq!(header.key, "traceparent");
            String::from_utf8(header.value.expect("a value").to_vec()).expect("text")
        });
        found.insert(row["id"].as_u64().expect("an id"), value);
    }
    found
}

#[test]
fn a_trace_goes_from_the_header_of_a_record_to_that_of_its_score() {
    let broker = kafka::shared();
    for delivery in ["", "delivery = \"exactly_once\""] {
        let collector = Collector::start();
        let folder = tempfile::tempdir().expect("a folder");
        let topic = payments(&broker, folder.path(), delivery);
        let (told, said) = run(folder.path(), &["--set", &collector.endpoint(), "--set", JSON]);
        assert_eq!(told["scores"], PAYMENTS, "{told}{said}");
        let spans = collector.spans();
        let scores = headers(&broker, &format!("{topic}-scores"));
        let features = headers(&broker, &format!("{topic}-features"));
        // receive, features, score, and three sinks.
        assert_eq!(spans.len() as u64, PAYMENTS / 10 * 6);
        for id in 0..PAYMENTS {
            if id % 10 != 3 {
                assert_eq!((&scores[&id], &features[&id]), (&None, &None), "{id}");
                continue;
            }
            let trace = format!("{:032x}", id + 1_000_000);
            let of: Vec<&Json> = spans.iter().filter(|s| text(s, "traceId") == trace).collect();
            let named = |name: &str| {
                let found: Vec<_> = of.iter().filter(|span| text(span, "name") == name).collect();
                assert_eq!(found.len(), 1, "{name} of {of:?}");
                *found[0]
            };
            let mut parent = format!("{:016x}", id + 1);
            let mut before = 0;
            for (name, kind) in [
                ("receive payments", 5),
                ("features", 1),
                ("score constant", 1),
                ("send scores", 4),
            ] {
                let span = named(name);
                assert_eq!(
                    (text(span, "parentSpanId"), &span["kind"]),
                    (&*parent, &json!(kind)),
                    "{span}"
                );
                let (began, ended) =
                    (nanos(span, "startTimeUnixNano"), nanos(span, "endTimeUnixNano"));
                assert!(before <= began && began <= ended, "{span}");
                before = began;
                parent = text(span, "spanId").to_string();
            }
            let receive = attributes(named("receive payments"));
            assert_eq!(receive["messaging.kafka.offset"], json!(id));
            assert_eq!(receive["messaging.system"], json!("kafka"));
            assert_eq!(attributes(named("send features"))["tidemill.stream"], json!("features"));
            // Who reads on goes on below the span that sent the row.
            assert_eq!(scores[&id], Some(format!("00-{trace}-{parent}-01")));
            let sent = text(named("send features"), "spanId");
            assert_eq!(features[&id], Some(format!("00-{trace}-{sent}-01")));
        }
    }
}

/// A collector that is away, or takes everything and answers nothing, loses spans and nothing else.
#[test]
fn a_collector_that_is_away_changes_nothing() {
    let broker = kafka::shared();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = nobody.local_addr().expect("an address");
    let away = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    payments(&broker, folder.path(), "");
    let mut wanted = None;
    for (name, endpoint) in [("none", None), ("away", Some(away)), ("silent", Some(silent))] {
        let endpoint = endpoint.map(|at| format!("traces.endpoint=http://{at}"));
        let mut more = vec!["--folder", name];
        more.extend(endpoint.iter().flat_map(|endpoint| ["--set", endpoint.as_str()]));
        let (told, said) = run(folder.path(), &more);
        assert_eq!(told["scores"], PAYMENTS, "{told}");
        let warned = said.contains("takes no spans: they are dropped");
        assert_eq!(warned, name != "none", "{said}");
        let scores = fs::read(folder.path().join(name).join("scores.jsonl")).expect("scores");
        assert!(*wanted.get_or_insert(scores.clone()) == scores, "{name}: other scores");
    }
}

#[test]
fn requests_are_spans_below_who_asks() {
    let collector = Collector::start();
    let shop = Shop::new();
    let server = shop.serve(&["--set", &collector.endpoint(), "--set", JSON]);
    let parent = |flags: &str| {
        format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n")
    };
    let body = json!({"inputs": [tensor("card", "BYTES", json!(["c2"]))]}).to_string();
    let path = "/v2/models/shop/infer";
    for header in [String::new(), parent("00"), parent("01")] {
        assert_eq!(server.send("POST", path, &header, &body).0, 200);
    }
    assert_eq!(server.send("POST", "/v2/models/other/infer", &parent("01"), &body).0, 404);
    // Over gRPC, by NVIDIA's client.
    let script = "import sys\nimport numpy as np\nimport tritonclient.grpc as grpc\n\
        client = grpc.InferenceServerClient(sys.argv[1])\n\
        card = grpc.InferInput('card', [1], 'BYTES')\n\
        card.set_data_from_numpy(np.array(['c2'], dtype=np.object_))\n\
        client.infer('shop', [card], headers={'traceparent': sys.argv[2]})\n";
    let clients = include_str!("protocols/requirements.txt");
    let mut python = python::command("clients", clients);
    let header = parent("01");
    let value = header.trim_end().trim_start_matches("traceparent: ");
    let done = python.args(["-c", script, &server.address, value]).output().expect("Python starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let spans = collector.wait(3);
    server.stop();
    assert_eq!(collector.spans().len(), 3, "only what is sampled: {spans:?}");
    let mut names = Vec::new();
    for span in &spans {
        assert_eq!(text(span, "traceId"), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((text(span, "parentSpanId"), &span["kind"]), ("b7ad6b7169203331", &json!(2)));
        names.push((
            text(span, "name").to_string(),
            attributes(span)["http.response.status_code"].clone(),
        ));
    }
    let rest = "POST /v2/models/{model}/infer".to_string();
    let grpc = "inference.GRPCInferenceService/ModelInfer".to_string();
    assert_eq!(names, [(rest.clone(), json!(200)), (rest, json!(404)), (grpc, json!(200))]);
}

/// `tests/protocols/otlp.py`; it ends with this value.
struct Official {
    child: Child,
    ports: Json,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Official {
    /// With a certificate and those who signed it in `ca.pem` of the folder.
    fn start(folder: &std::path::Path) -> Official {
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.distinguished_name.push(DnType::CommonName, "authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        fs::write(folder.join("ca.pem"), ca.self_signed(&key).expect("a certificate").pem())
            .expect("a file");
        let issuer = Issuer::new(ca, key);
        let server = CertificateParams::new(vec!["127.0.0.1".to_string()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let signed = server.signed_by(&key, &issuer).expect("a certificate");
        fs::write(folder.join("server.pem"), signed.pem()).expect("a file");
        fs::write(folder.join("key.pem"), key.serialize_pem()).expect("a file");
        let script =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols/otlp.py");
        let mut python = python::command("otlp", include_str!("protocols/otlp.txt"));
        python.arg(script).arg(folder.join("server.pem")).arg(folder.join("key.pem"));
        let mut child =
            python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("a text");
        Official { child, ports: serde_json::from_str(&first).expect("ports"), lines }
    }

    /// The next request that it was sent.
    fn next(&mut self) -> Json {
        let line = self.lines.next().expect("a line").expect("a text");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Official {
    fn drop(&mut self) {
        // It reads to the end of this.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// OTLP over HTTP and gRPC, with and without TLS, as OpenTelemetry's own classes read it; what those refuse counts as dropped.
#[test]
fn every_protocol_brings_the_same_spans() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut collector = Official::start(folder.path());
    let ca = format!("traces.ca={}", folder.path().join("ca.pem").display());
    let body = json!({"inputs": [tensor("card", "BYTES", json!(["c2"]))]}).to_string();
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let mut first = None;
    for (way, protocol) in
        [("http", None), ("https", None), ("grpc", Some("grpc")), ("grpcs", Some("grpc"))]
    {
        let shop = Shop::new();
        let mut pipeline = fs::read_to_string(shop.path("shop.toml")).expect("a pipeline");
        pipeline += "[traces]\nheaders = { Authorization = \"Bearer ${COLLECTOR_TOKEN}\" }\n";
        let secure = way.ends_with('s');
        let scheme = if secure { "https" } else { "http" };
        pipeline += &format!("endpoint = \"{scheme}://127.0.0.1:{}\"\n", collector.ports[way]);
        if let Some(protocol) = protocol {
            pipeline += &format!("protocol = \"{protocol}\"\n");
        }
        fs::write(shop.path("shop.toml"), pipeline).expect("a pipeline");
        let trusted = ["--set", ca.as_str()];
        let mut command = shop.command(if secure { &trusted } else { &[] });
        command.env("COLLECTOR_TOKEN", "token-of-4711");
        let server = shop::Server::start(command);
        assert_eq!(server.send("POST", "/v2/models/shop/infer", parent, &body).0, 200);
        assert_eq!(server.send("POST", "/v2/models/other/infer", parent, &body).0, 404);
        let mut found = Vec::new();
        while found.len() < 2 {
            let request = collector.next();
            assert_eq!(request["protocol"], json!(way));
            assert_eq!(request["authorization"], json!("Bearer token-of-4711"));
            let resource = &request["spans"]["resourceSpans"][0];
            assert_eq!(attributes(&resource["resource"])["service.name"], json!("tidemill"));
            let spans = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
            for span in spans {
                assert!(nanos(span, "startTimeUnixNano") <= nanos(span, "endTimeUnixNano"));
                assert_eq!(text(span, "traceId"), "0af7651916cd43dd8448eb211c80319c");
                assert_eq!(text(span, "parentSpanId"), "b7ad6b7169203331");
                assert_eq!(text(span, "spanId").len(), 16);
                found.push((
                    text(span, "name").to_string(),
                    span["kind"].clone(),
                    attributes(span),
                ));
            }
        }
        let statuses: Vec<_> =
            found.iter().map(|(_, _, of)| &of["http.response.status_code"]).collect();
        assert_eq!(statuses, [&json!(200), &json!(404)], "{way}");
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{way}");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (_, metrics) = server.send("GET", "/metrics", "", "");
            let is = |outcome: &str| {
                metrics
                    .contains(&format!("tidemill_trace_spans_total{{outcome=\"{outcome}\"}} 1\n"))
            };
            if is("sent") && is("dropped") {
                break;
            }
            assert!(Instant::now() < deadline, "{way}: {metrics}");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!server.log().contains("token-of-4711"), "{way}: {}", server.log());
        server.stop();
    }
}

#[test]
fn certificates_that_cannot_be_read_are_found_before_the_run_begins() {
    let shop = Shop::new();
    let more = ["--set", "traces.endpoint=https://127.0.0.1:1", "--set", "traces.ca=nowhere.pem"];
    let output = shop.command(&more).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("nowhere.pem") && said.contains("let `ca` name a file of PEM"), "{said}");
}
