//! Real HTTP on loopback, with a scorer whose answers are known.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};
use tidemill_types::{DataType, Value};

use super::scorer::Asked;
use super::*;

/// Adds feature `x` to the number that an id ends in, or to 0.
struct Sums {
    ready: bool,
    delay: Duration,
    /// Set as soon as a request is being scored.
    entered: Arc<AtomicBool>,
}

impl Sums {
    fn answer(
        &self,
        asked: &Asked,
        base: Vec<f64>,
        features: &Features,
    ) -> Result<Answer, Refusal> {
        self.entered.store(true, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        let x = features.columns.iter().find(|(name, _)| name == "x").map(|(_, values)| values);
        let add = |(i, base): (usize, f64)| match x.map(|values| &values[i]) {
            None | Some(Value::Null) => Ok(base),
            Some(value) => {
                let x = value.as_f64().ok_or(Refusal::Invalid("feature `x` is a number".into()))?;
                Ok(base + x)
            }
        };
        Ok(Answer {
            scores: base.into_iter().enumerate().map(add).collect::<Result<_, _>>()?,
            version: asked.version.unwrap_or(2),
            epoch: 77,
            as_of: 1_357_034_400_000_000,
            degraded: None,
        })
    }
}

impl Scorer for Sums {
    fn metadata(&self) -> Vec<ModelInfo> {
        vec![ModelInfo {
            name: "online".into(),
            kind: "logistic_regression".into(),
            versions: vec![1, 2],
            current: self.ready.then_some(2),
            features: vec![("x".into(), DataType::Float64), ("carrier".into(), DataType::String)],
        }]
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn infer_by_id(
        &self,
        asked: &Asked,
        ids: &[String],
        overrides: &Features,
    ) -> Result<Answer, Refusal> {
        let number = |id: &String| {
            id.trim_start_matches("UA").parse().map_err(|_| Refusal::UnknownId(id.clone()))
        };
        self.answer(asked, ids.iter().map(number).collect::<Result<_, _>>()?, overrides)
    }

    fn infer_features(&self, asked: &Asked, rows: &Features) -> Result<Answer, Refusal> {
        if !self.ready {
            return Err(Refusal::Unavailable("there is no version yet".into()));
        }
        self.answer(asked, vec![0.0; rows.rows], rows)
    }
}

fn start(ready: bool, change: impl FnOnce(&mut Options, &mut Sums)) -> Server {
    let mut options =
        Options { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() };
    let mut sums = Sums { ready, delay: Duration::ZERO, entered: Arc::default() };
    change(&mut options, &mut sums);
    let metrics = Metrics::new("test").expect("metrics");
    Server::start(options, Arc::new(sums), Arc::new(metrics)).expect("starts")
}

fn exchange(server: &Server, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("UTF-8");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.unwrap_or(0), answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

fn send(server: &Server, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    exchange(server, &[head.as_bytes(), body].concat())
}

fn get(server: &Server, path: &str) -> (u16, String) {
    send(server, "GET", path, "", b"")
}

fn infer(server: &Server, path: &str, body: &Json) -> (u16, Json) {
    let (status, text) = send(server, "POST", path, "", body.to_string().as_bytes());
    (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
}

const INFER: &str = "/v2/models/online/infer";

fn tensor(name: &str, datatype: &str, data: Json) -> Json {
    let n = data.as_array().map_or(0, Vec::len);
    json!({"name": name, "shape": [n], "datatype": datatype, "data": data})
}

#[test]
fn health_and_metadata() {
    let server = start(true, |_, _| ());
    for path in ["/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(get(&server, path).0, 200, "{path}");
    }
    let (status, text) = get(&server, "/v2/models/online");
    let metadata: Json = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &metadata["versions"]), (200, &json!(["1", "2"])));
    assert_eq!(metadata["inputs"][1], json!({"name": "x", "datatype": "FP64", "shape": [-1]}));
    assert_eq!(get(&server, "/v2/models/online/versions/1/ready").0, 200);
    let (_, index) = send(&server, "POST", "/v2/repository/index", "", b"");
    assert_eq!(
        serde_json::from_str::<Json>(&index).expect("JSON").as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn what_is_not_ready_says_so() {
    let server = start(false, |_, _| ());
    assert_eq!(get(&server, "/healthz").0, 200);
    assert_eq!(get(&server, "/readyz").0, 503);
    assert_eq!(get(&server, "/v2/health/ready").0, 400);
    assert_eq!(get(&server, "/v2/models/online/ready").0, 400);
    let body = json!({"inputs": [tensor("x", "FP64", json!([1.0]))]});
    assert_eq!(infer(&server, INFER, &body), (503, json!({"error": "there is no version yet"})));
}

#[test]
fn scores_by_id_by_features_and_both() {
    let server = start(true, |_, _| ());
    let ids = tensor("id", "BYTES", json!(["UA1", "UA2"]));
    let x = tensor("x", "FP32", json!([0.5, null]));
    let (status, answer) = infer(&server, INFER, &json!({"id": "q", "inputs": [ids.clone()]}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer,
        json!({
            "model_name": "online", "model_version": "2", "id": "q",
            "parameters": {"epoch": 77, "version": 2, "degraded": null, "as_of": "2013-01-01T10:00:00Z"},
            "outputs": [{"name": "score", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}],
        })
    );
    let data = |inputs: Json| {
        infer(&server, INFER, &json!({"inputs": inputs})).1["outputs"][0]["data"].clone()
    };
    assert_eq!(data(json!([x])), json!([0.5, 0.0]));
    assert_eq!(data(json!([ids, x])), json!([1.5, 2.0]));
    assert_eq!(data(json!([tensor("id", "INT64", json!([5]))])), json!([5.0]));
    let versioned = "/v2/models/online/versions/1/infer";
    assert_eq!(infer(&server, versioned, &json!({"inputs": [x]})).1["model_version"], json!("1"));
}

#[test]
fn raw_tensors_after_the_json() {
    let server = start(true, |_, _| ());
    let json = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}]});
    let json = json.to_string();
    let body = [json.as_bytes(), &2.25f64.to_le_bytes()].concat();
    let length = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let (status, text) = send(&server, "POST", INFER, &length, &body);
    let answer: Json = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([2.25])));
    let (status, _) =
        send(&server, "POST", INFER, "Inference-Header-Content-Length: 9999\r\n", &body);
    assert_eq!(status, 400);
}

#[test]
fn every_error_has_its_code_and_says_why() {
    let server = start(true, |options, _| options.body_bytes = 10_000);
    let x = || tensor("x", "FP64", json!([1.0]));
    let cases = [
        (INFER, json!({"inputs": [tensor("id", "BYTES", json!(["nope"]))]}), 404, "`nope`"),
        ("/v2/models/other/infer", json!({"inputs": [x()]}), 404, "there are: online"),
        ("/v2/models/online/versions/9/infer", json!({"inputs": [x()]}), 404, "no version `9`"),
        (INFER, json!({"inputs": []}), 400, "no inputs"),
        (INFER, json!({}), 400, "not an inference request"),
        (INFER, json!({"inputs": [tensor("x", "BYTES", json!(["a"]))]}), 400, "`x` is a number"),
        (
            INFER,
            json!({"inputs": [x()], "outputs": [{"name": "margin"}]}),
            400,
            "no output `margin`",
        ),
        (INFER, json!({"inputs": [tensor("x", "FP64", json!(vec![0.5; 9_000]))]}), 413, "limit"),
        ("/v3", json!({}), 404, "no `/v3`"),
        ("/v2", json!({}), 405, "does not take POST"),
    ];
    for (path, body, code, why) in cases {
        let (status, answer) = infer(&server, path, &body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, code, "{path} {answer}");
        assert!(error.contains(why), "{path}: {answer}");
    }
}

#[test]
fn a_compressed_body_is_refused_by_name() {
    let server = start(true, |_, _| ());
    let (status, text) = send(&server, "POST", INFER, "content-encoding: gzip\r\n", b"\x1f\x8b");
    assert_eq!(status, 415);
    assert!(text.contains("gzip"), "{text}");
}

#[test]
fn requests_are_counted_by_route() {
    let server = start(true, |_, _| ());
    get(&server, "/v2/models/a");
    get(&server, "/v2/models/b");
    let (status, text) = get(&server, "/metrics");
    assert_eq!(status, 200);
    let line = "tidemill_http_requests_total{code=\"404\",route=\"/v2/models/{model}\"} 2";
    assert!(text.lines().any(|l| l == line), "{text}");
}

#[test]
fn slow_scorers_and_idle_clients_are_cut_off() {
    let server = start(true, |options, sums| {
        options.timeout = Duration::from_millis(100);
        options.idle_timeout = Duration::from_millis(300);
        options.grace = Duration::from_millis(100);
        sums.delay = Duration::from_millis(1_500);
    });
    let (status, answer) =
        infer(&server, INFER, &json!({"inputs": [tensor("x", "FP64", json!([1.0]))]}));
    assert_eq!(status, 504, "{answer}");
    let (status, _) = exchange(&server, b"GET /healthz HTTP/1.1\r\nhost: te");
    assert_eq!(status, 0, "the connection is closed without an answer");
}

#[test]
fn running_requests_end_before_the_server_does() {
    let entered = Arc::new(AtomicBool::new(false));
    let server = start(true, |_, sums| {
        sums.delay = Duration::from_millis(400);
        sums.entered = entered.clone();
    });
    let address = server.address();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            infer(&server, INFER, &json!({"inputs": [tensor("x", "FP64", json!([1.0]))]})).0
        });
        while !entered.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.stop.send_replace(true);
        assert_eq!(running.join().expect("ends"), 200);
    });
    server.stop();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let server = start(true, |_, _| ());
    let options = Options { address: server.address(), ..Options::default() };
    let scorer = Arc::new(Sums { ready: true, delay: Duration::ZERO, entered: Arc::default() });
    let metrics = Arc::new(Metrics::new("test").expect("metrics"));
    let error = Server::start(options, scorer, metrics).expect_err("taken").to_string();
    assert!(error.contains("cannot listen on") && error.contains("--serve"), "{error}");
}
