//! The Open Inference Protocol over REST: what comes, and what goes back.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Caller;
use super::guard::{recorded, refuse_foreign};
use super::protocol::{self, Failure, InferRequest, InferResponse, SCORE};
use super::routes::Shared;
use super::scorer::Asked;
use super::tensor;

/// A request, for whoever sends something else.
const REQUEST: &str =
    r#"{"inputs": [{"name": "id", "shape": [1], "datatype": "BYTES", "data": ["7"]}]}"#;

/// The header that says how long the JSON is, when raw tensors follow it.
const JSON_LENGTH: &str = "inference-header-content-length";

pub(super) async fn server() -> Json<Value> {
    Json(protocol::server_metadata())
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// The protocol says "not ready" with a status of 4xx.
fn readiness(ready: bool, body: Value) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    (status, Json(body)).into_response()
}

pub(super) async fn health_ready(State(shared): State<Shared>) -> Response {
    let ready = shared.scorer.ready();
    readiness(ready, json!({"ready": ready}))
}

pub(super) async fn index(State(shared): State<Shared>) -> Json<Value> {
    let models = shared.scorer.metadata();
    Json(protocol::repository_index(&models, |name| shared.loaded(name)))
}

/// The model and, where the path has one, the version.
type ModelPath = Path<Vec<(String, String)>>;

fn find(shared: &Shared, Path(path): ModelPath) -> Result<Asked, Failure> {
    let mut values = path.into_iter().map(|(_, value)| value);
    let model = values.next().unwrap_or_default();
    shared.find(&model, values.next().as_deref())
}

pub(super) async fn model(
    State(shared): State<Shared>,
    path: ModelPath,
) -> Result<Json<Value>, Failure> {
    let asked = find(&shared, path)?;
    let info = shared.scorer.metadata().into_iter().find(|info| info.name == asked.model);
    let store = shared.scorer.store();
    Ok(Json(info.map_or(Value::Null, |info| protocol::model_metadata(&info, &store))))
}

pub(super) async fn model_ready(
    State(shared): State<Shared>,
    path: ModelPath,
) -> Result<Response, Failure> {
    let asked = find(&shared, path)?;
    let ready = shared.can_score(&asked);
    Ok(readiness(ready, json!({"name": asked.model, "ready": ready})))
}

async fn set(
    shared: &Shared,
    caller: &Caller,
    model: &str,
    load: bool,
) -> Result<Json<Value>, Failure> {
    shared.find(model, None)?;
    let what = if load { "load" } else { "unload" };
    recorded(shared, caller, format!("{what} model {model}"))?;
    shared.load(model, load);
    Ok(Json(json!({})))
}

pub(super) async fn load(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    refuse_foreign(&caller, &headers)?;
    set(&shared, &caller, &model, true).await
}

pub(super) async fn unload(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    refuse_foreign(&caller, &headers)?;
    set(&shared, &caller, &model, false).await
}

/// The body as it is; one that is compressed is refused by name.
pub(super) fn plain(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Bytes, Failure> {
    let encoding = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    if let Some(encoding) = encoding {
        let message = format!("a body encoded as {encoding:?} is not read: send it plain");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))
}

pub(super) async fn infer(
    State(shared): State<Shared>,
    path: ModelPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let asked = find(&shared, path)?;
    let body = plain(&headers, body)?;
    let (json, binary) = split(&headers, &body)?;
    let wrong = "the body is not an inference request";
    let request: InferRequest = protocol::object(json, wrong, || REQUEST.to_string())?;
    let wanted = wanted(&request)?;
    let question = tensor::read(&request, binary)?;
    let model = asked.model.clone();
    let answer = shared.score(asked, question).await?;
    let Some(Wanted { binary: true }) = wanted else {
        let said = InferResponse::new(model, request.id, answer, wanted.is_some());
        return Ok(Json(said).into_response());
    };
    let scores = answer.scores.clone();
    let said = InferResponse::new(model, request.id, answer, true).binary();
    let mut bytes = serde_json::to_vec(&said)
        .map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let length = HeaderValue::from(bytes.len());
    bytes.extend(scores.iter().flat_map(|score| score.to_le_bytes()));
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok((
        [(header::CONTENT_TYPE, kind), (header::HeaderName::from_static(JSON_LENGTH), length)],
        bytes,
    )
        .into_response())
}

/// The JSON, and the raw tensors after it.
fn split<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Failure> {
    let Some(length) = headers.get(JSON_LENGTH) else { return Ok((body, &[])) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.and_then(|length| body.split_at_checked(length)).ok_or_else(|| {
        Failure::invalid("Inference-Header-Content-Length is not a length within the body")
    })
}

/// How the score is wanted.
#[derive(Clone, Copy)]
struct Wanted {
    binary: bool,
}

/// How the score is wanted, if it is: the request's word counts where the output has none.
fn wanted(request: &InferRequest) -> Result<Option<Wanted>, Failure> {
    let yes = |value: Option<&Value>| value.and_then(Value::as_bool);
    let all = yes(request.parameters.get("binary_data_output")).unwrap_or(false);
    let Some(outputs) = &request.outputs else { return Ok(Some(Wanted { binary: all })) };
    if let Some(other) = outputs.iter().find(|output| output.name != SCORE) {
        let why = format!("there is no output `{}`; there is: {SCORE}", other.name);
        return Err(Failure::invalid(why));
    }
    let own = |output: &protocol::WantedOutput| yes(output.parameters.get("binary_data"));
    Ok(outputs.first().map(|output| Wanted { binary: own(output).unwrap_or(all) }))
}
