//! `tidemill produce`: a pipeline's files into Kafka topics, so that the same pipeline can be run on
//! Kafka.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidemill_config::document::load;
use tidemill_config::plan::{At, Plan, SinkPlan, SourcePlan, Stream};
use tidemill_config::section::Section;
use tidemill_connectors::sink::SINKS;
use tidemill_connectors::source::{Polled, SOURCES, Source};
use tidemill_types::Error;

use super::{Failure, Said};
use crate::engine::check::compile;
use crate::observe::thousands;

/// What goes where.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Some brokers of the cluster; may be given often.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    brokers: Vec<String>,
    /// Only these sources; all that read files if none is given.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// What the topics' names begin with; the sources' names follow.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    partitions: u16,
    /// The column that makes the key; the source's `id` if it is not given, or its first column.
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// A property of librdkafka, for TLS and SASL say; may be given often.
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = super::pair)]
    properties: Vec<(String, String)>,
}

/// Rows and refused records of one topic.
struct Produced {
    source: String,
    topic: String,
    rows: u64,
    refused: u64,
}

/// Copies every file source into a topic.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let compiled = compile(load(file, overrides)?)?;
    let chosen = chosen(&compiled.plan, options)?;
    let mut all = Vec::new();
    for source in chosen {
        all.push(produce(source, options)?);
    }
    Ok(said(file, options, &all))
}

fn chosen<'a>(plan: &'a Plan, options: &Options) -> Result<Vec<&'a SourcePlan>, Error> {
    for name in &options.source {
        if !plan.sources.iter().any(|s| s.name.value == *name) {
            let names: Vec<&str> = plan.sources.iter().map(|s| s.name.value.as_str()).collect();
            return Err(Error::user(format!("the pipeline has no source `{name}`"))
                .help(format!("its sources are {}", names.join(", "))));
        }
    }
    let wanted = |s: &&SourcePlan| match options.source.is_empty() {
        true => s.section.kind.value == "file",
        false => options.source.contains(&s.name.value),
    };
    let chosen: Vec<&SourcePlan> = plan.sources.iter().filter(wanted).collect();
    match chosen.iter().find(|s| s.section.kind.value == "kafka") {
        Some(source) => Err(Error::user(format!("`{}` reads Kafka already", source.name.value))
            .help("name sources that read files with --source")),
        None => Ok(chosen),
    }
}

fn produce(source: &SourcePlan, options: &Options) -> Result<Produced, Error> {
    let missing = || Error::internal("a component passed the check and is not there");
    let entry = SOURCES.iter().find(|e| e.name == source.section.kind.value);
    let mut from = (entry.ok_or_else(missing)?.open)(source, (0, 1))?;
    let entry = SINKS.iter().find(|e| e.name == "kafka").ok_or_else(|| {
        Error::user("this tidemill was built without Kafka")
            .help("build it with the feature `kafka`")
    })?;
    let plan = sink_plan(source, options)?;
    (entry.check)(&plan).map_err(|errors| {
        let texts: Vec<String> =
            errors.iter().map(|e| format!("{}: {}", e.message, e.help)).collect();
        Error::user(texts.join("; "))
    })?;
    let mut to = (entry.open)(&plan, source.schema.to_arrow(), Path::new("."))?;
    let mut produced = Produced {
        source: source.name.value.clone(),
        topic: topic(source, options),
        rows: 0,
        refused: 0,
    };
    copy(from.as_mut(), to.as_mut(), &mut produced)?;
    to.close()?;
    tracing::info!(topic = produced.topic, rows = produced.rows, "produced");
    Ok(produced)
}

fn copy(
    from: &mut dyn Source,
    to: &mut dyn tidemill_connectors::sink::Sink,
    produced: &mut Produced,
) -> Result<(), Error> {
    let mut open = from.partitions();
    let mut told = 0;
    while !open.is_empty() {
        match from.poll(Duration::from_millis(100))? {
            Polled::Chunk(chunk) => {
                to.write(&chunk.rows, &[])?;
                produced.rows += chunk.rows.num_rows() as u64;
                produced.refused += chunk.rejects.len() as u64;
                for letter in &chunk.rejects {
                    let (at, detail) = (&letter.provenance, &letter.detail);
                    tracing::warn!(file = at.origin, line = at.offset, detail, "not produced");
                }
                if produced.rows / 100_000 > told {
                    told = produced.rows / 100_000;
                    tracing::info!(topic = produced.topic, rows = produced.rows, "producing");
                }
            }
            Polled::AtEnd(partition) => open.retain(|p| *p != partition),
            Polled::Nothing => {}
        }
    }
    Ok(())
}

fn topic(source: &SourcePlan, options: &Options) -> String {
    format!("{}{}", options.prefix, source.name.value)
}

/// A Kafka sink for the declared columns of a source.
fn sink_plan(source: &SourcePlan, options: &Options) -> Result<SinkPlan, Error> {
    let declared = |name: &str| source.schema.index_of(name).is_some();
    let id = source.id.as_ref().map(|id| id.value.clone()).filter(|id| declared(id));
    let first = source.schema.names().next().map(str::to_string);
    let key = options.key.clone().filter(|key| declared(key)).or(id).or(first);
    let mut keys = toml::Table::new();
    keys.insert("topic".into(), topic(source, options).into());
    keys.insert("brokers".into(), options.brokers.clone().into());
    keys.insert("create".into(), true.into());
    keys.insert("partitions".into(), i64::from(options.partitions).into());
    keys.extend(key.map(|key| ("key".to_string(), key.into())));
    let properties = options.properties.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    keys.insert("properties".into(), toml::Value::Table(properties.collect()));
    let section = Section::with_keys("kafka", &keys.to_string())
        .map_err(|e| Error::internal(format!("the keys of a sink cannot be read: {e:?}")))?;
    let name = At::nowhere(source.name.value.clone());
    let format = Some(At::nowhere("json".to_string()));
    Ok(SinkPlan { name, stream: Stream::Features, section, format })
}

fn said(file: &Path, options: &Options, all: &[Produced]) -> Said {
    let mut text = String::new();
    for p in all {
        text += &format!("{}: {} rows", p.topic, thousands(p.rows));
        if p.refused > 0 {
            text += &format!(", {} records could not be read", thousands(p.refused));
        }
        text += "\n";
    }
    text += &format!("\nRun the pipeline on them:\n  tidemill run {}", file.display());
    for p in all {
        let set = [
            ("path", String::new()),
            ("type", "kafka".to_string()),
            ("topic", p.topic.clone()),
            ("brokers", options.brokers.join(",")),
            ("until", "end".to_string()),
        ];
        for (key, value) in set {
            text += &format!(" \\\n    --set source.{}.{key}={value}", p.source);
        }
    }
    text += "\n";
    let topics: Vec<_> = all
        .iter()
        .map(|p| json!({ "source": p.source, "topic": p.topic, "rows": p.rows, "refused": p.refused }))
        .collect();
    Said { text, json: json!({ "topics": topics }) }
}
