//! The words of the Open Inference Protocol, version 2, as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill_types::time::to_rfc3339;

use super::scorer::{Answer, ModelInfo, Refusal};
use super::tensor::{ID, datatype_of};

/// The name of the one output.
pub const SCORE: &str = "score";

/// A request to infer. What is not known is ignored, as the protocol asks.
#[derive(Debug, Deserialize)]
pub struct InferRequest {
    /// Comes back in the answer.
    pub id: Option<String>,
    /// The tensors.
    pub inputs: Vec<InputTensor>,
    /// The outputs wanted; without it, all.
    pub outputs: Option<Vec<WantedOutput>>,
}

/// One input.
#[derive(Debug, Deserialize)]
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
pub struct WantedOutput {
    /// Its name.
    pub name: String,
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
    data: Vec<f64>,
}

impl InferResponse {
    /// The answer to a request with this id. An empty list of outputs is an empty answer.
    pub fn new(
        model: String,
        id: Option<String>,
        answer: Answer,
        score_wanted: bool,
    ) -> InferResponse {
        let parameters = serde_json::json!({
            "epoch": answer.epoch,
            "version": answer.version,
            "degraded": answer.degraded,
            "as_of": to_rfc3339(answer.as_of),
        });
        let score = OutputTensor {
            name: SCORE,
            shape: [answer.scores.len()],
            datatype: "FP64",
            data: answer.scores,
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

/// `GET /v2`
pub fn server_metadata() -> Value {
    serde_json::json!({
        "name": "tidemill",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_repository"],
    })
}

/// `GET /v2/models/{model}`
pub fn model_metadata(info: &ModelInfo) -> Value {
    let id = serde_json::json!({"name": ID, "datatype": "BYTES", "shape": [-1]});
    let features = info.features.iter().map(|(name, data_type)| {
        serde_json::json!({"name": name, "datatype": datatype_of(*data_type), "shape": [-1]})
    });
    serde_json::json!({
        "name": info.name,
        "versions": info.versions.iter().map(u64::to_string).collect::<Vec<_>>(),
        "platform": format!("tidemill_{}", info.kind),
        "inputs": std::iter::once(id).chain(features).collect::<Vec<_>>(),
        "outputs": [{"name": SCORE, "datatype": "FP64", "shape": [-1]}],
    })
}

/// `POST /v2/repository/index`: each version of each model; the one in charge is ready.
pub fn repository_index(models: &[ModelInfo]) -> Value {
    let versions = models.iter().flat_map(|info| {
        info.versions.iter().map(move |version| {
            serde_json::json!({"name": info.name, "version": version.to_string(), "state": "READY", "reason": ""})
        })
    });
    versions.collect()
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
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
