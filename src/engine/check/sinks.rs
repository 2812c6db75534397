//! What of its stream a sink takes.

use arrow::datatypes::Schema;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{Plan, SinkPlan, Stream};
use tidemill_connectors::sink::{Delivery, SINKS};
use tidemill_types::{DataType, Schema as TypedSchema};

use super::super::outputs::schema_of;

/// The places in its stream of the columns that a sink names, in the sink's order; none where it takes
/// the rows as they are.
///
/// # Errors
/// A name that the stream has no column of, no name at all, or one name twice.
pub fn picked(sink: &SinkPlan, stream: &Schema) -> Result<Option<Vec<usize>>, Vec<Diagnostic>> {
    let Some(columns) = &sink.columns else { return Ok(None) };
    let whose = format!("`columns` of {}", sink.section.path);
    let there: Vec<&str> = stream.fields().iter().map(|f| f.name().as_str()).collect();
    let mut errors = Vec::new();
    if columns.is_empty() {
        errors.push(Diagnostic::new(
            &sink.section.span,
            format!("{whose} is empty"),
            "a row of nothing cannot be written",
            "name some columns, or leave `columns` out for all of them",
        ));
    }
    let mut picks = Vec::with_capacity(columns.len());
    for name in columns {
        match there.iter().position(|column| *column == name.value) {
            Some(place) if picks.contains(&place) => errors.push(Diagnostic::new(
                &name.span,
                format!("{whose} names `{}` twice", name.value),
                "names tell the columns of a row apart",
                "leave it out here",
            )),
            Some(place) => picks.push(place),
            None => errors.push(Diagnostic::new(
                &name.span,
                format!("{whose} names no column: `{}`", name.value),
                format!("the columns of {} are {}", sink.stream.name(), there.join(", ")),
                match tidemill_config::suggest(&name.value, there.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name one of them".to_string(),
                },
            )),
        }
    }
    if errors.is_empty() { Ok(Some(picks)) } else { Err(errors) }
}

/// Finds every column that a sink names and its stream lacks.
pub(super) fn columns(
    sinks: &[SinkPlan],
    ids: DataType,
    features: &TypedSchema,
    errors: &mut Vec<Diagnostic>,
) {
    for sink in sinks {
        let found = picked(sink, &schema_of(sink.stream, ids, features)).map(drop);
        super::collect(found, errors);
    }
}

/// Refuses sinks that pass over rows which are there already, where a run that is started again does not make
/// the same rows in the same order.
pub(super) fn repeatable(plan: &Plan, errors: &mut Vec<Diagnostic>) {
    let passes_over = |sink: &&SinkPlan| {
        let entry = SINKS.iter().find(|entry| entry.name == sink.section.kind.value);
        entry.is_some_and(|entry| (entry.delivery)(sink) == Delivery::Transactions)
    };
    for sink in plan.sinks.iter().filter(passes_over) {
        let whose = format!("{} cannot be exactly once", sink.section.path);
        let mut refuse = |why: &str, cure: &str| {
            errors.push(Diagnostic::new(&sink.section.span, whose.clone(), why, cure));
        };
        if plan.checkpoint.is_none() {
            refuse(
                "without checkpoints a run that is started again begins at the beginning, where a topic may have \
                 nothing any more",
                "set `enabled = true` in [checkpoint], or leave `delivery` out",
            );
        }
        if matches!(sink.stream, Stream::DeadLetters | Stream::Late) {
            refuse(
                &format!("the order of {} differs from run to run", sink.stream.name()),
                "leave `delivery` out; a sink of type \"file\" has each of them once",
            );
        }
    }
}
