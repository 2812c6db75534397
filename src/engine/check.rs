//! From a plan to what runs: every expression typed against its schema, every component found and
//! its keys read. Whatever is wrong is reported together, with file, line, reason and cure.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tidemill_config::diagnostic::{Diagnostic, Report};
use tidemill_config::document::Loaded;
use tidemill_config::plan::{
    At, DriftOf, ModelInput, ModelPlan, Plan, SinkPlan, SourcePlan, Until,
};
use tidemill_connectors::{format, sink, source};
use tidemill_operators::dataflow::{LabelProgram, Program};
use tidemill_operators::expression::{self, ExpressionError, Scalar};
use tidemill_operators::predictor::Inputs;
use tidemill_operators::{drift, learner, trainer};
use tidemill_types::long::MOST_BYTES;
use tidemill_types::{DataType, Field, Schema};

mod executors;
mod fingerprint;
mod online;
mod shared;
pub mod sinks;
mod windows;
mod written;

use windows::Groups;
pub use written::Written;

/// A pipeline, ready to run.
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// Hash of what the results depend on: which pipeline a journal belongs to.
    pub fingerprint: String,
    /// What the operators carry out.
    pub program: Arc<Program>,
    /// For each source, what is made of its declared columns.
    pub sources: Vec<Arc<Derive>>,
    /// For each model, its inputs.
    pub inputs: Vec<ModelInputs>,
    /// Where each feature stands: requests name them, and there may be thousands.
    pub places: HashMap<String, usize>,
}

impl Compiled {
    /// The type of ids in what a run writes.
    pub fn id_type(&self) -> DataType {
        let id = self.plan.sources[self.program.spine].id.as_ref();
        match id.and_then(|id| self.program.spine_schema.type_of(&id.value)) {
            Some(DataType::Int64) => DataType::Int64,
            _ => DataType::String,
        }
    }
}

/// What is made of a source's declared columns.
pub struct Derive {
    /// The declared columns followed by the computed ones.
    pub schema: Schema,
    /// How many of them are declared.
    pub declared: usize,
    /// The computed columns: each over the columns before it.
    pub computed: Vec<Scalar>,
    /// Rows for which this is not true are dropped.
    pub filter: Option<Scalar>,
    /// Where the event time stands.
    pub time: usize,
    /// Where the id stands.
    pub id: Option<usize>,
}

/// Where a model's inputs come from.
#[derive(Clone, Debug, Default)]
pub struct ModelInputs {
    /// Names and kinds, as the model sees them.
    pub names: Inputs,
    /// Each number: a numeric feature by its place among the numbers, or a model's margin.
    pub numbers: Vec<NumberFrom>,
    /// Each category: a feature by its place among the categories.
    pub categories: Vec<usize>,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberFrom {
    /// The n-th numeric feature.
    Feature(usize),
    /// The margin of a model.
    Margin(usize),
}

/// Compiles a loaded pipeline.
///
/// # Errors
/// Everything that static validation can find.
pub fn compile(loaded: Loaded) -> Result<Compiled, Report> {
    let Loaded { mut plan, text, .. } = loaded;
    let mut errors = Vec::new();
    let sources = compile_sources(&plan, &mut errors);
    components(&plan, &mut errors);
    if !errors.is_empty() {
        return Err(Report::new(text, errors));
    }
    let program = compile_program(&plan, &sources, &mut errors);
    leave_out_nested(&mut plan, &program.feature_schema, &mut errors);
    let inputs = model_inputs(&plan, &program.feature_schema);
    for (model, inputs) in plan.models.iter().zip(&inputs) {
        check_model(model, inputs, &mut errors);
    }
    let places = program.feature_schema.fields.iter().enumerate();
    let places = places.map(|(place, field)| (field.name.clone(), place)).collect();
    let compiled = Compiled {
        fingerprint: fingerprint::of(&plan),
        plan,
        program: Arc::new(program),
        sources: sources.into_iter().map(Arc::new).collect(),
        inputs,
        places,
    };
    let (ids, features) = (compiled.id_type(), compiled.sent_features());
    sinks::columns(&compiled.plan.sinks, ids, &features, &mut errors);
    sinks::apart(&compiled.plan.sinks, &mut errors);
    sinks::own_columns(&compiled, &mut errors);
    sinks::repeatable(&compiled.plan, &mut errors);
    match errors.is_empty() {
        true => Ok(compiled),
        false => Err(Report::new(text, errors)),
    }
}

fn compile_sources(plan: &Plan, errors: &mut Vec<Diagnostic>) -> Vec<Derive> {
    plan.sources.iter().map(|source| compile_source(source, errors)).collect()
}

fn compile_source(source: &SourcePlan, errors: &mut Vec<Diagnostic>) -> Derive {
    let zone = &source.timezone.value;
    let mut schema = source.schema.clone();
    let declared = schema.fields.len();
    let mut computed = Vec::new();
    for (name, text) in &source.columns {
        if schema.index_of(&name.value).is_some() {
            errors.push(Diagnostic::new(
                &name.span,
                format!("column `{}` is there twice", name.value),
                "a computed column may not replace another column",
                "choose another name",
            ));
            continue;
        }
        match Scalar::compile(&text.value, &schema, zone) {
            Ok(scalar) => {
                schema.fields.push(Field::new(name.value.clone(), scalar.data_type()));
                computed.push(scalar);
            }
            Err(error) => errors.push(diagnostic(text, error)),
        }
    }
    let filter = source.filter.as_ref().and_then(|text| {
        let scalar = Scalar::compile(&text.value, &schema, zone)
            .map_err(|e| errors.push(diagnostic(text, e)));
        let scalar = scalar.ok()?;
        if scalar.data_type() != DataType::Bool {
            errors.push(Diagnostic::new(
                &text.span,
                format!("`where` of source `{}` is not a condition", source.name.value),
                format!("its type is {}", scalar.data_type()),
                "write a comparison, for example `arr_delay is not null`",
            ));
        }
        Some(scalar)
    });
    let time = column(&source.event_time, &schema, "event_time", source, errors);
    if let Some(found) = schema.fields.get(time)
        && found.data_type != DataType::Timestamp
        && schema.index_of(&source.event_time.value).is_some()
    {
        errors.push(Diagnostic::new(
            &source.event_time.span,
            format!("event_time `{}` is no time", found.name),
            format!("its type is {}", found.data_type),
            "declare it as `timestamp`, or compute one under `columns`",
        ));
    }
    let id = source.id.as_ref().map(|id| column(id, &schema, "id", source, errors));
    if let (Some(name), Some(id)) = (&source.id, id)
        && let Some(found) = schema.fields.get(id).filter(|found| found.data_type.is_nested())
        && found.name == name.value
    {
        errors.push(Diagnostic::new(
            &name.span,
            format!("id `{}` is no single value", found.name),
            format!("its type is {}", found.data_type),
            "name a column of whole numbers or texts",
        ));
    }
    Derive { schema, declared, computed, filter, time, id }
}

fn column(
    name: &At<String>,
    schema: &Schema,
    key: &str,
    source: &SourcePlan,
    errors: &mut Vec<Diagnostic>,
) -> usize {
    schema.index_of(&name.value).unwrap_or_else(|| {
        errors.push(Diagnostic::new(
            &name.span,
            format!("{key} of source `{}` names no column: `{}`", source.name.value, name.value),
            format!("the columns are {}", schema.names().collect::<Vec<_>>().join(", ")),
            "name a column of `schema` or `columns`",
        ));
        0
    })
}

fn compile_program(plan: &Plan, sources: &[Derive], errors: &mut Vec<Diagnostic>) -> Program {
    let spine = plan.pipeline.spine.value;
    let spine_schema = sources[spine].schema.clone();
    let zone = &plan.sources[spine].timezone.value;
    let mut groups = Groups::new(plan, sources, zone);
    let windows = groups.windows(errors);
    let names: Vec<&str> = plan.windows.iter().map(|w| w.name.value.as_str()).collect();
    let mut features = Vec::new();
    let mut schema = Schema::default();
    for feature in &plan.features {
        let columns = |window: &str| groups.columns(window);
        let parsed =
            expression::parse_feature(&feature.text.value, &spine_schema, &columns, &names, zone);
        let compiled = parsed
            .map_err(|e| groups.wrong(&feature.text, e))
            .and_then(|parsed| groups.feature(&feature.text, parsed, &windows, &spine_schema));
        match compiled {
            Ok(compiled) => {
                let data_type = compiled.scalar.data_type();
                schema.fields.push(Field::new(feature.name.value.clone(), data_type));
                features.push(compiled);
            }
            Err(error) => errors.push(error),
        }
    }
    let labels = plan
        .labels
        .iter()
        .filter_map(|label| {
            let source = &sources[label.source];
            let zone = &plan.sources[label.source].timezone.value;
            let scalar = Scalar::compile(&label.value.value, &source.schema, zone)
                .map_err(|e| errors.push(diagnostic(&label.value, e)))
                .ok()?;
            let found = scalar.data_type();
            if found.is_nested() || matches!(found, DataType::String | DataType::Timestamp) {
                errors.push(Diagnostic::new(
                    &label.value.span,
                    format!("label `{}` is neither a condition nor a number", label.name.value),
                    format!("its type is {found}"),
                    "write a comparison, for example `arr_delay > 15`",
                ));
            }
            for (what, index) in [("its source", label.source), ("the spine", spine)] {
                if plan.sources[index].id.is_none() {
                    errors.push(Diagnostic::new(
                        &label.name.span,
                        format!("label `{}` has nothing to join by", label.name.value),
                        format!("{what}, `{}`, names no `id`", plan.sources[index].name.value),
                        "name the column that identifies the row: `id = \"...\"`",
                    ));
                }
            }
            Some(LabelProgram { source: label.source, value: scalar })
        })
        .collect();
    let tick = plan.pipeline.tick;
    let default = || if plan.sources.iter().all(bounded) { default_bundle(tick) } else { 1 };
    let bundle = plan.pipeline.bundle.unwrap_or_else(default) as i64;
    let kept = plan.online.as_ref();
    let of = (&features[..], &schema);
    let kept =
        kept.map(|online| online::compile(online, &sources[spine], of, &groups.groups, errors));
    Program {
        kept,
        // Dozens of them may wait, for the sinks say.
        batch_bytes: MOST_BYTES / 4,
        mode: plan.pipeline.mode,
        round: tick.saturating_mul(bundle),
        spine,
        spine_schema,
        groups: groups.groups,
        features,
        feature_schema: schema,
        labels,
    }
}

/// Whether a source ends by itself.
pub fn bounded(plan: &SourcePlan) -> bool {
    let entry = source::SOURCES.iter().find(|e| e.name == plan.section.kind.value);
    plan.until.or(entry.map(|e| e.until)) != Some(Until::Stopped)
}

/// For bounded input (a live one waits for no more than a tick) a day's ticks: batches of about a thousand rows for streams of a thousand rows a day, and never
/// more than memory can hold of a fast one, for a bundle holds only what has been read.
fn default_bundle(tick: i64) -> u64 {
    (tidemill_types::time::DAY / tick).clamp(1, 10_000) as u64
}

/// Finds every component that the plan names and lets it read its keys.
fn components(plan: &Plan, errors: &mut Vec<Diagnostic>) {
    for source in &plan.sources {
        match find(source::SOURCES, |e| e.name, &source.section.kind, "source", errors) {
            Some(entry) => collect((entry.check)(source), errors),
            None => continue,
        }
        if let Some(name) = &source.format {
            find(format::FORMATS, |e| e.name, name, "format", errors);
        }
    }
    for sink in &plan.sinks {
        check_sink(sink, errors);
    }
    for drift in &plan.drifts {
        for section in &drift.detect {
            if let Some(entry) =
                find(drift::DETECTORS, |e| e.name, &section.kind, "detector", errors)
            {
                match entry.build {
                    drift::Build::Statistic(build) => collect(build(section).map(|_| ()), errors),
                    drift::Build::Monitor(build) => collect(build(section).map(|_| ()), errors),
                }
            }
        }
    }
    executors::check(plan, errors);
}

fn check_sink(sink: &SinkPlan, errors: &mut Vec<Diagnostic>) {
    if let Some(entry) = find(sink::SINKS, |e| e.name, &sink.section.kind, "sink", errors) {
        collect((entry.check)(sink), errors);
    }
    if let Some(name) = &sink.format {
        find(format::FORMATS, |e| e.name, name, "format", errors);
    }
}

fn check_model(model: &ModelPlan, inputs: &ModelInputs, errors: &mut Vec<Diagnostic>) {
    if model.retrain.is_some() {
        if let Some(entry) =
            find(trainer::TRAINERS, |e| e.name, &model.section.kind, "trainer", errors)
        {
            collect((entry.parameters)(&model.section).map(|_| ()), errors);
        }
    } else if let Some(entry) =
        find(learner::LEARNERS, |e| e.name, &model.section.kind, "learner", errors)
    {
        collect((entry.build)(&model.section, &inputs.names).map(|_| ()), errors);
    }
}

fn collect(result: Result<(), Vec<Diagnostic>>, errors: &mut Vec<Diagnostic>) {
    if let Err(found) = result {
        errors.extend(found);
    }
}

/// The entry of that name, or an error that lists what there is.
fn find<'a, E>(
    list: &'a [E],
    name: impl Fn(&E) -> &'static str,
    wanted: &At<String>,
    kind: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<&'a E> {
    let found = list.iter().find(|e| name(e) == wanted.value);
    if found.is_none() {
        let names: Vec<&str> = list.iter().map(&name).collect();
        errors.push(Diagnostic::new(
            &wanted.span,
            format!("there is no {kind} `{}`", wanted.value),
            format!("the {kind}s are {}", names.join(", ")),
            match tidemill_config::suggest(&wanted.value, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("choose one of them: {}", names.join(", ")),
            },
        ));
    }
    found
}

/// Lists and maps go to sinks, not into models: `*` leaves them out, and naming one is refused.
fn leave_out_nested(plan: &mut Plan, features: &Schema, errors: &mut Vec<Diagnostic>) {
    let nested =
        |feature: usize| features.fields.get(feature).filter(|field| field.data_type.is_nested());
    let mut refuse = |named: &[At<usize>], whose: String| {
        for feature in named {
            let Some(field) = nested(feature.value) else { continue };
            errors.push(Diagnostic::new(
                &feature.span,
                format!("{whose} cannot read feature `{}`", field.name),
                format!(
                    "its type is {}; numbers, truth values, times and texts are read",
                    field.data_type
                ),
                "leave it out, or make single values of it: top1_ratio, entropy, nth_value, \
                 count(...) filter (where ...)",
            ));
        }
    };
    for model in &mut plan.models {
        refuse(&model.named, format!("model `{}`", model.name.value));
        model.inputs.retain(|i| !matches!(i, ModelInput::Feature(f) if nested(*f).is_some()));
    }
    for drift in &mut plan.drifts {
        refuse(&drift.named, format!("drift `{}`", drift.name.value));
        if let DriftOf::Inputs { features, .. } = &mut drift.of {
            features.retain(|feature| nested(*feature).is_none());
        }
    }
}

/// Where each model's inputs come from.
fn model_inputs(plan: &Plan, features: &Schema) -> Vec<ModelInputs> {
    let number: Vec<bool> =
        features.fields.iter().map(|f| f.data_type != DataType::String).collect();
    let place =
        |feature: usize| number[..feature].iter().filter(|n| **n == number[feature]).count();
    plan.models
        .iter()
        .map(|model| {
            let mut inputs = ModelInputs::default();
            for input in &model.inputs {
                match input {
                    ModelInput::Feature(f) if number.get(*f) == Some(&true) => {
                        inputs.names.numbers.push(features.fields[*f].name.clone());
                        inputs.numbers.push(NumberFrom::Feature(place(*f)));
                    }
                    ModelInput::Feature(f) if *f < number.len() => {
                        inputs.names.categories.push(features.fields[*f].name.clone());
                        inputs.categories.push(place(*f));
                    }
                    ModelInput::Feature(_) => {}
                    ModelInput::Margin(m) => {
                        let name = format!("{}.margin", plan.models[*m].name.value);
                        inputs.names.numbers.push(name);
                        inputs.numbers.push(NumberFrom::Margin(*m));
                    }
                }
            }
            inputs
        })
        .collect()
}

/// An expression's error at its place in the file.
fn diagnostic(text: &At<String>, error: ExpressionError) -> Diagnostic {
    Diagnostic::new(&inside(text, error.span.as_ref()), error.message, error.reason, error.help)
}

/// The place of a part of a text: exact where the text was written in plain quotes.
fn inside(text: &At<String>, part: Option<&Range<usize>>) -> Range<usize> {
    match part {
        Some(part) if text.span.len() == text.value.len() + 2 => {
            text.span.start + 1 + part.start..text.span.start + 1 + part.end
        }
        _ => text.span.clone(),
    }
}
