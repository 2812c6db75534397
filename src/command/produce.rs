//! `tidemill produce`: a pipeline's files into Kafka topics, so that the same pipeline can be run on
//! Kafka.
//!
//! A topic a source: JSON of the declared columns, NULL as `null`, times as RFC 3339 in UTC. Whatever
//! can be refused is refused before the first row is sent; what cannot be read is counted and left
//! out.

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use tidemill_config::document::load;
use tidemill_config::plan::{At, Plan, SinkPlan, SourcePlan, Stream};
use tidemill_config::section::Section;
use tidemill_connectors::sink::{self, SINKS, Sink};
use tidemill_connectors::source::{Polled, SOURCES, Source};
use tidemill_types::{DeadLetter, Error};

use super::{Failure, Said};
use crate::engine::check::compile;
use crate::observe::{Display, LogFormat, Progress, ProgressBar, Screen, logging};

mod said;

/// What goes where.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Some brokers of the cluster; may be given often.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    brokers: Vec<String>,
    /// Only this source; may be given often. All that read files if none is given.
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// What the topics' names begin with; the sources' names follow.
    #[arg(long, alias = "prefix", value_name = "TEXT", default_value = "")]
    topic_prefix: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    partitions: u16,
    /// The column that makes the key; without it the source's `id`, or its first column. Rows of one
    /// key go to one partition.
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// A property of librdkafka, for TLS and SASL say; may be given often.
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Shows no progress, and of the log only errors.
    #[arg(long)]
    quiet: bool,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write it as key=value, for example security.protocol=SSL")?;
    Ok((key.trim().to_string(), value.to_string()))
}

/// Refused records of a source that are shown; the others are only counted.
const SHOWN: u64 = 5;

/// A source on its way into a topic.
struct Load<'a> {
    plan: &'a SourcePlan,
    topic: String,
    from: Box<dyn Source>,
    sink: SinkPlan,
}

/// What became of a source.
struct Produced<'a> {
    plan: &'a SourcePlan,
    topic: String,
    /// Whether the topic was made, or was there already.
    created: bool,
    rows: u64,
    refused: u64,
    /// Floats that JSON has no word for.
    not_finite: u64,
}

/// Copies every chosen source into a topic.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let compiled = compile(load(file, overrides)?)?;
    let entry = SINKS.iter().find(|e| e.name == "kafka").ok_or_else(|| {
        Error::user("this tidemill was built without Kafka")
            .help("build it with the feature `kafka`")
    })?;
    let chosen = chosen(&compiled.plan, options)?;
    let loads = chosen.into_iter().map(|source| prepare(source, entry, options));
    let loads = loads.collect::<Result<Vec<_>, _>>()?;
    let screen = Screen::default();
    logging::start(LogFormat::Text, options.quiet, &screen)?;
    let mut teller = Teller::new(ProgressBar::new(Display::choose(options.quiet), &screen));
    let mut all = Vec::new();
    for load in loads {
        all.push(produce(load, entry, options, &mut teller)?);
    }
    teller.bar.finish(&teller.progress());
    Ok(said::said(file, overrides, options, &all))
}

/// The sources to be loaded.
fn chosen<'a>(plan: &'a Plan, options: &Options) -> Result<Vec<&'a SourcePlan>, Error> {
    let names: Vec<&str> = plan.sources.iter().map(|s| s.name.value.as_str()).collect();
    if let Some(name) = options.source.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(Error::user(format!("the pipeline has no source `{name}`")).help(
            match tidemill_config::suggest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its sources are {}", names.join(", ")),
            },
        ));
    }
    let kind = |s: &SourcePlan| s.section.kind.value.clone();
    let wanted = |s: &&SourcePlan| match options.source.is_empty() {
        true => kind(s) == "file",
        false => options.source.contains(&s.name.value),
    };
    let chosen: Vec<&SourcePlan> = plan.sources.iter().filter(wanted).collect();
    if let Some(source) = chosen.iter().find(|s| kind(s) == "kafka") {
        return Err(Error::user(format!("`{}` reads Kafka already", source.name.value))
            .help("name sources that read files with --source"));
    }
    if chosen.is_empty() {
        return Err(Error::user("no source of the pipeline reads a file")
            .help(format!("its sources are {}; name one with --source", names.join(", "))));
    }
    Ok(chosen)
}

/// Opens a source and reads the keys of its sink, without a word to a broker.
fn prepare<'a>(
    plan: &'a SourcePlan,
    entry: &sink::Entry,
    options: &Options,
) -> Result<Load<'a>, Error> {
    let topic = format!("{}{}", options.topic_prefix, plan.name.value);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if topic.len() > 249 || !topic.chars().all(allowed) {
        return Err(Error::user(format!("`{topic}` cannot be a topic's name"))
            .help("Kafka's names are at most 249 letters, digits, `.`, `_` and `-`"));
    }
    let sink = sink_plan(plan, &topic, options)?;
    (entry.check)(&sink).map_err(|errors| {
        let texts: Vec<String> =
            errors.iter().map(|e| format!("{}: {} ({})", e.message, e.reason, e.help)).collect();
        Error::user(texts.join("; "))
    })?;
    let source = SOURCES.iter().find(|e| e.name == plan.section.kind.value);
    let source =
        source.ok_or_else(|| Error::internal("a source passed the check and is unknown"))?;
    let from = (source.open)(plan, (0, 1))?;
    Ok(Load { plan, topic, from, sink })
}

/// A Kafka sink for the declared columns of a source.
fn sink_plan(source: &SourcePlan, topic: &str, options: &Options) -> Result<SinkPlan, Error> {
    let mut keys = toml::Table::new();
    keys.insert("topic".into(), topic.into());
    keys.insert("brokers".into(), options.brokers.clone().into());
    keys.insert("key".into(), key(source, options)?.into());
    let properties = options.properties.iter().map(|(k, v)| (k.clone(), v.clone().into()));
    keys.insert("properties".into(), toml::Value::Table(properties.collect()));
    let section = Section::with_keys("kafka", &keys.to_string())
        .map_err(|e| Error::internal(format!("the keys of a sink cannot be read: {e:?}")))?;
    let name = At::nowhere(source.name.value.clone());
    let format = Some(At::nowhere("json".to_string()));
    let (pipeline, stream) = ("produce".to_string(), Stream::Features);
    Ok(SinkPlan { name, pipeline, stream, section, format, columns: None })
}

/// The column that makes the messages' keys.
fn key(source: &SourcePlan, options: &Options) -> Result<String, Error> {
    let declared = |name: &String| source.schema.index_of(name).is_some();
    let columns: Vec<&str> = source.schema.names().collect();
    if let Some(key) = &options.key {
        if declared(key) {
            return Ok(key.clone());
        }
        return Err(Error::user(format!("the source {} has no column `{key}`", source.name.value))
            .help(format!(
                "its columns are {}; sources with other keys are loaded apart, each named with \
                 --source",
                columns.join(", ")
            )));
    }
    // An id that is computed is no column of the topic.
    let id = source.id.as_ref().map(|id| id.value.clone()).filter(declared);
    id.or_else(|| columns.first().map(|name| name.to_string()))
        .ok_or_else(|| Error::user(format!("the source {} declares no column", source.name.value)))
}

/// Makes the topic; `false` where there is one of that name.
#[cfg(feature = "kafka")]
fn create(topic: &str, options: &Options) -> Result<bool, Error> {
    use tidemill_connectors::client::kafka::{Cluster, Topic};
    use tidemill_types::Fault;
    let properties = options.properties.iter().cloned().collect();
    let cluster = Cluster { brokers: options.brokers.join(","), properties };
    let made = cluster.create_topic(&Topic::new(topic, i32::from(options.partitions)));
    made.map_err(|error| match error.fault {
        Fault::External => error.help(format!(
            "see that a Kafka broker runs at {} (--brokers), and that the address which it advertises can be reached \
             from here; --property gives what TLS and SASL need",
            options.brokers.join(",")
        )),
        _ => error,
    })
}

#[cfg(not(feature = "kafka"))]
fn create(_: &str, _: &Options) -> Result<bool, Error> {
    Err(Error::internal("a topic cannot be made without the feature `kafka`"))
}

fn produce<'a>(
    load: Load<'a>,
    entry: &sink::Entry,
    options: &Options,
    teller: &mut Teller,
) -> Result<Produced<'a>, Error> {
    let Load { plan, topic, mut from, sink } = load;
    let created = create(&topic, options)?;
    if !created {
        tracing::warn!(topic, "the topic was there already: rows are added to what it holds");
    }
    let mut to = (entry.open)(&sink, plan.schema.to_arrow(), Path::new("."))?;
    let mut produced = Produced { plan, topic, created, rows: 0, refused: 0, not_finite: 0 };
    copy(from.as_mut(), to.as_mut(), &mut produced, teller).and_then(|()| to.close()).map_err(
        |error| Error {
            message: format!(
                "{}; {} rows of {} were read, and some or all of them are in the topic {}",
                error.message, produced.rows, plan.name.value, produced.topic
            ),
            ..error
        },
    )?;
    tracing::info!(topic = produced.topic, rows = produced.rows, "produced");
    Ok(produced)
}

fn copy(
    from: &mut dyn Source,
    to: &mut dyn Sink,
    produced: &mut Produced<'_>,
    teller: &mut Teller,
) -> Result<(), Error> {
    let mut open = from.partitions();
    while !open.is_empty() {
        match from.poll(Duration::from_millis(100))? {
            Polled::Chunk(chunk) => {
                let rows = chunk.rows.num_rows() as u64;
                produced.rows += rows;
                produced.not_finite += not_finite(&chunk.rows);
                to.write(&chunk.rows, &[])?;
                for letter in &chunk.rejects {
                    produced.refused += 1;
                    warn(letter, produced.refused);
                }
                teller.rows += rows;
                teller.bar.update(&teller.progress());
            }
            Polled::AtEnd(partition) => open.retain(|p| *p != partition),
            Polled::Nothing => {}
        }
    }
    Ok(())
}

/// Shows a refused record, if it is one of the first.
fn warn(letter: &DeadLetter, count: u64) {
    let DeadLetter { source, provenance: at, detail, .. } = letter;
    if count <= SHOWN {
        tracing::warn!(source, file = at.origin, line = at.offset, detail, "not produced");
    } else if count == SHOWN + 1 {
        tracing::warn!(source, "more records are not produced; they are only counted from here on");
    }
}

/// Floats of a batch that are written as `null`, for JSON has no word for them.
fn not_finite(rows: &RecordBatch) -> u64 {
    let floats = rows.columns().iter().filter_map(|c| c.as_primitive_opt::<Float64Type>());
    floats.map(|c| c.iter().flatten().filter(|f| !f.is_finite()).count() as u64).sum()
}

/// Tells how it goes, over all sources.
struct Teller {
    bar: ProgressBar,
    begun: Instant,
    rows: u64,
}

impl Teller {
    fn new(bar: ProgressBar) -> Teller {
        Teller { bar, begun: Instant::now(), rows: 0 }
    }

    fn progress(&self) -> Progress {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-3);
        let rows_per_second = self.rows as f64 / seconds;
        Progress { rows: self.rows, rows_per_second, ..Progress::default() }
    }
}
