//! The routes: which there are, who may take them, and what all of them share.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use super::access::{Audit, Callers, Rates, Role};
use super::dashboard::{self, Watched};
use super::protocol::Failure;
use super::scorer::{Answer, Asked, Question, Refusal, Scorer};
use super::{Options, feast, grpc, guard, mcp, orders, rest};
use crate::observe::{Metrics, metrics};

/// What every route has at hand: several clones are made for each request.
pub(super) type Shared = Arc<AtHand>;

/// See [`Shared`].
pub(super) struct AtHand {
    pub(super) scorer: Arc<dyn Scorer>,
    pub(super) watched: Arc<dyn Watched>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) callers: Arc<Callers>,
    pub(super) rates: Option<Rates>,
    pub(super) audit: Arc<Audit>,
    pub(super) timeout: Duration,
    pub(super) body_bytes: usize,
    /// To score.
    permits: Arc<Semaphore>,
    /// To give an order: those who are in trouble must get through.
    order_permits: Arc<Semaphore>,
    /// Models that an operator has taken out of service.
    unloaded: RwLock<BTreeSet<String>>,
    /// Features to a row.
    features: usize,
}

/// Who may take which route; nothing means everybody, for probes. A route that is not here is for the
/// highest role alone: `tests.rs` holds the list to the router.
pub(super) const ROUTES: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/v2/health/live", None),
    ("GET", "/v2/health/ready", None),
    ("GET", "/health", None),
    ("GET", "/metrics", Some(Role::Viewer)),
    ("GET", "/", None),
    ("GET", "/assets/{file}", None),
    ("GET", "/api/v1/{view}", Some(Role::Viewer)),
    ("POST", "/api/v1/models/{model}/promote", Some(Role::Operator)),
    ("POST", "/api/v1/models/{model}/rollback", Some(Role::Operator)),
    ("POST", "/api/v1/models/{model}/approve", Some(Role::Approver)),
    ("POST", "/api/v1/models/{model}/retrain", Some(Role::Operator)),
    ("GET", "/v2", Some(Role::Viewer)),
    ("POST", "/v2/repository/index", Some(Role::Viewer)),
    ("POST", "/v2/repository/models/{model}/load", Some(Role::Operator)),
    ("POST", "/v2/repository/models/{model}/unload", Some(Role::Operator)),
    ("GET", "/v2/models/{model}", Some(Role::Viewer)),
    ("GET", "/v2/models/{model}/ready", Some(Role::Viewer)),
    ("POST", "/v2/models/{model}/infer", Some(Role::Viewer)),
    ("GET", "/v2/models/{model}/versions/{version}", Some(Role::Viewer)),
    ("GET", "/v2/models/{model}/versions/{version}/ready", Some(Role::Viewer)),
    ("POST", "/v2/models/{model}/versions/{version}/infer", Some(Role::Viewer)),
    ("POST", "/get-online-features", Some(Role::Viewer)),
    ("POST", "/mcp", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/ServerLive", None),
    ("gRPC", "/inference.GRPCInferenceService/ServerReady", None),
    ("gRPC", "/inference.GRPCInferenceService/ModelReady", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/ServerMetadata", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/ModelMetadata", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/ModelInfer", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/RepositoryIndex", Some(Role::Viewer)),
    ("gRPC", "/inference.GRPCInferenceService/RepositoryModelLoad", Some(Role::Operator)),
    ("gRPC", "/inference.GRPCInferenceService/RepositoryModelUnload", Some(Role::Operator)),
];

/// The role that a route needs; paths that are no route need none to be told so.
pub(super) fn role_of(route: &str) -> Option<Role> {
    let known = ROUTES.iter().find(|(_, path, _)| *path == route);
    match known {
        Some((_, _, role)) => *role,
        None if route == "unknown" => None,
        None => Some(guard::STRICTEST),
    }
}

/// Orders that wait for the run at a time, beside whatever is scored.
pub(super) const ORDERS: usize = 4;

pub(super) fn router(
    options: &Options,
    scorer: Arc<dyn Scorer>,
    watched: Arc<dyn Watched>,
    metrics: Arc<Metrics>,
) -> Router {
    let shared = Arc::new(AtHand {
        features: scorer.store().features.len(),
        scorer,
        watched,
        metrics,
        callers: Arc::clone(&options.callers),
        rates: options.rate.map(Rates::new),
        audit: Arc::clone(&options.audit),
        timeout: options.timeout,
        body_bytes: options.body_bytes,
        permits: Arc::new(Semaphore::new(options.concurrency.max(1))),
        order_permits: Arc::new(Semaphore::new(ORDERS)),
        unloaded: RwLock::default(),
    });
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/", get(dashboard::index))
        .route("/assets/{file}", get(dashboard::asset))
        .route("/api/v1/{view}", get(dashboard::read))
        .route("/api/v1/models/{model}/promote", post(orders::take))
        .route("/api/v1/models/{model}/rollback", post(orders::take))
        .route("/api/v1/models/{model}/approve", post(orders::take))
        .route("/api/v1/models/{model}/retrain", post(orders::take))
        .route("/v2", get(rest::server))
        .route("/v2/health/live", get(rest::live))
        .route("/v2/health/ready", get(rest::health_ready))
        .route("/v2/repository/index", post(rest::index))
        .route("/v2/repository/models/{model}/load", post(rest::load))
        .route("/v2/repository/models/{model}/unload", post(rest::unload))
        .route("/v2/models/{model}", get(rest::model))
        .route("/v2/models/{model}/ready", get(rest::model_ready))
        .route("/v2/models/{model}/infer", post(rest::infer))
        .route("/v2/models/{model}/versions/{version}", get(rest::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(rest::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(rest::infer))
        .route("/health", get(|| async { axum::Json(serde_json::json!({})) }))
        .route("/get-online-features", post(feast::online_features))
        .route("/mcp", post(mcp::call));
    grpc::routes(router)
        .fallback(|request: Request| async move {
            Failure::new(StatusCode::NOT_FOUND, format!("there is no `{}`", request.uri().path()))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("`{}` does not take {}", request.uri().path(), request.method());
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
        })
        .layer(DefaultBodyLimit::max(options.body_bytes))
        .layer(middleware::from_fn_with_state(shared.clone(), guard::guard))
        .with_state(shared)
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

/// Rows times features beyond which a request is answered on a thread that may be busy for long. Below,
/// changing threads would cost more than the answer.
const QUICK: usize = 20_000;

impl AtHand {
    /// The model that was asked for, and its version.
    pub(super) fn find(&self, model: &str, version: Option<&str>) -> Result<Asked, Failure> {
        let not_found = |message| Failure::new(StatusCode::NOT_FOUND, message);
        let Some(state) = self.scorer.state(model) else {
            let names: Vec<String> = self.scorer.metadata().into_iter().map(|m| m.name).collect();
            let names = names.join(", ");
            return Err(not_found(format!("there is no model `{model}`; there are: {names}")));
        };
        let version = match version.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                let known = text.parse().ok().filter(|number| state.versions.contains(number));
                let none = || not_found(format!("model `{model}` has no version `{text}`"));
                Some(known.ok_or_else(none)?)
            }
        };
        Ok(Asked { model: model.to_string(), version })
    }

    /// Whether a model can score.
    pub(super) fn can_score(&self, asked: &Asked) -> bool {
        let scores = self.scorer.state(&asked.model).is_some_and(|state| state.scores);
        self.scorer.ready() && self.loaded(&asked.model) && (asked.version.is_some() || scores)
    }

    /// Whether a model is in service.
    pub(super) fn loaded(&self, model: &str) -> bool {
        // A set that is whole even if someone panicked while holding it.
        !self.unloaded.read().unwrap_or_else(PoisonError::into_inner).contains(model)
    }

    /// Puts a model into service, or takes it out.
    pub(super) fn load(&self, model: &str, load: bool) {
        let mut unloaded = self.unloaded.write().unwrap_or_else(PoisonError::into_inner);
        if load {
            unloaded.remove(model)
        } else {
            unloaded.insert(model.to_string())
        };
    }

    /// Scores.
    pub(super) async fn score(&self, asked: Asked, question: Question) -> Result<Answer, Failure> {
        if !self.loaded(&asked.model) {
            let why = format!("model `{}` was unloaded; an operator can load it", asked.model);
            return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        let (rows, model) = (question.given.rows, asked.model.clone());
        let scorer = Arc::clone(&self.scorer);
        let answer = self.work(rows, move || scorer.infer(&asked, &question)).await?;
        if answer.scores.len() != rows || !answer.scores.iter().all(|score| score.is_finite()) {
            let message = format!("model `{model}` did not give a finite score for each row");
            return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
        Ok(answer)
    }

    /// Does work on so many rows, on a thread of its own if it may take long. The permit stays with the
    /// work, even when the request has timed out.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        rows: usize,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Failure> {
        let work = held(Arc::clone(&self.permits), work).await?;
        let done = match rows.saturating_mul(self.features.max(1)) <= QUICK {
            true => Ok(work()),
            false => tokio::task::spawn_blocking(work).await,
        };
        match done {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the scorer failed")),
        }
    }

    /// Waits for the run with an order. It takes no place of those who score, nor waits for one.
    pub(super) async fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let order = held(Arc::clone(&self.order_permits), order).await?;
        let failed =
            |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the order could not be given");
        tokio::task::spawn_blocking(order).await.map_err(failed)
    }
}

/// The work with a permit, which stays with it to its end.
async fn held<T>(
    permits: Arc<Semaphore>,
    work: impl FnOnce() -> T,
) -> Result<impl FnOnce() -> T, Failure> {
    let closed = |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    let permit = permits.acquire_owned().await.map_err(closed)?;
    Ok(move || {
        let _permit = permit;
        work()
    })
}
