//! MLflow's tracking server as a registry of models: versions go there and come from there, over REST.
//!
//! A version is a run with its metrics and parameters, two files (the artifact, and the manifest that
//! says what it is), and a model version of the registered model with tags that find it again. MLflow
//! counts versions by itself, so ours stands in the tag `tidemill.version`. Aliases are MLflow's.
//!
//! Paths and answers are those of MLflow 3 (`/api/2.0/mlflow`, `/api/2.0/mlflow-artifacts`); an unknown
//! alias is answered with status 400 or 404.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill_types::Error;
use tidemill_types::model::ModelVersion;
use ureq::Agent;

/// The tag that holds our number of a version.
const VERSION: &str = "tidemill.version";

/// The tag that holds the hash of its artifact.
const ARTIFACT: &str = "tidemill.artifact";

/// Bytes of a file that is fetched, at most.
const MOST: u64 = 1 << 30;

/// A server.
pub struct MlflowClient {
    url: String,
    token: Option<String>,
    agent: Agent,
}

/// A version as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The server's own number.
    pub number: String,
    /// Ours; nothing for a version that somebody else registered.
    pub version: Option<u64>,
    /// The hash of its artifact, where it is ours.
    pub artifact: Option<String>,
    source: String,
}

impl MlflowClient {
    /// Of the server at this address, `http://127.0.0.1:5000` for example; a token is sent as a bearer's.
    ///
    /// # Errors
    /// An address that is none. TLS is left to a proxy.
    pub fn new(url: &str, token: Option<String>) -> Result<MlflowClient, Error> {
        if !url.starts_with("http://") {
            return Err(Error::user(format!("`{url}` is no address of an MLflow server"))
                .help("write it as http://HOST:PORT; TLS is left to a proxy"));
        }
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        Ok(MlflowClient { url: url.trim_end_matches('/').into(), token, agent: config.into() })
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Error> {
        let lost = |e: &dyn std::fmt::Display| {
            Error::external(format!("MLflow does not answer at {}: {e}", self.url))
                .help("see that the server is up, and that the address is right")
        };
        let url = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if path.starts_with("/api/2.0/mlflow/") {
            request = request.header("Content-Type", "application/json");
        }
        let request = request.body(body).map_err(|e| lost(&e))?;
        let mut response = self.agent.run(request).map_err(|e| lost(&e))?;
        let status = response.status().as_u16();
        let limited = response.body_mut().with_config().limit(MOST);
        Ok((status, limited.read_to_vec().map_err(|e| lost(&e))?))
    }

    /// The JSON of an answer; nothing where the thing asked for is not there.
    fn find(&self, method: &str, path: &str, body: Option<Json>) -> Result<Option<Json>, Error> {
        let path = format!("/api/2.0/mlflow/{path}");
        let body = body.map(|json| json.to_string()).unwrap_or_default();
        let (status, answer) = self.send(method, &path, body.as_bytes())?;
        let json: Json = serde_json::from_slice(&answer).unwrap_or(Json::Null);
        let code = json["error_code"].as_str().unwrap_or_default();
        match status {
            200 => Ok(Some(json)),
            404 => Ok(None),
            400 if method == "GET" && path.contains("/alias") => Ok(None),
            400 if code == "RESOURCE_ALREADY_EXISTS" => Ok(Some(json)),
            _ => {
                let said = json["message"].as_str().map(str::to_string);
                let said = said.unwrap_or_else(|| String::from_utf8_lossy(&answer).into_owned());
                let said: String = said.chars().take(300).collect();
                let error = Error::external(format!("MLflow refuses {path}: {status} {said}"));
                Err(match status {
                    401 | 403 => error.help("put a valid token into MLFLOW_TRACKING_TOKEN"),
                    _ => error,
                })
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<Json>) -> Result<Json, Error> {
        let gone = || Error::external(format!("MLflow knows no {path}: is it an MLflow server?"));
        self.find(method, path, body)?.ok_or_else(gone)
    }

    /// The versions of a registered model, oldest first; none of one that is unknown.
    ///
    /// # Errors
    /// The server fails or refuses.
    pub fn versions(&self, name: &str) -> Result<Vec<Registered>, Error> {
        let (mut all, mut page) = (Vec::new(), String::new());
        loop {
            let filter = encoded(&format!("name='{name}'"));
            let path = format!("model-versions/search?filter={filter}&max_results=200{page}");
            let Some(found) = self.find("GET", &path, None)? else { break };
            all.extend(found["model_versions"].as_array().into_iter().flatten().map(registered));
            match found["next_page_token"].as_str().filter(|token| !token.is_empty()) {
                Some(token) => page = format!("&page_token={}", encoded(token)),
                None => break,
            }
        }
        all.sort_by_key(|v: &Registered| v.number.parse::<u64>().unwrap_or(0));
        Ok(all)
    }

    /// Registers a version under this name with its artifact, unless it is there already: the server's
    /// number of it. `parameters` are shown with the run.
    ///
    /// # Errors
    /// The server fails or refuses.
    pub fn register(
        &self,
        name: &str,
        version: &ModelVersion,
        artifact: &[u8],
        parameters: &[(String, String)],
    ) -> Result<String, Error> {
        let ours = |v: &&Registered| {
            v.version == Some(version.version) && v.artifact.as_deref() == Some(&version.artifact)
        };
        if let Some(there) = self.versions(name)?.iter().find(ours) {
            return Ok(there.number.clone());
        }
        self.ask("POST", "registered-models/create", Some(json!({ "name": name })))?;
        let experiment = self.experiment(name)?;
        let started = version.since.max(0) / 1_000;
        let tags = json!([
            { "key": "tidemill.trigger", "value": version.lineage.trigger },
            { "key": "mlflow.runName", "value": format!("{name} {}", version.version) },
        ]);
        let run = json!({ "experiment_id": experiment, "start_time": started, "tags": tags });
        let run = self.ask("POST", "runs/create", Some(run))?;
        let run_id = text(&run["run"]["info"]["run_id"], "a run id")?;
        let metric = |(key, value): &(String, f64)| json!({ "key": key, "value": value, "timestamp": started, "step": 0 });
        let param = |(key, value): &(String, String)| json!({ "key": key, "value": value });
        let batch = json!({
            "run_id": run_id,
            "metrics": version.metrics.iter().map(metric).collect::<Vec<_>>(),
            "params": parameters.iter().map(param).collect::<Vec<_>>(),
        });
        self.ask("POST", "runs/log-batch", Some(batch))?;
        let folder = format!("{experiment}/{run_id}/artifacts/model");
        let manifest = serde_json::to_vec_pretty(version)
            .map_err(|e| Error::internal(format!("a manifest is no JSON: {e}")))?;
        self.put(&format!("{folder}/{}", version.artifact), artifact)?;
        self.put(&format!("{folder}/tidemill.json"), &manifest)?;
        let done = json!({ "run_id": run_id, "status": "FINISHED", "end_time": started });
        self.ask("POST", "runs/update", Some(done))?;
        let created = json!({
            "name": name,
            "source": format!("mlflow-artifacts:/{folder}"),
            "run_id": run_id,
            "tags": [
                { "key": VERSION, "value": version.version.to_string() },
                { "key": ARTIFACT, "value": version.artifact },
                { "key": "tidemill.schema", "value": version.lineage.schema },
            ],
        });
        let created = self.ask("POST", "model-versions/create", Some(created))?;
        text(&created["model_version"]["version"], "a version")
    }

    fn experiment(&self, name: &str) -> Result<String, Error> {
        let path = format!("experiments/get-by-name?experiment_name={}", encoded(name));
        if let Some(found) = self.find("GET", &path, None)? {
            return text(&found["experiment"]["experiment_id"], "an experiment");
        }
        let made = self.ask("POST", "experiments/create", Some(json!({ "name": name })))?;
        text(&made["experiment_id"], "an experiment")
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{path}");
        match self.send("PUT", &path, bytes)? {
            (200, _) => Ok(()),
            (status, _) => Err(Error::external(format!("MLflow does not take {path}: {status}"))
                .help("start the server with --artifacts-destination, so that it keeps artifacts")),
        }
    }

    /// The manifest and the artifact of a version that was registered from here or elsewhere by us. Their
    /// hash is the caller's to check.
    ///
    /// # Errors
    /// It is none of ours, or the server fails.
    pub fn load(&self, found: &Registered) -> Result<(ModelVersion, Vec<u8>), Error> {
        let foreign = || {
            Error::user(format!("version {} on the server was not made by Tidemill", found.number))
                .help("only versions that were pushed from a run can be pulled")
        };
        let folder = found.source.strip_prefix("mlflow-artifacts:/").ok_or_else(foreign)?;
        let artifact = found.artifact.as_ref().ok_or_else(foreign)?;
        let get = |file: &str| {
            let folder = folder.trim_start_matches('/');
            let path = format!("/api/2.0/mlflow-artifacts/artifacts/{folder}/{file}");
            match self.send("GET", &path, &[])? {
                (200, bytes) => Ok(bytes),
                (status, _) => {
                    Err(Error::external(format!("MLflow does not give {path}: {status}")))
                }
            }
        };
        let manifest = serde_json::from_slice(&get("tidemill.json")?)
            .map_err(|e| Error::external(format!("the manifest on the server is broken: {e}")))?;
        Ok((manifest, get(artifact)?))
    }

    /// Lets an alias stand for a version, by the server's number.
    ///
    /// # Errors
    /// The server fails or refuses.
    pub fn set_alias(&self, name: &str, alias: &str, number: &str) -> Result<(), Error> {
        let body = json!({ "name": name, "alias": alias, "version": number });
        self.ask("POST", "registered-models/alias", Some(body)).map(drop)
    }

    /// The version that an alias stands for; nothing where there is no such alias.
    ///
    /// # Errors
    /// The server fails or refuses.
    pub fn alias(&self, name: &str, alias: &str) -> Result<Option<Registered>, Error> {
        let (name, alias) = (encoded(name), encoded(alias));
        let path = format!("registered-models/alias?name={name}&alias={alias}");
        Ok(self.find("GET", &path, None)?.map(|found| registered(&found["model_version"])))
    }
}

fn registered(version: &Json) -> Registered {
    let tag = |key: &str| {
        let mut tags = version["tags"].as_array().into_iter().flatten();
        tags.find(|tag| tag["key"] == key).and_then(|tag| tag["value"].as_str())
    };
    let text = |key: &str| version[key].as_str().unwrap_or_default().to_string();
    Registered {
        number: text("version"),
        version: tag(VERSION).and_then(|number| number.parse().ok()),
        artifact: tag(ARTIFACT).map(str::to_string),
        source: text("source"),
    }
}

fn text(json: &Json, what: &str) -> Result<String, Error> {
    let found = json.as_str().map(str::to_string);
    found.ok_or_else(|| Error::external(format!("MLflow's answer has not {what}")))
}

/// A value of a query, percent-encoded.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}
