//! `tidemill backfill`: the features of history.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value as Json, json};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::document::{Loaded, load};
use tidemill_config::plan::{At, SinkPlan, Stream};
use tidemill_config::section::Section;
use tidemill_connectors::disk;
use tidemill_connectors::executor::{self, EXECUTORS};
use tidemill_connectors::sink::{SINKS, Sink};
use tidemill_types::task::{BackfillTask, PipelineText, Reads};
use tidemill_types::time::to_rfc3339;
use tidemill_types::{Error, Micros};

use super::replay::time;
use super::{Failure, Said};
use crate::backfill::apart::{Crew, Done, carry, lock};
use crate::backfill::join::join;
use crate::backfill::ordered::Ordered;
use crate::backfill::rows::Reading;
use crate::backfill::{Counted, Place, compute, features_of, part, reads};
use crate::engine::check::{Compiled, compile};
use crate::engine::outputs::schema_of;
use crate::engine::split::{Portion, Split};
use crate::mill::executors;
use crate::observe::{Display, LogFormat, ProgressBar, Screen, duration, logging, thousands};
use crate::serve::signals;

/// What a person may choose of a backfill.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// The first event time, RFC 3339 or a date. What is before it is read too.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Micros,
    /// The first event time behind the range.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Micros,
    /// Where the rows go: a file, whose ending says the format, or with a / at its end a folder, which gets a
    /// Parquet file for each day of event time.
    #[arg(long, value_name = "FILE_OR_FOLDER")]
    out: PathBuf,
    /// How Parquet packs its columns: zstd, snappy or none.
    #[arg(long, value_parser = ["zstd", "snappy", "none"])]
    compression: Option<String>,
    /// Splits history by the key of the windows. Each part reads all of the input, and keeps what is its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    parts: u32,
    /// Where parts are computed: in_process, subprocess, or an [executor.NAME] of the pipeline file, as for a ray
    /// or dask, which have an address.
    #[arg(long, value_name = "NAME", default_value = "in_process")]
    executor: String,
    /// Parts that are computed at once; in this process, workers of the dataflow of the one that is.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Shows no progress, and of the log only errors.
    #[arg(long)]
    quiet: bool,
}

/// What came of it.
struct Outcome {
    rows: u64,
    counted: Counted,
    /// Parts, and those of them that were there from before.
    parts: (usize, usize),
    /// Seconds of the parts, where they were computed apart.
    seconds: Option<f64>,
}

/// Computes the features of history.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let began = Instant::now();
    if options.from >= options.to {
        return Err(Error::user("--from is not before --to: there is nothing between them")
            .help("give the first event time of the range, and the first one behind it")
            .into());
    }
    let loaded = load(file, overrides)?;
    // What is wrong with the rest of the file is told here as everywhere.
    let whole = compile(loaded.clone())?;
    let compiled = features_of(loaded.clone())?;
    let out = Out::new(options)?;
    let crew_of = executor_of(&whole, &options.executor)?;
    drop(whole);
    let screen = Screen::default();
    logging::start(LogFormat::default(), options.quiet, &screen)?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signal(&stop)?;
    fs::create_dir_all(&out.work).map_err(|e| cannot("make", &out.work, &e))?;
    let held = lock(&out.work)?;
    let done = filled(&loaded, overrides, options, compiled, crew_of, &out, (&stop, &screen));
    let kept = out.work.join("tasks").is_dir();
    if done.as_ref().map_or(!kept, |done| done.rows == 0) {
        // Nothing to go on with.
        fs::remove_dir_all(&out.work).map_err(|e| cannot("remove", &out.work, &e))?;
    }
    let done = done?;
    if done.rows == 0 {
        let (from, to) = (to_rfc3339(options.from), to_rfc3339(options.to));
        return Err(Error::user(format!("there is no event from {from} to {to}"))
            .help(format!(
                "{} events were read; give times that they have",
                thousands(done.counted.events)
            ))
            .into());
    }
    out.publish()?;
    drop(held);
    Ok(said(&done, options, began.elapsed().as_secs_f64()))
}

/// Computes the rows, and writes them where what is under way stands.
fn filled(
    loaded: &Loaded,
    overrides: &[(String, String)],
    options: &Options,
    compiled: Compiled,
    crew_of: Option<(&'static executor::Entry, Section)>,
    out: &Out,
    (stop, screen): (&Arc<AtomicBool>, &Screen),
) -> Result<Outcome, Error> {
    let tell = |line: String| {
        if !options.quiet {
            screen.suspend(|| eprintln!("{line}"));
        }
    };
    let (split, mut parts) = (Split::of(&compiled), options.parts);
    if let (Err(why), 2..) = (&split, parts) {
        tell(format!("history cannot be split: {why}; it is computed as one part"));
        parts = 1;
    }
    let bar = || ProgressBar::new(Display::choose(options.quiet), screen);
    let rows = Arc::new(AtomicU64::new(0));
    let sink = out.open(&compiled)?;
    let mut sink = Box::new(Ordered::new(sink, Arc::clone(&rows)));
    let range = (options.from, options.to);
    if parts == 1 && crew_of.is_none() {
        let scratch = out.work.join("run");
        let place = Place { scratch: &scratch, workers: usize::from(options.workers), stop };
        let reads = reads(&compiled, &[], false)?;
        let portion = Portion { share: None, ends: part::ends(&reads) };
        let counted = compute(compiled, range, portion, sink, &place, bar())?;
        let rows = rows.load(Ordering::Relaxed);
        Ok(Outcome { rows, counted, parts: (1, 0), seconds: None })
    } else {
        let id = compiled.plan.sources[compiled.program.spine].id.as_ref();
        let id = id.and_then(|id| compiled.program.spine_schema.type_of(&id.value));
        let tasks = tasks(loaded, overrides, &compiled, (range, parts), &out.work)?;
        let workers = usize::from(options.workers);
        let crew = Crew { executor: crew_of, workers, stop, bar: &bar };
        let mut last = 0;
        let done = carry(&tasks, &out.work, &crew, &mut |done| {
            last += 1;
            tell(told(done, last, parts));
        })?;
        let readings = done.iter().map(|done| Reading::open(&done.rows.0, done.rows.1.clone()));
        join(readings.collect::<Result<_, _>>()?, id, sink.as_mut())?;
        sink.close()?;
        Ok(outcome(&done))
    }
}

/// One line about a part.
fn told(done: &Done, n: u32, parts: u32) -> String {
    let rows = thousands(done.rows.1.rows);
    let how = match done.before {
        true => "was there".to_string(),
        false => format!("computed in {}", duration(done.result.usage.wall_s)),
    };
    format!("{n} of {parts} parts: part {} has {rows} rows, {how}", done.part + 1)
}

fn outcome(done: &[Done]) -> Outcome {
    let metric = |done: &Done, name: &str| {
        let found = done.result.metrics.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, n)| *n as u64)
    };
    // Each part reads all, and a part may stop early where it has its last row: the furthest counts.
    let most = |name: &str| done.iter().map(|done| metric(done, name)).max().unwrap_or(0);
    Outcome {
        rows: done.iter().map(|done| done.rows.1.rows).sum(),
        counted: Counted {
            events: most("events"),
            late: most("late"),
            dead_letters: most("dead_letters"),
        },
        parts: (done.len(), done.iter().filter(|done| done.before).count()),
        seconds: Some(done.iter().map(|done| done.result.usage.wall_s).sum()),
    }
}

fn said(done: &Outcome, options: &Options, seconds: f64) -> Said {
    let rate = done.rows as f64 / seconds.max(1e-9);
    let (parts, before) = done.parts;
    let mut text = format!(
        "{} rows of {} events in {}, {} rows/s, {}\n",
        thousands(done.rows),
        thousands(done.counted.events),
        duration(seconds),
        thousands(rate as u64),
        match (parts, before) {
            (1, 0) => "one part".to_string(),
            (n, 0) => format!("{n} parts"),
            (n, before) => format!("{n} parts, {before} of them from before"),
        }
    );
    if done.counted.late + done.counted.dead_letters > 0 {
        let (late, dead) = (thousands(done.counted.late), thousands(done.counted.dead_letters));
        text += &format!("{late} events came too late, {dead} were refused, as in a run\n");
    }
    text += &format!(
        "{} to {} in {}\n",
        to_rfc3339(options.from),
        to_rfc3339(options.to),
        options.out.display()
    );
    let json = json!({
        "rows": done.rows,
        "events": done.counted.events,
        "late": done.counted.late,
        "dead_letters": done.counted.dead_letters,
        "parts": parts,
        "parts_from_before": before,
        "seconds": seconds,
        "seconds_of_parts": done.seconds,
        "rows_per_second": rate,
        "out": options.out,
    });
    Said { text, json }
}

/// The executor of that name; none for this process.
fn executor_of(
    compiled: &Compiled,
    name: &str,
) -> Result<Option<(&'static executor::Entry, Section)>, Error> {
    let Some((entry, section, _)) = executors::resolve(&compiled.plan, name) else {
        let declared = compiled.plan.executors.iter().map(|plan| plan.name.value.as_str());
        let known: Vec<&str> = declared.chain(EXECUTORS.iter().map(|entry| entry.name)).collect();
        return Err(Error::user(format!("there is no executor `{name}`"))
            .help(format!("name one of {}", known.join(", "))));
    };
    if !entry.apart {
        return Ok(None);
    }
    (entry.check)(&section).map_err(|why| {
        let why = all_of(&why);
        Error::user(format!("executor `{name}` cannot be used: {why}")).help(format!(
            "add [executor.NAME] with type = \"{}\" to the pipeline file, and name that",
            entry.name
        ))
    })?;
    Ok(Some((entry, section)))
}

/// The parts as tasks. What of a topic is read is fixed when the backfill begins, and stands in its folder.
fn tasks(
    loaded: &Loaded,
    overrides: &[(String, String)],
    compiled: &Compiled,
    (range, parts): ((Micros, Micros), u32),
    work: &Path,
) -> Result<Vec<BackfillTask>, Error> {
    let path = work.join("reads.json");
    let earlier: Vec<Reads> = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let reads = reads(compiled, &earlier, true)?;
    let text = serde_json::to_vec_pretty(&reads).map_err(|e| Error::internal(e.to_string()))?;
    let fresh = path.with_extension("json.part");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|e| cannot("write", &path, &e))?;
    let name = &loaded.text.name;
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let working_folder = std::env::current_dir().map_err(Error::from)?;
    let given = PipelineText {
        name: name.clone(),
        text: loaded.text.text.to_string(),
        folder: working_folder.join(folder),
        set: overrides.to_vec(),
        working_folder,
    };
    let task = |part: u32| BackfillTask {
        id: format!("part {} of {parts}", part + 1),
        pipeline: compiled.plan.pipeline.name.value.clone(),
        given: given.clone(),
        fingerprint: compiled.fingerprint.clone(),
        range,
        part: (part, parts),
        reads: reads.clone(),
    };
    Ok((0..parts).map(task).collect())
}

/// Where the rows go.
struct Out {
    path: PathBuf,
    /// What is under way stands beside it.
    work: PathBuf,
    plan: SinkPlan,
    /// Whether it is a folder.
    folder: bool,
}

impl Out {
    fn new(options: &Options) -> Result<Out, Error> {
        let given = options.out.as_os_str().to_string_lossy();
        let folder = given.ends_with('/') || options.out.is_dir();
        let name = options.out.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else {
            return Err(Error::user(format!("--out {given} names no file"))
                .help("name a file, for example features.parquet, or a folder"));
        };
        let is_empty =
            |folder: &Path| fs::read_dir(folder).is_ok_and(|mut all| all.next().is_none());
        if options.out.exists() && !is_empty(&options.out) {
            return Err(Error::user(format!("{given} is there already, and would be replaced"))
                .help("remove it, or give --out another name"));
        }
        let file = if folder { "features.parquet" } else { name.as_str() };
        let mut keys = format!("path = {}\n", Json::from(file));
        if folder {
            keys += "roll = \"1d\"\n";
        }
        if let Some(packing) = &options.compression {
            keys += &format!("compression = \"{packing}\"\n");
        }
        let section = Section::with_keys("file", &keys)
            .map_err(|e| Error::user(format!("--out {given} is no name of a file: {e:?}")))?;
        let plan = SinkPlan {
            name: At::nowhere("backfill".to_string()),
            pipeline: String::new(),
            stream: Stream::Features,
            section,
            format: None,
            columns: None,
        };
        (entry()?.check)(&plan).map_err(|why| {
            Error::user(format!("--out {given} cannot be written: {}", all_of(&why)))
                .help("end its name in .parquet, .csv, .jsonl or .arrow; --compression is Parquet's alone")
        })?;
        let path = PathBuf::from(given.trim_end_matches('/'));
        let work = path.with_file_name(format!("{name}.backfill"));
        Ok(Out { path, work, plan, folder })
    }

    fn joined(&self) -> PathBuf {
        self.work.join("joined")
    }

    fn open(&self, compiled: &Compiled) -> Result<Box<dyn Sink>, Error> {
        let joined = self.joined();
        if joined.exists() {
            fs::remove_dir_all(&joined).map_err(|e| cannot("remove", &joined, &e))?;
        }
        let schema = schema_of(Stream::Features, compiled.id_type(), &compiled.sent_features());
        (entry()?.open)(&self.plan, schema, &joined)
    }

    /// Gives what is whole its name, and removes what was under way.
    fn publish(&self) -> Result<(), Error> {
        let mut whole = self.joined();
        if !self.folder {
            let name = self.path.file_name().unwrap_or_default();
            whole = whole.join(name);
        }
        fs::rename(&whole, &self.path).map_err(|e| cannot("write", &self.path, &e))?;
        fs::remove_dir_all(&self.work).map_err(|e| cannot("remove", &self.work, &e))
    }
}

fn all_of(why: &[Diagnostic]) -> String {
    let one = |why: &Diagnostic| format!("{}: {}", why.message, why.reason);
    why.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn entry() -> Result<&'static tidemill_connectors::sink::Entry, Error> {
    let entry = SINKS.iter().find(|entry| entry.name == "file");
    entry.ok_or_else(|| Error::internal("there is no sink of files"))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let said = disk::cannot(what, path, error);
    if disk::is_full(error) {
        said
    } else {
        said.help("name a place that can be written with --out")
    }
}
