//! Features over the HTTP API of Feast's feature server: `POST /get-online-features`.
//!
//! The pipeline is the one feature view, under its own name, and the one feature service. A request
//! names entities, and may give columns of the spine beside them (Feast's request data): features that
//! read those are computed with what is given, by the expressions that the pipeline runs.
//!
//! The answer has a result for each name, in the order of `metadata.feature_names`. Statuses are
//! `PRESENT`, `NULL_VALUE`, `NOT_FOUND` (nothing is held of the entity) and `OUTSIDE_MAX_AGE`.

use std::borrow::Cow;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hashbrown::{HashMap, HashSet};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json_, json};
use tidemill_types::time::to_rfc3339;
use tidemill_types::{DataType, Value};

use super::protocol::{Failure, moment, object};
use super::rest::plain;
use super::routes::Shared;
use super::scorer::{FeatureRows, Features, Question, Refusal, StoreInfo};
use super::tensor::ROW_LIMIT;

/// A request for features.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `entities`, and with `features` or `feature_service`")]
pub struct OnlineRequest {
    /// `view:feature`, or the name alone.
    features: Option<Vec<String>>,
    /// The pipeline's name stands for all features.
    feature_service: Option<String>,
    /// Values by column, one a row.
    entities: Map<String, Json_>,
    /// The same, under the name that some clients use.
    #[serde(default)]
    request_context: Option<Map<String, Json_>>,
    /// The moment as of which windows are wanted: RFC 3339, or microseconds since 1970.
    as_of: Option<Json_>,
    /// Whether names carry the view: `view__feature`.
    #[serde(default)]
    full_feature_names: bool,
}

/// An error as Feast's server words it: a string that holds JSON.
struct Refused(Failure);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let class = match self.0.status {
            StatusCode::NOT_FOUND => "FeatureViewNotFoundException",
            _ => "PydanticSchemaError",
        };
        let status = match self.0.status {
            StatusCode::BAD_REQUEST => StatusCode::UNPROCESSABLE_ENTITY,
            other => other,
        };
        let text = json!({"module": "feast.errors", "class": class, "message": self.0.message})
            .to_string();
        let mut response = self.0.into_response();
        *response.status_mut() = status;
        let (parts, _) = response.into_parts();
        let mut body = Json(Json_::String(text)).into_response();
        *body.status_mut() = parts.status;
        if let Some(after) = parts.headers.get(header::RETRY_AFTER) {
            body.headers_mut().insert(header::RETRY_AFTER, after.clone());
        }
        body
    }
}

/// `POST /get-online-features`
pub(super) async fn online_features(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match answer(&shared, &headers, body).await {
        Ok(json) => {
            let kind = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, kind)], json).into_response()
        }
        Err(failure) => Refused(failure).into_response(),
    }
}

async fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Vec<u8>, Failure> {
    let body = plain(headers, body)?;
    let store = shared.scorer.store();
    let asked = read(&body, &store)?;
    let scorer = std::sync::Arc::clone(&shared.scorer);
    let Asked { question, wanted, full, keys } = asked;
    let rows = question.given.rows;
    let answer = move || {
        let found = scorer.features(&question, &wanted)?;
        write(&store, &keys, &found, full)
    };
    shared.work(rows, answer).await
}

/// A request, understood.
#[derive(Debug)]
pub struct Asked {
    /// What is looked up.
    pub question: Question,
    /// The features wanted.
    wanted: Vec<String>,
    full: bool,
    /// The columns that came, as they came.
    keys: Vec<(String, Vec<Json_>)>,
}

impl Asked {
    /// What is looked up, and the features wanted.
    pub(super) fn parts(self) -> (Question, Vec<String>) {
        (self.question, self.wanted)
    }
}

/// A request, for whoever sends something else.
fn example(store: &StoreInfo) -> String {
    let name = |of: &[(String, DataType)]| of.first().map_or("NAME".to_string(), |f| f.0.clone());
    let key = Map::from_iter([(name(&store.entity), json!(["VALUE"]))]);
    json!({"features": [name(&store.features)], "entities": key}).to_string()
}

/// Reads a request.
///
/// # Errors
/// What is no request, names what is not there, or has columns of different lengths.
pub fn read(body: &[u8], store: &StoreInfo) -> Result<Asked, Failure> {
    let wrong = "the body is no request for features";
    let request: OnlineRequest = object(body, wrong, || example(store))?;
    if store.entity.is_empty() {
        let why = format!(
            "pipeline `{}` holds no features by entity: add [online] with `entity` to it",
            store.pipeline
        );
        return Err(Failure::new(StatusCode::NOT_FOUND, why));
    }
    let known = |view: &str| -> Result<(), Failure> {
        let why = || format!("there is no feature view `{view}`; there is: {}", store.pipeline);
        let found = view == store.pipeline;
        found.then_some(()).ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, why()))
    };
    let wanted = match (&request.features, &request.feature_service) {
        (Some(features), _) => {
            let name = |text: &String| match text.split_once(':') {
                Some((view, feature)) => known(view).map(|()| feature.to_string()),
                None => Ok(text.clone()),
            };
            distinct(features.iter().map(name).collect::<Result<_, _>>()?, store)?
        }
        (None, Some(service)) => {
            known(service)?;
            store.features.iter().map(|(name, _)| name.clone()).collect()
        }
        (None, None) => return Err(Failure::invalid("name `features` or a `feature_service`")),
    };
    let typed = store.entity.iter().chain(&*store.on_demand).chain(&*store.features).rev();
    // Of equal names the first counts.
    let types: HashMap<&str, DataType> = typed.map(|(name, t)| (name.as_str(), *t)).collect();
    let mut keys = Vec::new();
    let mut given = Features::default();
    let mut rows = None;
    let mut seen = HashSet::new();
    for (name, values) in
        request.entities.into_iter().chain(request.request_context.into_iter().flatten())
    {
        let Json_::Array(values) = values else {
            return Err(Failure::invalid(format!("`{name}` is no list of values")));
        };
        if *rows.get_or_insert(values.len()) != values.len() || values.len() > ROW_LIMIT {
            let n = values.len();
            return Err(Failure::invalid(format!(
                "`{name}` has {n} values: all columns have as many, and {ROW_LIMIT} at most"
            )));
        }
        let data_type = types.get(name.as_str()).copied();
        let of = |value: &Json_| value_of(value, data_type);
        let column: Option<Vec<Value>> = values.iter().map(of).collect();
        let column = column.ok_or_else(|| {
            let wanted = data_type.map_or("a value", DataType::name);
            Failure::invalid(format!("a value of `{name}` is not {wanted}"))
        })?;
        if !seen.insert(name.clone()) {
            return Err(Failure::invalid(format!("`{name}` is given twice")));
        }
        given.columns.push((name.clone(), column));
        keys.push((name, values));
    }
    given.rows = rows.ok_or_else(|| Failure::invalid("`entities` is empty"))?;
    // None named are all.
    let features = if wanted.is_empty() { store.features.len() } else { wanted.len() };
    let cells = given.rows.saturating_mul(features);
    if cells > CELLS {
        let rows = given.rows;
        let why = format!(
            "{rows} rows of {features} features are {cells} values, and {CELLS} are answered at a time: ask for fewer"
        );
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    let as_of = moment(request.as_of.as_ref())?;
    let question = Question { given, as_of, ..Question::default() };
    Ok(Asked { question, wanted, full: request.full_feature_names, keys })
}

/// Values that are answered at a time: some hundred megabytes of JSON while it is made.
const CELLS: usize = 1_000_000;

/// Names of features, each once and each known.
fn distinct(wanted: Vec<String>, store: &StoreInfo) -> Result<Vec<String>, Failure> {
    let known: HashSet<&str> = store.features.iter().map(|(name, _)| name.as_str()).collect();
    let mut seen = HashSet::new();
    for name in &wanted {
        if !known.contains(name.as_str()) {
            return Err(Failure::invalid(format!("there is no feature `{name}`")));
        }
        if !seen.insert(name) {
            return Err(Failure::invalid(format!("feature `{name}` is asked for twice")));
        }
    }
    drop(seen);
    Ok(wanted)
}

/// A value of JSON as a column has it. Clients that send every key as a text, as some do, mean the number.
fn value_of(value: &Json_, data_type: Option<DataType>) -> Option<Value> {
    Some(match (value, data_type) {
        (Json_::Null, _) => Value::Null,
        (Json_::Bool(b), _) => Value::Bool(*b),
        (Json_::String(text), Some(DataType::Int64)) => Value::Int(text.parse().ok()?),
        (Json_::String(text), Some(DataType::Timestamp)) => {
            Value::Int(tidemill_types::time::from_rfc3339(text)?)
        }
        (Json_::String(text), _) => Value::Text(text.as_str().into()),
        (Json_::Number(n), Some(DataType::Float64)) => Value::Float(n.as_f64()?),
        (Json_::Number(n), _) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64()?),
        },
        (Json_::Array(items), Some(DataType::List(item))) => {
            let item = |value| value_of(value, Some(item.into()));
            items.iter().map(item).collect::<Option<Value>>()?
        }
        (Json_::Object(entries), Some(DataType::Map(item))) => {
            let entry = |(key, value): (&String, &Json_)| {
                Some((key.as_str().into(), value_of(value, Some(item.into()))?))
            };
            Value::map(entries.iter().map(entry).collect::<Option<Vec<_>>>()?)
        }
        (Json_::Array(_) | Json_::Object(_), _) => return None,
    })
}

/// A value as JSON; times as RFC 3339.
pub fn json_of(value: &Value, data_type: DataType) -> Json_ {
    match value {
        Value::Null => Json_::Null,
        Value::Bool(b) => json!(b),
        Value::Int(i) if data_type == DataType::Timestamp => json!(to_rfc3339(*i)),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Text(text) => json!(text.as_ref()),
        Value::List(items) => {
            let item = match data_type {
                DataType::List(item) => DataType::from(item),
                _ => data_type,
            };
            items.iter().map(|value| json_of(value, item)).collect()
        }
        Value::Map(entries) => {
            let item = match data_type {
                DataType::Map(item) => DataType::from(item),
                _ => data_type,
            };
            let each = entries.iter().map(|(key, value)| (key.to_string(), json_of(value, item)));
            Json_::Object(each.collect())
        }
    }
}

const EPOCH: &str = "1970-01-01T00:00:00Z";

/// An answer, written from where its values are.
#[derive(Serialize)]
struct Said<'a> {
    metadata: Metadata<'a>,
    results: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    feature_names: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows_at: Option<String>,
}

/// What is told of one name, row by row.
#[derive(Serialize)]
struct Told<'a> {
    values: Cells<'a>,
    statuses: Vec<&'static str>,
    event_timestamps: &'a [Cow<'static, str>],
}

enum Cells<'a> {
    /// As they came.
    Key(&'a [Json_]),
    Column(&'a [Value], DataType),
}

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Cells::Key(values) => values.serialize(serializer),
            Cells::Column(values, data_type) => {
                serializer.collect_seq(values.iter().map(|value| Cell(value, data_type)))
            }
        }
    }
}

/// A value as [`json_of`] has it.
struct Cell<'a>(&'a Value, DataType);

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Float(x) => serializer.serialize_f64(*x),
            Value::Text(text) => serializer.serialize_str(text),
            other => json_of(other, self.1).serialize(serializer),
        }
    }
}

/// The body of an answer.
fn write(
    store: &StoreInfo,
    keys: &[(String, Vec<Json_>)],
    found: &FeatureRows,
    full: bool,
) -> Result<Vec<u8>, Refusal> {
    let rows = found.times.len();
    let never = vec![Cow::Borrowed(EPOCH); rows];
    let time = |time: &Option<_>| time.map_or(Cow::Borrowed(EPOCH), |t| to_rfc3339(t).into());
    let times: Vec<Cow<'static, str>> = found.times.iter().map(time).collect();
    let status = |value: &Value, row: usize| match (value, found.times[row]) {
        // What was computed from the request alone is there without an entity.
        (Value::Null, None) => "NOT_FOUND",
        _ if found.stale[row] => "OUTSIDE_MAX_AGE",
        (Value::Null, Some(_)) => "NULL_VALUE",
        _ => "PRESENT",
    };
    let of_keys = keys.iter().map(|(name, values)| {
        let (values, statuses) = (Cells::Key(values), vec!["PRESENT"; rows]);
        (Cow::Borrowed(name.as_str()), Told { values, statuses, event_timestamps: &never })
    });
    let of_features = found.fields.iter().zip(&found.columns).map(|((name, data_type), column)| {
        let name = match full {
            true => Cow::Owned(format!("{}__{name}", store.pipeline)),
            false => Cow::Borrowed(name.as_str()),
        };
        let statuses = column.iter().enumerate().map(|(row, value)| status(value, row)).collect();
        let values = Cells::Column(column, *data_type);
        (name, Told { values, statuses, event_timestamps: &times })
    });
    let (feature_names, results) = of_keys.chain(of_features).unzip();
    let metadata = Metadata { feature_names, windows_at: found.windows_at.map(to_rfc3339) };
    let said = Said { metadata, results };
    serde_json::to_vec(&said).map_err(|e| Refusal::Unavailable(e.to_string()))
}
