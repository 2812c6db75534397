//! What of its stream a sink takes.

use std::path::{Component, Path, PathBuf};

use arrow::datatypes::Schema;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, FeaturePlan, Plan, SinkPlan, Stream};
use tidemill_connectors::sink::{Delivery, SINKS, Target, TargetKind};
use tidemill_types::{DataType, Error, Schema as TypedSchema};

use super::super::outputs::schema_of;
use super::Compiled;

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

/// Finds columns of the messages' keys that the rows have not.
fn key(sink: &SinkPlan, rows: &Schema, errors: &mut Vec<Diagnostic>) {
    let wanted = sink.section.params().strings("key");
    let there: Vec<&str> = rows.fields().iter().map(|f| f.name().as_str()).collect();
    for name in wanted.value.iter().filter(|name| !there.contains(&name.as_str())) {
        errors.push(Diagnostic::new(
            &wanted.span,
            format!("`key` of {} names no column: `{name}`", sink.section.path),
            format!("the columns of its rows are {}", there.join(", ")),
            match tidemill_config::suggest(name, there.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "name one of them; a feature that is a column, as card = \"card\", is one too"
                        .into()
                }
            },
        ));
    }
}

/// Finds every column that a sink names and its stream lacks.
pub(super) fn columns(
    sinks: &[SinkPlan],
    ids: DataType,
    features: &TypedSchema,
    errors: &mut Vec<Diagnostic>,
) {
    for sink in sinks {
        let stream = schema_of(sink.stream, ids, features);
        match picked(sink, &stream) {
            Ok(picks) => {
                let rows = picks.and_then(|picks| stream.project(&picks).ok());
                key(sink, rows.as_ref().unwrap_or(&stream), errors);
            }
            Err(found) => errors.extend(found),
        }
    }
}

/// Refuses names that rows of features have columns of already, whether a sink writes them or `tidemill backfill`.
pub(super) fn own_columns(compiled: &Compiled, errors: &mut Vec<Diagnostic>) {
    let own = schema_of(Stream::Features, compiled.id_type(), &TypedSchema::default());
    let names: Vec<String> =
        own.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    let mut refuse = |name: &At<String>, message: String, cure: &str| {
        if own.field_with_name(&name.value).is_ok() {
            let why = format!("each row of features has columns {} of its own", names.join(", "));
            errors.push(Diagnostic::new(&name.span, message, why, cure));
        }
    };
    let plan = &compiled.plan;
    for FeaturePlan { name, .. } in &plan.features {
        refuse(name, format!("`{}` cannot be a feature", name.value), "choose another name");
    }
    let entity = plan.online.iter().flat_map(|online| &online.entity);
    for name in entity.filter(|name| !compiled.is_own_id(&name.value)) {
        let message = format!("`{}` cannot name an entity", name.value);
        let cure =
            "give the column another name in the source: { the_name = \"...\" } in its `columns`";
        refuse(name, message, cure);
    }
}

/// What a sink writes to.
fn targets(sink: &SinkPlan) -> Vec<Target> {
    let entry = SINKS.iter().find(|entry| entry.name == sink.section.kind.value);
    entry.map_or_else(Vec::new, |entry| (entry.targets)(sink))
}

/// The file that a sink writes, with its ending.
fn file_of(sink: &SinkPlan) -> Option<String> {
    let mut targets = targets(sink).into_iter();
    targets.find(|target| target.kind == TargetKind::File).map(|target| target.name.value)
}

/// Refuses sinks that spoil for each other what they write to.
pub(super) fn apart(sinks: &[SinkPlan], errors: &mut Vec<Diagnostic>) {
    let mut known: Vec<(Target, &SinkPlan)> = Vec::new();
    for sink in sinks {
        let own = targets(sink);
        let clash = own.iter().find_map(|target| {
            let of = |(taken, other): &(Target, &SinkPlan)| clash((target, sink), (taken, *other));
            known.iter().find_map(of)
        });
        match clash {
            Some(clash) => errors.push(clash),
            None => known.extend(own.into_iter().map(|target| (target, sink))),
        }
    }
}

/// What is wrong where a sink writes to this and another one to that.
fn clash(
    (target, sink): (&Target, &SinkPlan),
    (taken, other): (&Target, &SinkPlan),
) -> Option<Diagnostic> {
    use TargetKind::{File, Progress, Topic};
    let (mine, theirs) = (&sink.section.path, &other.section.path);
    let (name, other_name) = (&target.name.value, &taken.name.value);
    let one_file = || plain(name) == plain(other_name);
    let one_topic =
        || name == other_name && target.servers.iter().any(|s| taken.servers.contains(s));
    let (message, why, cure) = match (target.kind, taken.kind) {
        (File, File) if one_file() => (
            format!("{mine} writes the file of {theirs}"),
            "each would write over the rows of the other",
            "give one of them another `path`",
        ),
        (Progress, Progress) if one_topic() => (
            format!("{mine} keeps its progress in `{name}`, where {theirs} does"),
            "that name is the transactional id too, and brokers refuse what the first of two with one id writes",
            "give one of them another `progress`, or leave it out: each has a topic of its own then",
        ),
        (Progress, Topic) if one_topic() => (
            format!("{mine} keeps its progress in `{name}`, the topic of {theirs}"),
            "a topic of progress is compacted, and rows would be lost in it",
            "name a topic of its own with `progress`, or leave it out",
        ),
        (Topic, Progress) if one_topic() => (
            format!("{mine} writes into `{name}`, where {theirs} keeps its progress"),
            "a topic of progress is compacted, and rows would be lost in it",
            "give one of them another topic",
        ),
        _ => return None,
    };
    Some(Diagnostic::new(&target.name.span, message, why, cure))
}

/// A path without `.` and, where it can be told, `..`.
fn plain(path: &str) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(plain.components().next_back(), Some(Component::Normal(_))) =>
            {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Refuses a run whose sinks would replace what its sources read; `read` are the files of a source.
///
/// # Errors
/// A sink of a file that is among them.
pub fn replace_no_source<'a>(
    plan: &Plan,
    folder: &Path,
    read: impl IntoIterator<Item = (&'a str, Vec<PathBuf>)>,
) -> Result<(), Error> {
    let written = plan.sinks.iter().filter_map(|sink| {
        // One that is not there replaces nothing.
        let path = folder.join(file_of(sink)?).canonicalize().ok()?;
        Some((path, sink))
    });
    let written: Vec<(PathBuf, &SinkPlan)> = written.collect();
    for (source, files) in read {
        for file in files.iter().filter_map(|file| file.canonicalize().ok()) {
            let Some((_, sink)) = written.iter().find(|(path, _)| *path == file) else { continue };
            let (file, sink) = (file.display(), &sink.section.path);
            return Err(Error::user(format!(
                "{sink} would write over {file}, which the source {source} reads"
            ))
            .help(format!("give {sink} another `path`, or the run another folder with --folder")));
        }
    }
    Ok(())
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
