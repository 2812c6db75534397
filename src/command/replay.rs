//! `tidemill replay`: a stretch of a run once more, compared with what the run wrote.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};
use tidemill_config::document::load;
use tidemill_config::plan::{At, SinkPlan, Stream};
use tidemill_config::section::Section;
use tidemill_connectors::format::compression::Input;
use tidemill_connectors::sink::{SINKS, Sink};
use tidemill_types::time::{from_rfc3339, to_rfc3339};
use tidemill_types::{Error, Micros};

use super::{Failure, Said};
use crate::engine::check::{Compiled, compile};
use crate::engine::replay::{Extra, Prepared, Stretch, prepare};
use crate::engine::rescore::Rescore;
use crate::engine::run;
use crate::host::Host;
use crate::models::registry::Registry;
use crate::observe::{Display, LogFormat, ProgressBar, Screen, logging};
use crate::serve::signals;

/// What a person may choose of a replay.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// The first event time, RFC 3339 or a date.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Micros,
    /// The first event time behind the stretch.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Micros,
    /// The folder that the run wrote to; `out/NAME` if it is not given.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where the rows are written; `out/NAME-replay` if it is not given.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Scores the stretch with this version of a model too, as MODEL@VERSION.
    #[arg(long, value_name = "MODEL@VERSION", value_parser = version)]
    with_model: Option<(String, u64)>,
    /// Workers of the dataflow.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Shows no progress, and of the log only errors.
    #[arg(long)]
    quiet: bool,
}

/// An event time: RFC 3339, or a date, which is its midnight in UTC.
pub(super) fn time(text: &str) -> Result<Micros, String> {
    from_rfc3339(text)
        .or_else(|| from_rfc3339(&format!("{text}T00:00:00Z")))
        .ok_or_else(|| "write it as 2013-02-05 or 2013-02-05T06:00:00Z".to_string())
}

fn version(text: &str) -> Result<(String, u64), String> {
    let parts =
        text.split_once('@').and_then(|(model, n)| Some((model.to_string(), n.parse().ok()?)));
    parts.ok_or_else(|| "write it as MODEL@VERSION, for example trees@3".to_string())
}

/// Where a run of this pipeline writes, if nothing else is said.
pub(super) fn folder_of(compiled: &Compiled, folder: Option<&PathBuf>, suffix: &str) -> PathBuf {
    let name = &compiled.plan.pipeline.name.value;
    folder.cloned().unwrap_or_else(|| Path::new("out").join(format!("{name}{suffix}")))
}

/// Runs a prepared plan in its work folder until the stretch is over.
pub(super) fn replay(
    compiled: Compiled,
    work: &Path,
    stretch: Stretch,
    workers: u16,
    quiet: bool,
) -> Result<(), Error> {
    let screen = Screen::default();
    logging::start(LogFormat::default(), quiet, &screen)?;
    let bar = ProgressBar::new(Display::choose(quiet), &screen);
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signal(&stop)?;
    let stretch = Arc::new(stretch);
    let options = run::Options {
        folder: work.to_path_buf(),
        workers: usize::from(workers),
        members: None,
        speed: None,
        serve: None,
        stretch: Some(Arc::clone(&stretch)),
        host: Host::default(),
    };
    run::run(compiled, &options, Arc::clone(&stop), bar)?;
    match stop.load(Ordering::SeqCst) && !stretch.is_whole() {
        true => Err(Error::external("it was stopped before the stretch was over")
            .help("run the command again; nothing of the run was changed")),
        false => Ok(()),
    }
}

/// Replays and compares.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    if options.from >= options.to {
        return Err(Error::user("--from is not before --to: there is nothing between them").into());
    }
    let mut compiled = compile(load(file, overrides)?)?;
    let folder = folder_of(&compiled, options.folder.as_ref(), "");
    let out = folder_of(&compiled, options.out.as_ref(), "-replay");
    let work = out.join(".work");
    fs::create_dir_all(&out)
        .map_err(|e| Error::user(format!("cannot make {}: {e}", out.display())))?;
    let Prepared { live, files: of_run } = prepare(&mut compiled, &folder, &work)?;
    let same = |home: &Path| {
        let real = |path: &Path| path.canonicalize().ok();
        real(home).is_some() && real(home) == real(&out)
    };
    if same(&folder) || of_run.iter().any(|(_, home)| same(home)) {
        fs::remove_dir_all(&work).map_err(Error::from)?;
        let out = out.display();
        return Err(Error::user(format!(
            "{out} holds what the run wrote, which would be replaced"
        ))
        .help("give --out another folder")
        .into());
    }
    let mut extra: Vec<Extra> = Vec::new();
    if compiled.plan.sinks.is_empty() {
        for stream in [Stream::Scores, Stream::Features] {
            if stream == Stream::Features || compiled.plan.score.is_some() {
                compiled.plan.sinks.push(file_sink(
                    &compiled,
                    stream,
                    &format!("{}.csv", stream.name()),
                )?);
            }
        }
    }
    let rescored = match &options.with_model {
        Some((model, version)) => {
            let registry = Registry::open(folder.join("models"))?;
            let name = format!("with-{model}-{version}.jsonl");
            let plan = file_sink(&compiled, Stream::Scores, &name)?;
            let sink = Rescore::new(&compiled, &registry, model, *version, |schema| {
                open(&plan, schema, &work)
            })?;
            extra.push((Stream::Features, Box::new(sink)));
            Some(name)
        }
        None => None,
    };
    let stretch = Stretch::new(options.from, options.to, live, extra);
    replay(compiled, &work, stretch, options.workers, options.quiet)?;
    let (mut text, mut files, mut equal): (String, Vec<Json>, Vec<usize>) =
        (String::new(), Vec::new(), Vec::new());
    for path in written(&work)? {
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let home = of_run.iter().find(|(file, _)| rolls_to(file, &name));
        let theirs = home.map_or_else(|| folder.join(&name), |(_, home)| home.join(&name));
        let verdict = match home {
            Some(_) => compared(&path, &theirs, options.from..options.to)?,
            None => None,
        };
        if let Some(Verdict::Equal(rows)) = verdict {
            equal.push(rows);
        }
        let there = out.join(&name);
        fs::rename(&path, &there).map_err(Error::from)?;
        let (word, rows) = match &verdict {
            Some(Verdict::Equal(rows)) => ("equal to the run's", Some(*rows)),
            Some(Verdict::Differs(_)) => ("not what the run wrote", None),
            None => ("written, and not compared", None),
        };
        text += &match rows {
            Some(rows) => format!("{}: {rows} rows, {word}\n", there.display()),
            None => format!("{}: {word}\n", there.display()),
        };
        if let Some(Verdict::Differs(why)) = verdict {
            return Err(Error::internal(format!(
                "{} is not what the run wrote: {why}",
                there.display()
            ))
            .help(format!("compare it with {}", theirs.display()))
            .into());
        }
        files.push(json!({ "file": there, "rows": rows, "compared": rows.is_some() }));
    }
    fs::remove_dir_all(&work).map_err(Error::from)?;
    if !equal.is_empty() && equal.iter().all(|rows| *rows == 0) {
        let (from, to) = (to_rfc3339(options.from), to_rfc3339(options.to));
        return Err(Error::user(format!("the run wrote no row from {from} to {to}"))
            .help("look for the times in the run's files")
            .into());
    }
    let json = json!({ "files": files, "with_model": rescored.map(|name| out.join(name)) });
    Ok(Said { text, json })
}

/// A file of a stream that the plan has no sink for.
fn file_sink(compiled: &Compiled, stream: Stream, path: &str) -> Result<SinkPlan, Error> {
    let keys = format!("path = {}", Json::from(path));
    let section = Section::with_keys("file", &keys)
        .map_err(|e| Error::internal(format!("the keys of a sink cannot be read: {e:?}")))?;
    let name = At::nowhere(format!("replayed {}", stream.name()));
    let pipeline = compiled.plan.pipeline.name.value.clone();
    Ok(SinkPlan { name, pipeline, stream, section, format: None, columns: None })
}

fn open(
    plan: &SinkPlan,
    schema: arrow::datatypes::SchemaRef,
    folder: &Path,
) -> Result<Box<dyn Sink>, Error> {
    let entry = SINKS.iter().find(|entry| entry.name == plan.section.kind.value);
    let entry = entry.ok_or_else(|| Error::internal("there is no sink of files"))?;
    (entry.open)(plan, schema, folder)
}

/// Files in the work folder that hold rows.
fn written(work: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(work).map_err(Error::from)? {
        let path = entry.map_err(Error::from)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a sink's file, rolled or not, may have this name.
fn rolls_to(file: &str, name: &str) -> bool {
    let stem = file.split('.').next().unwrap_or(file);
    name.strip_prefix(stem).is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// What a comparison found.
enum Verdict {
    Equal(usize),
    Differs(String),
}

/// Whether a replayed file has the rows that the run's has of the stretch, no more and no fewer, in their order;
/// nothing where the run's is not there, is no text, or has no event times.
fn compared(replayed: &Path, run: &Path, stretch: Range<Micros>) -> Result<Option<Verdict>, Error> {
    let name = replayed.display().to_string();
    let is_csv = name.contains(".csv");
    if !(is_csv || name.contains(".jsonl")) || !run.is_file() {
        return Ok(None);
    }
    let (ours, theirs) = (text_of(replayed)?, text_of(run)?);
    let head = |text: &str| if is_csv { text.lines().next().map(str::to_string) } else { None };
    let place =
        head(&theirs).and_then(|head| head.split(',').position(|name| name == "event_time"));
    if is_csv && (place.is_none() || head(&ours) != head(&theirs)) {
        return Ok(None);
    }
    let time = |line: &str| match place {
        Some(place) => field(line, place).and_then(|text| from_rfc3339(&text)),
        None => {
            let row: Json = serde_json::from_str(line).ok()?;
            from_rfc3339(row["event_time"].as_str()?)
        }
    };
    let skip = usize::from(is_csv);
    let ours: Vec<&str> = ours.lines().skip(skip).collect();
    let mut wanted = Vec::new();
    for line in theirs.lines().skip(skip) {
        let Some(at) = time(line) else { return Ok(None) };
        if stretch.contains(&at) {
            wanted.push(line);
        }
    }
    let differs = ours.iter().zip(&wanted).position(|(ours, wanted)| ours != wanted);
    Ok(Some(match differs {
        Some(n) => Verdict::Differs(format!("row {} is {}, and was {}", n + 1, ours[n], wanted[n])),
        None if ours.len() != wanted.len() => {
            Verdict::Differs(format!("it has {} rows, and there were {}", ours.len(), wanted.len()))
        }
        None => Verdict::Equal(ours.len()),
    }))
}

/// A field of a line of CSV, without its quotes.
fn field(line: &str, place: usize) -> Option<String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
    let record = reader.records().next()?.ok()?;
    record.get(place).map(str::to_string)
}

fn text_of(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    Input::new(path).text()?.read_to_string(&mut text).map_err(Error::from)?;
    Ok(text)
}
