//! The Model Context Protocol over HTTP, for agents: four tools that read, and none that changes anything.
//!
//! The "streamable HTTP" transport without its stream: each `POST /mcp` is one JSON-RPC 2.0 message and
//! its answer one JSON object, there are no sessions, and a `GET` is refused with 405, all of which the
//! transport allows. Each call of a tool is recorded in the access journal with its arguments; one that
//! cannot be recorded is not answered.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value as Json_, json};
use tidemill_types::time::to_rfc3339;

use super::access::Caller;
use super::feast::json_of;
use super::guard::{is_local, recorded};
use super::protocol::{self, Failure};
use super::rest::plain;
use super::routes::Shared;
use super::{feast, tensor};

/// Versions of the protocol that are spoken, the newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// JSON-RPC's own errors.
const PARSE: i64 = -32_700;
const REQUEST: i64 = -32_600;
const METHOD: i64 = -32_601;
const PARAMS: i64 = -32_602;

/// A message. One without an id wants no answer.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `jsonrpc`, `id`, `method` and `params`")]
pub struct Message {
    jsonrpc: String,
    id: Option<Json_>,
    method: Option<String>,
    #[serde(default)]
    params: Map<String, Json_>,
}

/// Reads a message.
///
/// # Errors
/// A JSON-RPC error, as it is answered.
pub fn read(body: &[u8]) -> Result<Message, Json_> {
    let fail = |code, why: String| error(&Json_::Null, code, why);
    let value: Json_ =
        serde_json::from_slice(body).map_err(|e| fail(PARSE, format!("this is no JSON: {e}")))?;
    if value.is_array() {
        let why = "this is no JSON-RPC message: send one object, and no list of them";
        return Err(fail(REQUEST, why.to_string()));
    }
    let message: Message = serde_json::from_value(value)
        .map_err(|e| fail(REQUEST, format!("this is no JSON-RPC message: {e}")))?;
    match message.jsonrpc == "2.0" {
        true => Ok(message),
        false => Err(fail(REQUEST, "only JSON-RPC 2.0 is spoken".to_string())),
    }
}

fn error(id: &Json_, code: i64, message: String) -> Json_ {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// `POST /mcp`
pub(super) async fn call(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    // A page in a browser must not reach a server on the reader's machine by a name of its own.
    if let Some(origin) = headers.get("origin")
        && !is_local(origin.as_bytes())
    {
        return Err(Failure::new(StatusCode::FORBIDDEN, "calls from web pages are not answered"));
    }
    let body = plain(&headers, body)?;
    let message = match read(&body) {
        Ok(message) => message,
        Err(error) => return Ok((StatusCode::BAD_REQUEST, Json(error)).into_response()),
    };
    let (Some(id), Some(method)) = (message.id, message.method) else {
        // A notification, or an answer to a question that was never asked.
        return Ok(StatusCode::ACCEPTED.into_response());
    };
    let result = match method.as_str() {
        "initialize" => Ok(initialize(&message.params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools(&shared)})),
        "tools/call" => tool(&shared, &caller, &message.params).await?,
        other => Err((METHOD, format!("there is no method `{other}`"))),
    };
    let said = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, why)) => error(&id, code, why),
    };
    Ok(Json(said).into_response())
}

fn initialize(params: &Map<String, Json_>) -> Json_ {
    let asked = params.get("protocolVersion").and_then(Json_::as_str);
    let version = VERSIONS.into_iter().find(|known| Some(*known) == asked).unwrap_or(VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": protocol::NAME, "version": env!("CARGO_PKG_VERSION")},
        "instructions": "Reads features, scores, drift and model versions of a running pipeline.",
    })
}

fn tools(shared: &Shared) -> Json_ {
    let store = shared.scorer.store();
    let kind = |data_type: &tidemill_types::DataType| match data_type {
        tidemill_types::DataType::Bool => "boolean",
        tidemill_types::DataType::Int64 => "integer",
        _ => "string",
    };
    let key: Map<String, Json_> =
        store.entity.iter().map(|(name, t)| (name.clone(), json!({"type": kind(t)}))).collect();
    let parts: Vec<&String> = store.entity.iter().map(|(name, _)| name).collect();
    let tool = |name: &str, description: &str, properties: Json_, required: Json_| {
        json!({
            "name": name,
            "description": description,
            "inputSchema": {"type": "object", "properties": properties, "required": required},
            "annotations": {"readOnlyHint": true},
        })
    };
    json!([
        tool(
            "lookup_features",
            "The newest features of an entity, with their event time and how far the pipeline is; with \
             `as_of`, as a row at that time would get them.",
            json!({
                "key": {"type": "object", "properties": key, "required": parts},
                "features": {"type": "array", "items": {"type": "string"}, "description": "all if not given"},
                "as_of": {"type": "string", "format": "date-time", "description": "not before the newest row; for pipelines whose windows end at the wall clock"},
            }),
            json!(["key"]),
        ),
        tool(
            "explain_score",
            "A row as it was scored: score, versions, features, and by how much the score of today's \
             models changes when a feature is missing.",
            json!({"id": {"type": "string", "description": "the row's id"}}),
            json!(["id"]),
        ),
        tool(
            "drift_status",
            "The last readings of the drift detectors, of one feature or of all.",
            json!({"feature": {"type": "string"}}),
            json!([]),
        ),
        tool(
            "model_history",
            "The versions of a model, oldest first: since when, from what, how good.",
            json!({"name": {"type": "string"}}),
            json!(["name"]),
        ),
    ])
}

type Result_ = Result<Json_, (i64, String)>;

async fn tool(
    shared: &Shared,
    caller: &Caller,
    params: &Map<String, Json_>,
) -> Result<Result_, Failure> {
    let name = params.get("name").and_then(Json_::as_str).unwrap_or_default();
    let none = Map::new();
    let arguments = params.get("arguments").and_then(Json_::as_object).unwrap_or(&none);
    let text = |key: &str| {
        arguments.get(key).and_then(|value| match value {
            Json_::String(text) => Some(text.clone()),
            Json_::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    if !["lookup_features", "explain_score", "drift_status", "model_history"].contains(&name) {
        return Ok(Err((PARAMS, format!("there is no tool `{name}`"))));
    }
    let what = format!("mcp {name} {}", Json_::Object(arguments.clone()));
    recorded(shared, caller, what)?;
    let missing = |key: &str| Err((PARAMS, format!("`{name}` needs `{key}`")));
    let answer = match name {
        "lookup_features" => lookup(shared, arguments).await,
        "explain_score" => match text("id") {
            None => return Ok(missing("id")),
            Some(id) => {
                let scorer = std::sync::Arc::clone(&shared.scorer);
                shared.work(tensor::ROW_LIMIT, move || scorer.explain(&id)).await
            }
        },
        "drift_status" => Ok(shared.scorer.drift(text("feature").as_deref())),
        _ => match text("name") {
            None => return Ok(missing("name")),
            Some(model) => {
                let scorer = std::sync::Arc::clone(&shared.scorer);
                let read = move || Ok(scorer.history(&model));
                shared
                    .work(tensor::ROW_LIMIT, read)
                    .await
                    .and_then(|read| read.map_err(Failure::of_thing))
            }
        },
    };
    // What a tool could not do is told to the agent as its answer, so that it can do better.
    Ok(Ok(match answer {
        Ok(found) => json!({
            "content": [{"type": "text", "text": found.to_string()}],
            "structuredContent": found,
            "isError": false,
        }),
        Err(failure) => {
            json!({"content": [{"type": "text", "text": failure.message}], "isError": true})
        }
    }))
}

async fn lookup(shared: &Shared, arguments: &Map<String, Json_>) -> Result<Json_, Failure> {
    let store = shared.scorer.store();
    let key = arguments.get("key").and_then(Json_::as_object).cloned().unwrap_or_default();
    let columns = key.into_iter().map(|(name, value)| (name, Json_::Array(vec![value])));
    let features = arguments.get("features").cloned().unwrap_or_else(|| json!([]));
    let as_of = arguments.get("as_of");
    let request =
        json!({"features": features, "entities": Map::from_iter(columns), "as_of": as_of});
    let asked = feast::read(request.to_string().as_bytes(), &store)?;
    let (question, wanted) = asked.parts();
    let scorer = std::sync::Arc::clone(&shared.scorer);
    let found = shared.work(1, move || scorer.features(&question, &wanted)).await?;
    let Some(Some(time)) = found.times.first() else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "nothing is held of this entity"));
    };
    let values = found.fields.iter().zip(&found.columns).map(|((name, data_type), column)| {
        (name.clone(), column.first().map_or(Json_::Null, |value| json_of(value, *data_type)))
    });
    Ok(json!({
        "features": Map::from_iter(values),
        "event_time": to_rfc3339(*time),
        "windows_at": found.windows_at.map(to_rfc3339),
        "as_of": found.as_of.map(to_rfc3339),
        "stale": found.stale.first(),
    }))
}
