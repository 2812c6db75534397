//! The routes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use super::protocol::{self, Failure, InferRequest, InferResponse, SCORE};
use super::scorer::{Answer, Asked, ModelInfo, Scorer};
use super::{Options, tensor};
use crate::observe::{Metrics, metrics};

/// The header that says how long the JSON is, when raw tensors follow it.
const JSON_LENGTH: &str = "inference-header-content-length";

#[derive(Clone)]
struct Shared {
    scorer: Arc<dyn Scorer>,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

pub(super) fn router(options: &Options, scorer: Arc<dyn Scorer>, metrics: Arc<Metrics>) -> Router {
    let permits = Arc::new(Semaphore::new(options.concurrency.max(1)));
    let shared = Shared { scorer, metrics, permits, timeout: options.timeout };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/v2", get(|| async { Json(protocol::server_metadata()) }))
        .route("/v2/health/live", get(|| async { Json(serde_json::json!({"live": true})) }))
        .route("/v2/health/ready", get(health_ready))
        .route("/v2/repository/index", post(repository_index))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(model))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .fallback(|request: Request| async move {
            Failure::new(StatusCode::NOT_FOUND, format!("there is no `{}`", request.uri().path()))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("`{}` does not take {}", request.uri().path(), request.method());
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(DefaultBodyLimit::max(options.body_bytes))
        .layer(middleware::from_fn_with_state(shared.clone(), observed))
        .with_state(shared)
}

/// Bounds the time of a request and counts it, under the template of its route.
async fn observed(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let route = template(request.uri().path());
    let begun = Instant::now();
    let response = match tokio::time::timeout(shared.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("there was no answer within {:?}", shared.timeout);
            Failure::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        }
    };
    shared.metrics.request(route, response.status().as_u16(), begun.elapsed().as_secs_f64());
    response
}

/// The template of the route that a path takes: what is counted must not grow with what clients send.
fn template(path: &str) -> &'static str {
    const PLAIN: [&str; 7] = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/repository/index",
    ];
    if let Some(plain) = PLAIN.into_iter().find(|plain| *plain == path) {
        return plain;
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["v2", "models", _] => "/v2/models/{model}",
        ["v2", "models", _, "ready"] => "/v2/models/{model}/ready",
        ["v2", "models", _, "infer"] => "/v2/models/{model}/infer",
        ["v2", "models", _, "versions", _] => "/v2/models/{model}/versions/{version}",
        ["v2", "models", _, "versions", _, "ready"] => {
            "/v2/models/{model}/versions/{version}/ready"
        }
        ["v2", "models", _, "versions", _, "infer"] => {
            "/v2/models/{model}/versions/{version}/infer"
        }
        _ => "unknown",
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.scorer.ready() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match shared.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(e) => Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e.message).into_response(),
    }
}

/// The protocol says "not ready" with a status of 4xx.
fn readiness(ready: bool, body: serde_json::Value) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    (status, Json(body)).into_response()
}

async fn health_ready(State(shared): State<Shared>) -> Response {
    let ready = shared.scorer.ready();
    readiness(ready, serde_json::json!({"ready": ready}))
}

async fn repository_index(State(shared): State<Shared>) -> Json<serde_json::Value> {
    Json(protocol::repository_index(&shared.scorer.metadata()))
}

/// The model and, where the path has one, the version.
type ModelPath = Path<Vec<(String, String)>>;

async fn model(
    State(shared): State<Shared>,
    path: ModelPath,
) -> Result<Json<serde_json::Value>, Failure> {
    let (info, _) = find(&shared, path)?;
    Ok(Json(protocol::model_metadata(&info)))
}

async fn model_ready(State(shared): State<Shared>, path: ModelPath) -> Result<Response, Failure> {
    let (info, asked) = find(&shared, path)?;
    let ready = shared.scorer.ready() && (asked.version.is_some() || info.current.is_some());
    Ok(readiness(ready, serde_json::json!({"name": info.name, "ready": ready})))
}

fn find(shared: &Shared, Path(path): ModelPath) -> Result<(ModelInfo, Asked), Failure> {
    let not_found = |message| Failure::new(StatusCode::NOT_FOUND, message);
    let mut values = path.into_iter().map(|(_, value)| value);
    let model = values.next().unwrap_or_default();
    let mut models = shared.scorer.metadata();
    let Some(at) = models.iter().position(|info| info.name == model) else {
        let names: Vec<&str> = models.iter().map(|info| info.name.as_str()).collect();
        return Err(not_found(format!(
            "there is no model `{model}`; there are: {}",
            names.join(", ")
        )));
    };
    let info = models.swap_remove(at);
    let version = match values.next() {
        None => None,
        Some(text) => {
            let known = text.parse().ok().filter(|number| info.versions.contains(number));
            Some(
                known
                    .ok_or_else(|| not_found(format!("model `{model}` has no version `{text}`")))?,
            )
        }
    };
    Ok((info, Asked { model, version }))
}

async fn infer(
    State(shared): State<Shared>,
    path: ModelPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InferResponse>, Failure> {
    let (_, asked) = find(&shared, path)?;
    let encoding = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
    if let Some(encoding) = encoding {
        let message = format!("a body encoded as {encoding:?} is not read: send it plain");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    let (json, binary) = split(&headers, &body)?;
    let request: InferRequest = serde_json::from_slice(json)
        .map_err(|e| Failure::invalid(format!("the body is not an inference request: {e}")))?;
    let score_wanted = score_wanted(&request)?;
    let input = tensor::read(&request, binary)?;
    let rows = input.features.rows;
    let model = asked.model.clone();
    let answer = score(shared, asked, input).await?;
    if answer.scores.len() != rows || !answer.scores.iter().all(|score| score.is_finite()) {
        let message = format!("model `{model}` did not give a finite score for each row");
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    Ok(Json(InferResponse::new(model, request.id, answer, score_wanted)))
}

/// The JSON, and the raw tensors after it.
fn split<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Failure> {
    let Some(length) = headers.get(JSON_LENGTH) else { return Ok((body, &[])) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.and_then(|length| body.split_at_checked(length)).ok_or_else(|| {
        Failure::invalid("Inference-Header-Content-Length is not a length within the body")
    })
}

fn score_wanted(request: &InferRequest) -> Result<bool, Failure> {
    let Some(outputs) = &request.outputs else { return Ok(true) };
    match outputs.iter().find(|output| output.name != SCORE) {
        Some(other) => {
            Err(Failure::invalid(format!("there is no output `{}`; there is: {SCORE}", other.name)))
        }
        None => Ok(!outputs.is_empty()),
    }
}

/// Scores on a thread that may block. The permit stays with it, even when the request has timed out.
async fn score(shared: Shared, asked: Asked, input: tensor::Input) -> Result<Answer, Failure> {
    let closed = |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    let permit = shared.permits.clone().acquire_owned().await.map_err(closed)?;
    let scoring = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        match &input.ids {
            Some(ids) => shared.scorer.infer_by_id(&asked, ids, &input.features),
            None => shared.scorer.infer_features(&asked, &input.features),
        }
    });
    match scoring.await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the scorer failed")),
    }
}
