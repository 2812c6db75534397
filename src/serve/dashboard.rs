//! The dashboard: a page without a build step or a foreign script, and the JSON API that feeds it.
//!
//! The page and its parts hold nothing secret and need nobody; what they show comes from `/api/v1`, which
//! wants a viewer. A token that the reader types stays in their browser's session and goes out as a header,
//! never as a cookie: a foreign page that makes the browser send something sends nobody's token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidemill_types::Error;

use super::access::Caller;
use super::orders::Wish;
use super::protocol::Failure;
use super::routes::Shared;
use super::tensor;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// What the pipeline is made of.
    Pipeline,
    /// How far everything is, and how fast.
    Status,
    /// What was counted in each of the last seconds.
    Rates,
    /// Late rows and dead letters.
    Rejects,
    /// Freshness and skew of features.
    Features,
    /// A map of drift; the first there is, where neither is named.
    Drift {
        /// The section of the pipeline file.
        section: Option<String>,
        /// The detector.
        detector: Option<String>,
    },
    /// Versions of models.
    Models,
    /// The newest alerts.
    Alerts,
    /// The newest records of the journal.
    Journal {
        /// Those before this number.
        before: Option<u64>,
        /// So many at most.
        limit: usize,
    },
}

/// What the dashboard asks of the engine.
///
/// [`Watched::read`] is called from threads of the server, several at a time, and may read from the disk.
pub trait Watched: Send + Sync + 'static {
    /// The answer, in the form that `docs/dashboard.md` describes.
    ///
    /// # Errors
    /// Something that is not there, or a file that cannot be read.
    fn read(&self, view: &View) -> Result<Value, Error>;

    /// Passes an order on to the run, and says what came of it: `state` is `done` or `waiting`.
    ///
    /// # Errors
    /// What the run refuses, with the reason, as the user's fault.
    fn order(&self, wish: &Wish) -> Result<Value, Error>;
}

/// The files of the page.
const FILES: &[(&str, &str, &str)] = &[
    (
        "base.css",
        CSS,
        concat!(include_str!("../report/colours.css"), include_str!("dashboard/base.css")),
    ),
    ("parts.css", CSS, include_str!("dashboard/parts.css")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("app.js", JS, include_str!("dashboard/app.js")),
    ("api.js", JS, include_str!("dashboard/api.js")),
    ("dom.js", JS, include_str!("dashboard/dom.js")),
    ("graph.js", JS, include_str!("dashboard/graph.js")),
    ("rejects.js", JS, include_str!("dashboard/rejects.js")),
    ("features.js", JS, include_str!("dashboard/features.js")),
    ("drift.js", JS, include_str!("dashboard/drift.js")),
    ("models.js", JS, include_str!("dashboard/models.js")),
    ("alerts.js", JS, include_str!("dashboard/alerts.js")),
    ("journal.js", JS, include_str!("dashboard/journal.js")),
];

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const INDEX: &str = include_str!("dashboard/index.html");

/// Only what this server gives may run, be shown or be asked, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page(kind: &'static str, text: &'static str) -> Response {
    let fixed = HeaderValue::from_static;
    let headers = [
        (header::CONTENT_TYPE, fixed(kind)),
        (header::CONTENT_SECURITY_POLICY, fixed(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        // A later build has other files of the same names.
        (header::CACHE_CONTROL, fixed("no-cache")),
    ];
    (headers, text).into_response()
}

/// `GET /`
pub(super) async fn index() -> Response {
    page("text/html; charset=utf-8", INDEX)
}

/// `GET /assets/{file}`
pub(super) async fn asset(Path(file): Path<String>) -> Result<Response, Failure> {
    let found = FILES.iter().find(|(name, ..)| *name == file);
    let none = || Failure::new(StatusCode::NOT_FOUND, "the dashboard has no such file");
    let (_, kind, text) = found.ok_or_else(none)?;
    Ok(page(kind, text))
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(known, _)| *known == key).map(|(_, value)| value).next_back()
}

fn number<T: std::str::FromStr>(query: &str, key: &str) -> Result<Option<T>, Failure> {
    let wrong = |_| Failure::invalid(format!("`{key}` is no number"));
    value(query, key).map(str::parse).transpose().map_err(wrong)
}

/// What a path of the API asks for.
fn view(name: &str, query: &str) -> Result<View, Failure> {
    // Names of sections and detectors have no character that would be escaped.
    let text = |key| value(query, key).filter(|text| !text.is_empty()).map(str::to_string);
    Ok(match name {
        "pipeline" => View::Pipeline,
        "status" => View::Status,
        "rates" => View::Rates,
        "rejects" => View::Rejects,
        "features" => View::Features,
        "drift" => View::Drift { section: text("drift"), detector: text("detector") },
        "models" => View::Models,
        "alerts" => View::Alerts,
        "journal" => View::Journal {
            before: number(query, "before")?,
            limit: number(query, "limit")?.unwrap_or(50),
        },
        _ => {
            let why = "there is no such view; there are: pipeline, status, rates, rejects, \
                       features, drift, models, alerts, journal";
            return Err(Failure::new(StatusCode::NOT_FOUND, why));
        }
    })
}

/// `GET /api/v1/{view}`
pub(super) async fn read(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let view = view(&name, query.as_deref().unwrap_or_default())?;
    let watched = Arc::clone(&shared.watched);
    // What reads from the disk must not hold up others.
    let rows = match view {
        View::Models | View::Journal { .. } | View::Drift { .. } => tensor::ROW_LIMIT,
        _ => 1,
    };
    let is_pipeline = view == View::Pipeline;
    let mut answer =
        shared.work(rows, move || Ok(watched.read(&view))).await?.map_err(Failure::of_thing)?;
    if is_pipeline {
        answer["caller"] = json!({"name": *caller.name, "role": caller.role.name()});
    }
    let fresh = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((fresh, Json(answer)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_or_refused() {
        let drift = |section: Option<&str>, detector: Option<&str>| View::Drift {
            section: section.map(str::to_string),
            detector: detector.map(str::to_string),
        };
        let cases = [
            ("drift", "", Some(drift(None, None))),
            ("drift", "drift=features&detector=psi", Some(drift(Some("features"), Some("psi")))),
            ("drift", "detector=", Some(drift(None, None))),
            ("journal", "", Some(View::Journal { before: None, limit: 50 })),
            ("journal", "before=7&limit=3", Some(View::Journal { before: Some(7), limit: 3 })),
            ("journal", "before=x", None),
            ("journal", "limit=-1", None),
            ("secrets", "", None),
        ];
        for (name, query, wanted) in cases {
            assert_eq!(view(name, query).ok(), wanted, "{name}?{query}");
        }
    }

    /// A file that is named by another and not on the list would be missing in the browser only.
    #[test]
    fn every_file_that_is_named_is_there() {
        let names: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        let texts = FILES.iter().map(|(_, _, text)| *text).chain([INDEX]);
        let mut found = 0;
        for text in texts {
            for (before, after) in [("\"./", '"'), ("\"/assets/", '"')] {
                for rest in text.split(before).skip(1) {
                    let name = rest.split(after).next().unwrap_or_default();
                    assert!(names.contains(&name), "{name} is named and not on the list");
                    found += 1;
                }
            }
            // The policy would not run or show it.
            for foreign in ["innerHTML", "style=\"", "http://", "onclick=", "eval("] {
                let allowed = text.matches("http://www.w3.org/").count();
                let n = text.matches(foreign).count();
                assert!(n == 0 || (foreign == "http://" && n == allowed), "{foreign}");
            }
        }
        assert!(found > FILES.len(), "only {found} names were found");
    }
}
