//! Windows and the calls over them: which share a group, what each group keeps and answers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, Edge, Exclude, Frame, MOST_ROWS, Plan, Series, WindowPlan};
use tidemill_operators::aggregate::{self, Unnest};
use tidemill_operators::dataflow::{CallProgram, FeatureProgram, GroupProgram, StreamProgram};
use tidemill_operators::expression::{Call, ExpressionError, Feature, Scalar};
use tidemill_operators::window::{Group, Output};
use tidemill_types::{DataType, Schema, Value};

use super::shared::Shared;
use super::{Derive, diagnostic, inside};

/// Windows as compiled: the groups that they share.
pub(super) struct Groups<'a> {
    plan: &'a Plan,
    sources: &'a [Derive],
    /// By window.
    shared: Vec<Shared<'a>>,
    zone: &'a str,
    pub(super) groups: Vec<GroupProgram>,
    /// What a group already keeps, so that nothing is kept twice.
    known: BTreeMap<(usize, String), usize>,
    /// What a group already answers.
    asked: BTreeMap<(usize, String), CallProgram>,
}

impl<'a> Groups<'a> {
    /// No groups yet; `zone` is that of the spine's times.
    pub(super) fn new(plan: &'a Plan, sources: &'a [Derive], zone: &'a str) -> Groups<'a> {
        let (groups, known, asked) = Default::default();
        let shared = |window| Shared::of(window, plan, sources);
        let shared = plan.windows.iter().map(shared).collect();
        Groups { plan, sources, shared, zone, groups, known, asked }
    }

    fn place(&self, window: &str) -> Option<usize> {
        self.plan.windows.iter().position(|known| known.name.value == window)
    }

    /// The columns that calls over a window may read.
    pub(super) fn columns(&self, window: &str) -> Option<Schema> {
        self.place(window).map(|at| self.shared[at].schema.clone())
    }

    /// An error of a feature. What is missing may be there in one of a window's sources.
    pub(super) fn wrong(&self, text: &At<String>, error: ExpressionError) -> Diagnostic {
        let why = error.missing.as_ref().and_then(|missing| {
            let window = missing.window.as_deref()?;
            let shared = &self.shared[self.place(window)?];
            let span = inside(text, error.span.as_ref());
            shared.why_not(&At { value: missing.column.clone(), span }, window)
        });
        why.unwrap_or_else(|| diagnostic(text, error))
    }

    /// The group of each window.
    pub(super) fn windows(&mut self, errors: &mut Vec<Diagnostic>) -> Vec<usize> {
        let spine = self.plan.pipeline.spine.value;
        let mut of: BTreeMap<_, usize> = BTreeMap::new();
        let mut windows = Vec::new();
        for (window, shared) in self.plan.windows.iter().zip(&self.shared) {
            let by: Vec<(String, String)> =
                window.by.iter().map(|(c, e)| (c.value.clone(), e.value.clone())).collect();
            let next = self.groups.len();
            let index = *of.entry((window.sources.as_slice(), by)).or_insert(next);
            windows.push(index);
            if let Some(column) = &window.secondary {
                match shared.why_not(column, &window.name.value) {
                    Some(why) => errors.push(why),
                    None => check_secondary(column, &shared.schema, errors),
                }
            }
            if index < next {
                self.groups[index].names.push(window.name.value.clone());
                continue;
            }
            let (mut source_key, mut spine_key) = (Vec::new(), Vec::new());
            for (column, expression) in &window.by {
                if let Some(why) = shared.why_not(column, &window.name.value) {
                    errors.push(why);
                    continue;
                }
                let ours = Scalar::compile(&quoted(&column.value), &shared.schema, self.zone);
                let theirs =
                    Scalar::compile(&expression.value, &self.sources[spine].schema, self.zone);
                match (ours, theirs) {
                    (Ok(ours), _) if ours.data_type().is_nested() => errors.push(Diagnostic::new(
                        &column.span,
                        format!("`{}` cannot be the key of a window", column.value),
                        format!("its type is {}, and a row has one key", ours.data_type()),
                        "name a column of single values; for a window of each item, aggregate by \
                         the items instead: sum_per(x, unnest(items))",
                    )),
                    (Ok(ours), Ok(theirs)) if ours.data_type() == theirs.data_type() => {
                        source_key.push(column);
                        spine_key.push(theirs);
                    }
                    (Ok(ours), Ok(theirs)) => errors.push(Diagnostic::new(
                        &expression.span,
                        format!("`{}` and `{}` can never be equal", column.value, expression.value),
                        format!("their types are {} and {}", ours.data_type(), theirs.data_type()),
                        "convert one of them, for example by a computed column",
                    )),
                    (Err(error), _) => errors.push(diagnostic(column, error)),
                    (_, Err(error)) => errors.push(diagnostic(expression, error)),
                }
            }
            let key = |source: usize| {
                let of = |column: &&At<String>| quoted(&column.value);
                let schema = &self.sources[source].schema;
                let columns = source_key.iter().map(of);
                columns.filter_map(|text| Scalar::compile(&text, schema, self.zone).ok()).collect()
            };
            let streams = shared.streams().map(|(source, rank, shared)| {
                let key = key(source);
                StreamProgram { source, rank, key, shared }
            });
            let own_stream = window.sources.contains(&spine);
            self.groups.push(GroupProgram {
                names: vec![window.name.value.clone()],
                streams: streams.collect(),
                spine_key,
                columns: Vec::new(),
                group: Group { own_stream, outputs: Vec::new() },
                outputs: Vec::new(),
            });
        }
        windows
    }

    /// Compiles a feature: its calls become outputs of their groups.
    pub(super) fn feature(
        &mut self,
        text: &At<String>,
        parsed: Feature,
        windows: &[usize],
        spine: &Schema,
    ) -> Result<FeatureProgram, Diagnostic> {
        let mut calls = Vec::new();
        let mut types = Vec::new();
        for call in &parsed.calls {
            let Some(at) = self.place(&call.window) else { continue };
            let window = &self.plan.windows[at];
            let place = inside(text, Some(&call.span));
            within_rows(call, window, &place)?;
            let typed = aggregate::Call {
                name: &call.function,
                distinct: call.distinct,
                input: call.argument.as_ref().map(Scalar::data_type),
                second: call.second.as_ref().map(Scalar::data_type),
                constants: &call.constants,
                unnest: call.unnest,
            };
            let (built, frame) = match window.frame {
                // The weights are the aggregate's; the rows are all there are.
                Frame::Decayed(half) => (aggregate::decayed(&typed, half), Frame::Lifetime),
                frame => (aggregate::build(&typed), frame),
            };
            let built = match &window.secondary {
                Some(_) if typed.second.is_some() => Err(format!(
                    "`{}` has a secondary key, which is the second column of its calls",
                    window.name.value
                )),
                Some(_) => built.and_then(|built| aggregate::per(Arc::from(built))),
                None => built,
            };
            let built: Arc<dyn aggregate::Aggregate> = match built {
                Ok(built) => Arc::from(built),
                Err(reason) => {
                    return Err(Diagnostic::new(
                        &place,
                        format!("`{}` cannot be computed", call.function),
                        reason,
                        "`tidemill reference aggregates` tells what each of them takes",
                    ));
                }
            };
            let group = windows[at];
            let column = call.argument.as_ref().map(|scalar| self.column(group, scalar));
            let of_key = match &window.secondary {
                Some(key) => {
                    let schema = &self.shared[at].schema;
                    let key = Scalar::compile(&quoted(&key.value), schema, self.zone);
                    Some(key.map_err(|error| diagnostic(text, error))?)
                }
                None => None,
            };
            let second = of_key.as_ref().or(call.second.as_ref());
            let second = second.map(|scalar| self.column(group, scalar));
            let filter = call.filter.as_ref().map(|scalar| self.column(group, scalar));
            let data_type = built.output();
            let data_type = match window.series {
                Some(_) => list_of(data_type, &place)?,
                None => data_type,
            };
            let outputs = &mut self.groups[group];
            // Features that ask for the same share its answer.
            let asked = format!("{at} {} {} {:?}", typed.name, typed.distinct, typed.constants);
            let asked = format!("{asked} {:?}", typed.unnest);
            let asked = (group, format!("{asked} {column:?} {second:?} {filter:?}"));
            if let Some(known) = self.asked.get(&asked) {
                calls.push(*known);
                types.push(data_type);
                continue;
            }
            let first = outputs.outputs.len();
            for edge in edges(window) {
                let aggregate = Arc::clone(&built);
                let output = Output { frame, edge, column, second, filter, aggregate };
                outputs.group.outputs.push(output);
                outputs.outputs.push(built.output());
            }
            let steps = window.series.map(|_| outputs.outputs.len() - first);
            let call = CallProgram { group, output: first, steps };
            self.asked.insert(asked, call);
            calls.push(call);
            types.push(data_type);
        }
        let scalar = parsed.finish(spine, &types).map_err(|e| diagnostic(text, e))?;
        Ok(FeatureProgram { scalar, calls })
    }

    /// Where a group keeps a column, adding it the first time.
    fn column(&mut self, group: usize, scalar: &Scalar) -> usize {
        let columns = &mut self.groups[group].columns;
        *self.known.entry((group, scalar.to_string())).or_insert_with(|| {
            columns.push(scalar.clone());
            columns.len() - 1
        })
    }
}

/// Refuses a call for a row that a window of so many rows never has: it would always be NULL.
fn within_rows(call: &Call, window: &WindowPlan, place: &Range<usize>) -> Result<(), Diagnostic> {
    let (Frame::Rows(rows) | Frame::Within { rows, .. }) = window.frame else { return Ok(()) };
    // The same for each key, category or place; items of lists may be more than rows.
    let name = call.function.as_str();
    let name = name.strip_prefix("map_").or(name.strip_prefix("vector_")).unwrap_or(name);
    let name = name.strip_suffix("_per").or(name.strip_suffix("_cate")).unwrap_or(name);
    let wanted = match (name, call.constants.as_slice()) {
        ("nth_value", [Value::Int(n)]) => *n,
        ("lag", [Value::Int(n)]) => n.saturating_add(1),
        ("lag", []) => 2,
        _ => return Ok(()),
    };
    let enough = u64::try_from(wanted).is_ok_and(|wanted| wanted > rows);
    if !enough || call.unnest != Unnest::No {
        return Ok(());
    }
    let name = &window.name.value;
    Err(Diagnostic::new(
        place,
        format!("`{}` over `{name}` is always NULL", call.function),
        format!("it asks for {wanted} rows, and `{name}` holds {rows} at most"),
        match wanted {
            ..=MOST_ROWS => {
                format!("write rows = {wanted} or more in `{name}`, or ask for a newer row")
            }
            _ => format!("ask for a row that is less far back; `rows` is {MOST_ROWS} at most"),
        },
    ))
}

/// The edges of a window: one, or one for each step of a series. Further back than the first step the
/// row that reads is left out anyway.
fn edges(window: &WindowPlan) -> Vec<Edge> {
    let Some(Series { step, count }) = window.series else { return vec![window.edge] };
    let Edge { offset, exclude } = window.edge;
    let edge = |n: i64| match (n, exclude) {
        (1.., Exclude::Row) => Exclude::Nothing,
        _ => exclude,
    };
    let offset = |n: i64| offset.saturating_add(step.saturating_mul(n));
    (0..count as i64).map(|n| Edge { offset: offset(n), exclude: edge(n) }).collect()
}

/// The type of a series of values.
fn list_of(data_type: DataType, place: &Range<usize>) -> Result<DataType, Diagnostic> {
    data_type.as_item().map(DataType::List).ok_or_else(|| {
        Diagnostic::new(
            place,
            "a series of lists or maps is no value",
            format!("each step gives {data_type}, and neither lists nor maps hold such"),
            "read a window without `series`, or an aggregate that gives a single value",
        )
    })
}

/// A secondary key names a column of the source that can be a key.
fn check_secondary(column: &At<String>, schema: &Schema, errors: &mut Vec<Diagnostic>) {
    let Some(data_type) = schema.type_of(&column.value) else {
        let names: Vec<&str> = schema.names().collect();
        errors.push(Diagnostic::new(
            &column.span,
            format!("`secondary` names no column: `{}`", column.value),
            format!("the columns are {}", names.join(", ")),
            tidemill_config::cure(&column.value, names.iter().copied()),
        ));
        return;
    };
    if data_type.is_nested() || matches!(data_type, DataType::Float64 | DataType::Timestamp) {
        errors.push(Diagnostic::new(
            &column.span,
            format!("`{}` cannot be a secondary key", column.value),
            format!("its type is {data_type}, of which hardly two values are equal"),
            "name a column of type string, int64 or bool",
        ));
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
