//! The feature language: SQL expressions, typed before anything runs and evaluated per batch.
//!
//! A *scalar* is an expression over the columns of one row ([`Scalar`]). A *feature* is a scalar in
//! which calls such as `avg(arr_delay) over carrier_3h` may stand ([`Feature`]): they are cut out,
//! computed by windows, and come back as further columns. Scalars are planned and evaluated by
//! DataFusion's component crates; no other module names them.
//!
//! The way of a text: `parse` reads it by the rules of `dialect`, `feature` cuts the calls out, `plan`
//! types and simplifies, `exact` sees to it that this changes no value, `scalar` evaluates.
//!
//! What differs from PostgreSQL: unquoted names keep their case; a timestamp is UTC microseconds and
//! a text without an offset is read as UTC; `ln(0)` is minus infinity and `ln(-1)` NaN; a cast to a
//! whole number cuts, so that `cast(2.7 as bigint)` is 2; the pattern of `similar to` is a constant;
//! of a duration there is no part but its seconds, `date_part('epoch', ...)`, and of a time none that is
//! longer than a year; beyond the year 2262 `date_bin` is NULL. As there, `to_timestamp(x)` takes seconds since 1970, `7 / 2` is 3, `-2 ^ 2` is 4, and whole numbers that overflow or are divided by zero are errors of that row.

mod dialect;
mod exact;
mod feature;
mod function;
mod microseconds;
mod parse;
mod plan;
mod scalar;

use std::fmt;
use std::ops::Range;

use crate::column::values;

pub use feature::{Call, Feature, parse_feature};
pub use function::{listed as listed_functions, names as functions};
pub use scalar::Scalar;

/// Why a text is not an expression of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Why it is wrong: stands under the excerpt.
    pub reason: String,
    /// What to do about it.
    pub help: String,
    /// Bytes of the text; none where the whole text is meant.
    pub span: Option<Range<usize>>,
    /// What is not there, if that is what is wrong.
    pub missing: Option<Box<Missing>>,
}

/// A column that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// As it was written.
    pub column: String,
    /// The window among whose columns it was looked for; none for those of the row itself.
    pub window: Option<String>,
}

impl ExpressionError {
    fn new(
        message: impl Into<String>,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> ExpressionError {
        ExpressionError {
            message: message.into(),
            reason: reason.into(),
            help: help.into(),
            span: None,
            missing: None,
        }
    }

    fn at(mut self, span: impl Into<Option<Range<usize>>>) -> ExpressionError {
        self.span = span.into();
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.message, self.reason, self.help)
    }
}

impl std::error::Error for ExpressionError {}

/// The candidate that was probably meant: equal but for case, else the closest within a third of
/// the length, at least one edit.
fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Names for a help line: `` `a`, `b` ``, the first dozen.
fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".into(),
        n if n > shown.len() => format!("{} and {} more", shown.join(", "), n - shown.len()),
        _ => shown.join(", "),
    }
}

/// What to write instead of an unknown name.
fn suggestion<'a>(
    wanted: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(wanted, candidates.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{what}: {}", list(candidates)),
    }
}

/// What the layers of the libraries below put before an error on its way.
const LAYERS: [&str; 13] = [
    "Arrow error: ",
    "Cast error: ",
    "Compute error: ",
    "Error during planning: ",
    "Execution error: ",
    "External error: ",
    "Internal error: ",
    "Invalid argument error: ",
    "Not yet implemented: ",
    "Parser error: ",
    "Schema error: ",
    "This feature is not implemented: ",
    "type_coercion\ncaused by\n",
];

/// The first line of an error of the libraries below, without the names of their layers.
fn words(error: &impl fmt::Display) -> String {
    let error = error.to_string();
    let mut text = error.as_str();
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    text.lines().next().unwrap_or_default().to_string()
}

/// Runs third-party code on the user's input; a panic in it becomes an error instead of the end of
/// the pipeline.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| text.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        format!("the expression library failed: {text}")
    })
}
