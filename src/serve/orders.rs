//! Orders about models: what a page of the dashboard, or a program, asks to be done.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, MatchedPath, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::access::Caller;
use super::guard::{recorded, refuse_foreign};
use super::protocol::{Failure, object};
use super::rest::plain;
use super::routes::Shared;

/// What somebody wants done. It holds a token, and is never printed.
pub struct Wish {
    /// Who, as the tokens file names them.
    pub who: String,
    /// Their token, if they have sent one: the run may want to see it proven.
    pub token: Option<String>,
    /// The model.
    pub model: String,
    /// What.
    pub what: What,
    /// Why, in their words.
    pub why: String,
}

/// What may be wanted of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Put this version in charge.
    Promote(u64),
    /// Go back to the version before, or to this one.
    RollBack(Option<u64>),
    /// It may serve, as far as I am concerned.
    Approve(u64),
    /// Train it anew on what is known now.
    Retrain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `why`")]
struct Asked {
    version: Option<u64>,
    why: String,
}

/// An order, for whoever sends something else.
const EXAMPLE: &str = r#"{"version": 3, "why": "it is better"}"#;

/// Characters of a reason.
const WHY: usize = 300;

/// `POST /api/v1/models/{model}/promote`, and likewise `rollback`, `approve` and `retrain`.
pub(super) async fn take(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(model): Path<String>,
    route: MatchedPath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let (version, why) = read(&caller, &headers, body)?;
    let what = match route.as_str().rsplit('/').next() {
        Some("promote") => What::Promote(wanted(version)?),
        Some("approve") => What::Approve(wanted(version)?),
        Some("retrain") => What::Retrain,
        _ => What::RollBack(version),
    };
    order(&shared, &caller, &headers, model, what, why).await
}

fn wanted(version: Option<u64>) -> Result<u64, Failure> {
    version.ok_or_else(|| Failure::invalid("`version` says which version is meant"))
}

/// The version and the reason; refuses what a foreign page could make a browser send.
fn read(
    caller: &Caller,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Option<u64>, String), Failure> {
    refuse_foreign(caller, headers)?;
    let body = plain(headers, body)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    // Of the types that a form may have, this is none: a browser asks before it sends it elsewhere.
    if kind.is_none_or(|kind| kind.split(';').next() != Some("application/json")) {
        let why = "an order is application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let asked: Asked = object(&body, "this is no order", || EXAMPLE.to_string())?;
    let why = asked.why.trim();
    if why.is_empty() || why.chars().count() > WHY || why.chars().any(char::is_control) {
        let wrong = format!("`why` is a reason of 1 to {WHY} characters on one line");
        return Err(Failure::invalid(wrong));
    }
    Ok((asked.version, why.to_string()))
}

async fn order(
    shared: &Shared,
    caller: &Caller,
    headers: &HeaderMap,
    model: String,
    what: What,
    why: String,
) -> Result<Response, Failure> {
    let said = match what {
        What::Promote(version) => format!("promote {model} {version}"),
        What::RollBack(None) => format!("rollback {model}"),
        What::RollBack(Some(version)) => format!("rollback {model} {version}"),
        What::Approve(version) => format!("approve {model} {version}"),
        What::Retrain => format!("retrain {model}"),
    };
    recorded(shared, caller, format!("{said}: {why}"))?;
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|text| text.get(7..)).map(|token| token.trim().to_string());
    let wish = Wish { who: caller.name.to_string(), token, model, what, why };
    let watched = Arc::clone(&shared.watched);
    // It waits for the run, on a thread that may.
    let done = shared.order(move || watched.order(&wish)).await?;
    let answer = done.map_err(|error| Failure::of(error, StatusCode::CONFLICT))?;
    Ok(Json(answer).into_response())
}
