//! Real HTTP on loopback, with a scorer whose answers are known.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value as Json, json};
use tidemill_types::{DataType, Value};

mod orders;

use super::scorer::{Asked, FeatureRows, ModelState, StoreInfo};
use super::*;

/// Adds feature `x` to the number that an id ends in, or to 0.
struct Sums {
    ready: bool,
    delay: Duration,
    /// Set as soon as a request is being scored.
    entered: Arc<AtomicBool>,
    /// Says that it scores, and waits until whoever hears that lets go.
    hold: Option<Mutex<(Sender<()>, Receiver<()>)>>,
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
        if let Some(hold) = &self.hold {
            let (scores, ends) = &*hold.lock().expect("nobody panicked");
            let _ = scores.send(());
            let _ = ends.recv();
        }
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
            versions: Vec::new(),
            epoch: 77,
            as_of: 1_357_034_400_000_000,
            features_at: None,
            windows_at: None,
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

    fn state(&self, model: &str) -> Option<ModelState> {
        (model == "online").then(|| ModelState {
            versions: vec![1, 2],
            current: self.ready.then_some(2),
            scores: self.ready,
        })
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn infer(&self, asked: &Asked, question: &Question) -> Result<Answer, Refusal> {
        let number = |id: &String| {
            id.trim_start_matches("UA").parse().map_err(|_| Refusal::UnknownId(id.clone()))
        };
        match &question.ids {
            Some(ids) => {
                let base = ids.iter().map(number).collect::<Result<_, _>>()?;
                self.answer(asked, base, &question.given)
            }
            None if self.ready => {
                self.answer(asked, vec![0.0; question.given.rows], &question.given)
            }
            None => Err(Refusal::Unavailable("there is no version yet".into())),
        }
    }

    fn features(&self, question: &Question, wanted: &[String]) -> Result<FeatureRows, Refusal> {
        let rows = question.given.rows;
        let column = |name: &String| match name.as_str() {
            "x" => Ok(vec![Value::Float(0.5); rows]),
            _ => Err(Refusal::Invalid(format!("there is no feature `{name}`"))),
        };
        Ok(FeatureRows {
            fields: wanted.iter().map(|name| (name.clone(), DataType::Float64)).collect(),
            columns: wanted.iter().map(column).collect::<Result<_, _>>()?,
            times: vec![Some(1_357_034_400_000_000); rows],
            stale: vec![false; rows],
            windows_at: question.as_of,
            as_of: Some(1_357_034_400_000_000),
        })
    }

    fn explain(&self, id: &str) -> Result<Json, Refusal> {
        Err(Refusal::UnknownId(id.to_string()))
    }

    fn drift(&self, feature: Option<&str>) -> Json {
        json!({"readings": [{"of": feature}]})
    }

    fn history(&self, model: &str) -> Result<Json, Error> {
        Err(Error::user(format!("there is no model `{model}`")))
    }

    fn store(&self) -> StoreInfo {
        StoreInfo {
            pipeline: "test".into(),
            entity: [("carrier".into(), DataType::String)].into(),
            // A scorer that is slow says that its rows are wide, so that it is given a thread.
            features: vec![
                ("x".into(), DataType::Float64);
                if self.delay.is_zero() && self.hold.is_none() { 1 } else { 100_000 }
            ]
            .into(),
            ..StoreInfo::default()
        }
    }
}

/// Answers every view with its name.
struct Views;

impl Watched for Views {
    fn read(&self, view: &dashboard::View) -> Result<Json, Error> {
        Ok(json!({"view": format!("{view:?}")}))
    }

    fn order(&self, wish: &super::orders::Wish) -> Result<Json, Error> {
        match wish.model.as_str() {
            "online" => Ok(json!({
                "who": wish.who,
                "what": format!("{:?}", wish.what),
                "why": wish.why,
                "proof": wish.token.is_some(),
            })),
            other => Err(Error::user(format!("there is no model `{other}`"))),
        }
    }
}

fn start(ready: bool, change: impl FnOnce(&mut Options, &mut Sums)) -> Server {
    let mut options =
        Options { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() };
    let mut sums = Sums { ready, delay: Duration::ZERO, entered: Arc::default(), hold: None };
    change(&mut options, &mut sums);
    let metrics = Metrics::new("test").expect("metrics");
    Server::start(options, Arc::new(sums), Arc::new(Views), Arc::new(metrics)).expect("starts")
}

/// Status, headers and body.
fn whole(server: &Server, request: &[u8]) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (status.unwrap_or(0), head.to_owned(), body.to_owned())
}

fn exchange(server: &Server, request: &[u8]) -> (u16, String) {
    let (status, _, body) = whole(server, request);
    (status, body)
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
    let (status, text) = send(server, "POST", path, JSON, body.to_string().as_bytes());
    (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
}

const INFER: &str = "/v2/models/online/infer";
const JSON: &str = "content-type: application/json\r\n";
const PROMOTE: &str = "/api/v1/models/online/promote";

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
    assert_eq!(metadata["inputs"][2], json!({"name": "x", "datatype": "FP64", "shape": [-1]}));
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
            "parameters": {"epoch": 77, "version": 2, "versions": null, "degraded": null, "as_of": "2013-01-01T10:00:00Z",
                "features_at": null, "windows_at": null, "feature_age_seconds": null},
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
        (INFER, json!({}), 400, "not an inference request: missing field `inputs`"),
        (INFER, json!([]), 400, "it is no JSON object; for example {\"inputs\": [{\"name\""),
        (INFER, json!(7), 400, "expected an object with `inputs`"),
        (INFER, json!({"inputs": [7]}), 400, "expected an object with `name`, `shape`"),
        (INFER, json!({"inputs": [x()], "outputs": [7]}), 400, "with `name` in `outputs`"),
        (
            INFER,
            json!({"inputs": [x()], "parameters": {"as_of": i64::MAX}}),
            400,
            "the years 0 to 9999",
        ),
        (PROMOTE, json!([]), 400, "it is no JSON object; for example {\"version\": 3"),
        (PROMOTE, json!("now"), 400, "expected an object with `why`"),
        (PROMOTE, json!({"version": 3}), 400, "missing field `why`"),
        ("/mcp", json!([]), 400, "send one object"),
        ("/mcp", json!(7), 400, "expected an object with `jsonrpc`"),
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
        let error = &answer["error"];
        let error = error.as_str().or(error["message"].as_str()).unwrap_or_default();
        assert_eq!(status, code, "{path} {answer}");
        assert!(error.contains(why), "{path}: {answer}");
        assert!(!error.contains("struct"), "{path} tells names of the program: {answer}");
    }
    for (body, why) in [(json!([]), "no JSON object; for example"), (json!(7), "`entities`")] {
        let (status, answer) = infer(&server, "/get-online-features", &body);
        let error = answer.as_str().unwrap_or_default();
        assert!(status == 422 && error.contains(why), "{answer}");
        assert!(!error.contains("struct"), "{answer}");
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

/// Who sends slowly is told so; it is not the answer that is late.
#[test]
fn a_body_that_does_not_come_is_the_client_s_fault() {
    let server = start(true, |options, _| options.timeout = Duration::from_millis(100));
    for (path, sent) in [(INFER, "{\"inputs\""), (PROMOTE, "")] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{JSON}content-length: 1000\r\n\r\n{sent}"
        );
        let (status, answer) = exchange(&server, head.as_bytes());
        assert_eq!(status, 408, "{answer}");
        assert!(answer.contains("was not whole within 100ms"), "{answer}");
    }
}

/// Whoever is in trouble because of too many requests must be able to do something about it.
#[test]
fn orders_get_through_when_scoring_is_at_its_limit() {
    let (scores, scoring) = channel();
    let (end, ends) = channel::<()>();
    let server = start(true, |options, sums| {
        options.concurrency = 1;
        options.timeout = Duration::from_secs(60);
        sums.hold = Some(Mutex::new((scores, ends)));
    });
    let order = json!({"version": 1, "why": "the other one hangs"});
    std::thread::scope(|scope| {
        let body = json!({"inputs": [tensor("x", "FP64", json!([0.5]))]});
        let server = &server;
        let scored = scope.spawn(move || infer(server, INFER, &body).0);
        scoring.recv().expect("it scores");
        assert_eq!(infer(server, PROMOTE, &order).0, 200, "the only place is taken by a score");
        drop(end);
        assert_eq!(scored.join().expect("no panic"), 200);
    });
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
    let scorer =
        Arc::new(Sums { ready: true, delay: Duration::ZERO, entered: Arc::default(), hold: None });
    let metrics = Arc::new(Metrics::new("test").expect("metrics"));
    let error =
        Server::start(options, scorer, Arc::new(Views), metrics).expect_err("taken").to_string();
    assert!(error.contains("cannot listen on") && error.contains("--serve"), "{error}");
}

/// Callers of every role, each with a token of the role's name.
fn everybody() -> Arc<Callers> {
    let entry = |role: Role| {
        let hash = access::callers::hash(format!("token of {role}").as_bytes());
        format!("[[caller]]\nname = \"{role}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n")
    };
    let text: String = Role::ALL.map(entry).concat();
    Arc::new(Callers::parse(&text, "a test").expect("sound"))
}

/// What came of a request: 401 and 403 also where gRPC words them its own way.
fn refusal(server: &Server, method: &str, path: &str, token: Option<&str>) -> u16 {
    let path = path.replace("{model}", "online").replace("{version}", "1");
    let path = path.replace("{file}", "icon.svg").replace("{view}", "status");
    let (verb, kind) = match method {
        "gRPC" => ("POST", "application/grpc"),
        other => (other, "application/json"),
    };
    let token = token.map_or(String::new(), |t| format!("authorization: Bearer {t}\r\n"));
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\
         content-type: {kind}\r\n{token}\r\n"
    );
    let (status, head, _) = whole(server, request.as_bytes());
    match head.lines().find_map(|line| line.strip_prefix("grpc-status: ")) {
        Some("16") => 401,
        Some("7") => 403,
        Some("12") => 404,
        _ => status,
    }
}

#[test]
fn every_role_may_take_its_routes_and_no_others() {
    let server = start(true, |options, _| options.callers = everybody());
    for (method, path, needed) in routes::ROUTES {
        for token in [None, Some("token of nobody"), Some(""), Some("token of Admin")] {
            let status = refusal(&server, method, path, token);
            match needed {
                None => assert!(!matches!(status, 401 | 403 | 404 | 405), "{path}: {status}"),
                Some(_) => assert_eq!(status, 401, "{method} {path} {token:?}"),
            }
        }
        for role in Role::ALL {
            let status = refusal(&server, method, path, Some(&format!("token of {role}")));
            match needed {
                Some(needed) if role < *needed => assert_eq!(status, 403, "{path} {role}"),
                _ => {
                    assert!(!matches!(status, 401 | 403 | 404 | 405), "{path} {role}: {status}");
                }
            }
        }
    }
    // A path that is no route tells nobody anything.
    assert_eq!(refusal(&server, "GET", "/admin", None), 404);
}

#[test]
fn a_flood_of_one_tenant_leaves_the_others_theirs() {
    let server = start(true, |options, _| {
        options.callers = everybody();
        options.rate = Some(1);
    });
    let get = |token: &str| refusal(&server, "GET", "/v2", Some(token));
    let flood: Vec<u16> = (0..50).map(|_| get("token of viewer")).collect();
    assert!(flood.contains(&429) && flood[0] == 200, "{flood:?}");
    assert_eq!(get("token of operator"), 200);
    // Probes of the machinery around it are never refused.
    assert_eq!(refusal(&server, "GET", "/healthz", None), 200);
}

#[test]
fn headers_that_come_byte_by_byte_are_cut_off() {
    let server = start(true, |options, _| options.idle_timeout = Duration::from_millis(200));
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    let mut sent = 0;
    _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ");
    while stream.write_all(b"a").is_ok() {
        sent += 1;
        assert!(sent < 500, "the connection is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn unloaded_models_do_not_score_until_they_are_loaded() {
    let server = start(true, |_, _| ());
    let body = json!({"inputs": [tensor("x", "FP64", json!([1.0]))]});
    let set =
        |what: &str| infer(&server, &format!("/v2/repository/models/online/{what}"), &json!({}));
    assert_eq!(set("unload").0, 200);
    assert_eq!(infer(&server, INFER, &body).0, 503);
    assert_eq!(get(&server, "/v2/models/online/ready").0, 400);
    let (_, index) = infer(&server, "/v2/repository/index", &json!({}));
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert_eq!(set("load").0, 200);
    assert_eq!(infer(&server, INFER, &body).0, 200);
    assert_eq!(infer(&server, "/v2/repository/models/nobody/load", &json!({})).0, 404);
}

#[test]
fn scores_go_out_as_bytes_where_they_are_wanted_so() {
    let server = start(true, |_, _| ());
    let body = json!({
        "inputs": [tensor("x", "FP64", json!([1.5, 2.5]))],
        "outputs": [{"name": "score", "parameters": {"binary_data": true}}],
    });
    let text = body.to_string();
    let request = format!(
        "POST {INFER} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut stream = TcpStream::connect(server.address()).expect("connects");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("headers") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("inference-header-content-length: "));
    let length: usize = length.and_then(|l| l.trim().parse().ok()).expect("a length");
    let (json, bytes) = answer[end..].split_at(length);
    let said: Json = serde_json::from_slice(json).expect("JSON");
    assert_eq!(said["outputs"][0]["parameters"]["binary_data_size"], json!(16));
    assert_eq!(said["outputs"][0].get("data"), None);
    assert_eq!(bytes, [1.5f64.to_le_bytes(), 2.5f64.to_le_bytes()].concat());
}
