//! The words of the Open Inference Protocol, version 2, as JSON.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_types::time::{from_rfc3339, to_rfc3339};
use tidemill_types::{Error, Fault, Micros};

use super::scorer::{Answer, ModelInfo, Refusal, StoreInfo};
use super::tensor::{ID, datatype_of};

/// The name of the one output.
pub const SCORE: &str = "score";

/// The server's name.
pub const NAME: &str = "tidemill";

/// Which extensions of the protocol are spoken.
pub const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository"];

/// A request to infer. What is not known is ignored, as the protocol asks.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `inputs`")]
pub struct InferRequest {
    /// Comes back in the answer.
    pub id: Option<String>,
    /// The tensors.
    pub inputs: Vec<InputTensor>,
    /// The outputs wanted; without it, all.
    pub outputs: Option<Vec<WantedOutput>>,
    /// `binary_data_output` where all outputs are wanted as bytes.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// One input.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `name`, `shape`, `datatype` and `data` in `inputs`")]
pub struct InputTensor {
    /// A feature, or `id`.
    pub name: String,
    /// `[n]` or `[n, 1]`.
    pub shape: Vec<u64>,
    /// As the protocol names it, `FP64` for example.
    pub datatype: String,
    /// `binary_data_size` where the data follow the JSON.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The values, flat or nested.
    pub data: Option<Value>,
}

/// One output wanted.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `name` in `outputs`")]
pub struct WantedOutput {
    /// Its name.
    pub name: String,
    /// `binary_data` where it is wanted as bytes.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// An answer.
#[derive(Debug, Serialize)]
pub struct InferResponse {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    parameters: Value,
    outputs: Vec<OutputTensor>,
}

#[derive(Debug, Serialize)]
struct OutputTensor {
    name: &'static str,
    shape: [usize; 1],
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f64>>,
}

impl InferResponse {
    /// The answer to a request with this id. An empty list of outputs is an empty answer.
    pub fn new(
        model: String,
        id: Option<String>,
        answer: Answer,
        score_wanted: bool,
    ) -> InferResponse {
        let parameters = parameters(&answer);
        let score = OutputTensor {
            name: SCORE,
            shape: [answer.scores.len()],
            datatype: "FP64",
            parameters: None,
            data: Some(answer.scores),
        };
        InferResponse {
            model_name: model,
            model_version: answer.version.to_string(),
            id,
            parameters,
            outputs: if score_wanted { vec![score] } else { Vec::new() },
        }
    }
}

impl InferResponse {
    /// The same with the scores left out, which follow as bytes.
    pub fn binary(mut self) -> InferResponse {
        for output in &mut self.outputs {
            let size = 8 * output.data.take().map_or(0, |data| data.len());
            output.parameters = Some(serde_json::json!({"binary_data_size": size}));
        }
        self
    }
}

/// What is said of an answer beside the scores.
pub fn parameters(answer: &Answer) -> Value {
    // A canary served some of the rows: then each has its own.
    let mixed = answer.versions.iter().any(|version| *version != answer.version);
    let versions: Vec<String> = answer.versions.iter().map(u64::to_string).collect();
    serde_json::json!({
        "epoch": answer.epoch,
        "version": answer.version,
        "versions": mixed.then(|| versions.join(" ")),
        "degraded": answer.degraded,
        "as_of": to_rfc3339(answer.as_of),
        "features_at": answer.features_at.map(to_rfc3339),
        "windows_at": answer.windows_at.map(to_rfc3339),
        "feature_age_seconds": answer.features_at.map(|at| (answer.as_of - at) as f64 / 1e6),
    })
}

/// Reads a body that is to be a JSON object.
///
/// # Errors
/// It is something else: `wrong`, the reason, and an example of what is wanted.
pub fn object<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    wrong: &str,
    example: impl Fn() -> String,
) -> Result<T, Failure> {
    let refuse =
        |why: String| Failure::invalid(format!("{wrong}: {why}; for example {}", example()));
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        // A list would be read as the values of the fields in their order.
        Some(b'[') => Err(refuse("it is no JSON object".to_string())),
        _ => serde_json::from_slice(body).map_err(|e| refuse(e.to_string())),
    }
}

/// The years 0 to 9999: what RFC 3339 can write. Calendars and clocks know nothing far beyond.
const MOMENTS: RangeInclusive<Micros> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The moment that a request names, as RFC 3339 or in microseconds since 1970.
///
/// # Errors
/// Something else, or a year that has more than four digits.
pub fn moment(said: Option<&Value>) -> Result<Option<Micros>, Failure> {
    let at = match said {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => from_rfc3339(text),
        Some(other) => other.as_i64(),
    };
    let wrong = "`as_of` is a time of the years 0 to 9999: \"2026-01-01T00:00:00Z\", or microseconds since 1970";
    let at = at.filter(|at| MOMENTS.contains(at));
    at.map(Some).ok_or_else(|| Failure::invalid(wrong))
}

/// `GET /v2`
pub fn server_metadata() -> Value {
    serde_json::json!({
        "name": NAME,
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    })
}

/// The inputs of a model: the id of a row, what names an entity, columns that may be given on demand,
/// and features.
pub fn inputs(info: &ModelInfo, store: &StoreInfo) -> Vec<(String, &'static str)> {
    let mut all = vec![(ID.to_string(), "BYTES")];
    let mut known = HashSet::from([ID]);
    for (name, data_type) in store.entity.iter().chain(&info.features).chain(&*store.on_demand) {
        if known.insert(name) {
            all.push((name.clone(), datatype_of(*data_type)));
        }
    }
    all
}

/// `GET /v2/models/{model}`
pub fn model_metadata(info: &ModelInfo, store: &StoreInfo) -> Value {
    let tensor = |(name, datatype): (String, &str)| serde_json::json!({"name": name, "datatype": datatype, "shape": [-1]});
    serde_json::json!({
        "name": info.name,
        "versions": info.versions.iter().map(u64::to_string).collect::<Vec<_>>(),
        "platform": format!("tidemill_{}", info.kind),
        "inputs": inputs(info, store).into_iter().map(tensor).collect::<Vec<_>>(),
        "outputs": [{"name": SCORE, "datatype": "FP64", "shape": [-1]}],
    })
}

/// Each version of each model: name, version, state, reason. One without a version is not there yet.
pub fn index(models: &[ModelInfo], loaded: impl Fn(&str) -> bool) -> Vec<[String; 4]> {
    let mut all = Vec::new();
    for info in models {
        let (state, reason) = match loaded(&info.name) {
            true => ("READY", ""),
            false => ("UNAVAILABLE", "unloaded"),
        };
        let said = |version: String, state: &str, reason: &str| {
            [info.name.clone(), version, state.to_string(), reason.to_string()]
        };
        all.extend(info.versions.iter().map(|v| said(v.to_string(), state, reason)));
        if info.versions.is_empty() {
            all.push(said(String::new(), "UNAVAILABLE", "no version yet"));
        }
    }
    all
}

/// `POST /v2/repository/index`
pub fn repository_index(models: &[ModelInfo], loaded: impl Fn(&str) -> bool) -> Value {
    let said = |[name, version, state, reason]: [String; 4]| serde_json::json!({"name": name, "version": version, "state": state, "reason": reason});
    index(models, loaded).into_iter().map(said).collect()
}

/// An error of the protocol: a status and `{"error": "..."}`.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// What was attempted and what is wrong.
    pub message: String,
}

impl Failure {
    /// Of that status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// What an engine says of a thing that was named: the user's fault is that it is not there.
    pub fn of_thing(error: Error) -> Failure {
        Failure::of(error, StatusCode::NOT_FOUND)
    }

    /// What an engine says, with what to do; the user's fault has this status.
    pub fn of(error: Error, user: StatusCode) -> Failure {
        let status = match error.fault {
            Fault::User => user,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let help = error.help.map_or(String::new(), |help| format!(": {help}"));
        Failure::new(status, format!("{}{help}", error.message))
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::UnknownId(id) => {
                Failure::new(StatusCode::NOT_FOUND, format!("no row with id `{id}` is known"))
            }
            Refusal::Invalid(why) => Failure::invalid(why),
            Refusal::Unavailable(why) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({"error": self.message}));
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
