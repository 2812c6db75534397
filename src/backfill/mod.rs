//! The features of history: the operators of a run over what its sources hold, and nothing else of the run. No model
//! learns or scores, nothing is journaled; the rows of a range of event time are written as the run's sink has them.
//!
//! It may be done in parts by the key of the windows (`src/engine/split.rs`). A part is a task by the contract of
//! `connectors/src/task/mod.rs`: its answer is written once, so that it is never computed twice; whoever asks again
//! goes on with the parts that are missing. What the parts come to is joined in the order of a run.

pub mod apart;
pub mod join;
pub mod ordered;
pub mod part;
pub mod rows;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_config::diagnostic::{Diagnostic, Report};
use tidemill_config::document::Loaded;
use tidemill_config::plan::{Mode, SourcePlan, Stream, Until};
use tidemill_connectors::sink::Sink;
use tidemill_connectors::source::SOURCES;
use tidemill_types::task::Reads;
use tidemill_types::{Error, Micros};
use xxhash_rust::xxh3::Xxh3;

use crate::engine::check::{Compiled, bounded, compile};
use crate::engine::replay::Stretch;
use crate::engine::run::{self, Options, Ran};
use crate::engine::split::Portion;
use crate::host::Host;
use crate::observe::ProgressBar;

/// Compiles a pipeline of features alone: without labels, models, drift and sinks, and without the sources that only
/// those read. All sources end, and rows are final.
///
/// # Errors
/// A pipeline without features, or what else is wrong with it.
pub fn features_of(mut loaded: Loaded) -> Result<Compiled, Report> {
    let plan = &mut loaded.plan;
    if plan.features.is_empty() {
        let name = &plan.pipeline.name;
        let why = Diagnostic::new(
            &name.span,
            format!("pipeline `{}` has no features", name.value),
            "a backfill computes the rows of [features]",
            "add a [features] table, or name another pipeline",
        );
        return Err(Report::new(loaded.text, vec![why]));
    }
    plan.labels.clear();
    plan.models.clear();
    plan.drifts.clear();
    plan.executors.clear();
    plan.sinks.clear();
    (plan.score, plan.checkpoint) = (None, None);
    plan.pipeline.mode = Mode::Final;
    let spine = plan.pipeline.spine.value;
    let read =
        |s: usize| s == spine || plan.windows.iter().any(|window| window.sources.contains(&s));
    let kept: Vec<usize> = (0..plan.sources.len()).filter(|s| read(*s)).collect();
    let place = |s: usize| kept.iter().position(|k| *k == s).unwrap_or_default();
    plan.pipeline.spine.value = place(spine);
    let sources = plan.windows.iter_mut().flat_map(|window| &mut window.sources);
    sources.for_each(|source| *source = place(*source));
    plan.sources = kept.iter().map(|s| plan.sources[*s].clone()).collect();
    for source in plan.sources.iter_mut().filter(|source| !bounded(source)) {
        source.until = Some(Until::End);
    }
    compile(loaded)
}

/// How far each source is read. What an earlier look at it fixed stands where it still can, for a topic may have grown
/// since. With `hash`, files are read once for their hashes: about a second for some gigabytes.
///
/// # Errors
/// A source that cannot be opened, or a log that has lost its beginning.
pub fn reads(compiled: &Compiled, earlier: &[Reads], hash: bool) -> Result<Vec<Reads>, Error> {
    let read = |plan: &SourcePlan| {
        let entry = SOURCES.iter().find(|entry| entry.name == plan.section.kind.value);
        let entry =
            entry.ok_or_else(|| Error::internal("a source passed the check and is not there"))?;
        let open = (entry.open)(plan, (0, 1))?;
        let name = plan.name.value.clone();
        let mut reads = Reads { source: name.clone(), ..Reads::default() };
        for path in open.files().into_iter().filter(|_| hash) {
            let (bytes, hash) = hashed(&path)
                .map_err(|e| Error::external(format!("cannot read {}: {e}", path.display())))?;
            reads.files.push((std::path::absolute(&path).unwrap_or(path), bytes, hash));
        }
        for partition in open.partitions() {
            let begins = open.begins_at(partition);
            if begins > 0 {
                return Err(Error::external(format!(
                    "the features cannot be those of a run: of source `{name}` partition {partition} begins at \
                     offset {begins}, and what was before it is gone"
                ))
                .help("keep the log as long as its history shall be computed (`retention.ms`), or read a copy of it"));
            }
            if let Some(end) = open.ends_at(partition) {
                let known = earlier.iter().find(|reads| reads.source == name);
                let known = known.and_then(|reads| reads.offsets.get(&partition));
                let end = known.filter(|(_, known)| *known <= end).map_or(end, |(_, known)| *known);
                reads.offsets.insert(partition, (begins, end));
            }
        }
        Ok(reads)
    };
    compiled.plan.sources.iter().map(read).collect()
}

/// Length and XXH3-128 of a file.
fn hashed(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Xxh3::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            return Ok((bytes, format!("{:032x}", hash.digest128())));
        }
        hash.update(&piece[..n]);
        bytes += n as u64;
    }
}

/// What the reading of all sources came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Rows read from all sources, refused ones too.
    pub events: u64,
    /// Rows that came too late.
    pub late: u64,
    /// Rows that were refused.
    pub dead_letters: u64,
}

/// Where and how a part is computed.
pub struct Place<'a> {
    /// A folder of its own, which is made and removed.
    pub scratch: &'a Path,
    /// Workers of its dataflow.
    pub workers: usize,
    /// Set when it is to stop. It is as it was when all went well.
    pub stop: &'a Arc<AtomicBool>,
}

/// Sends the feature rows of a range of event time to a sink, by the same operators as a run: everything before the
/// range is read and put into windows too.
///
/// # Errors
/// What ends a run; that it was stopped.
pub fn compute(
    compiled: Compiled,
    range: (Micros, Micros),
    portion: Portion,
    sink: Box<dyn Sink>,
    place: &Place<'_>,
    bar: ProgressBar,
) -> Result<Counted, Error> {
    let stretch = Stretch::new(range.0, range.1, false, vec![(Stream::Features, sink)]);
    let stretch = Arc::new(stretch.of(portion));
    let folder = place.scratch.to_path_buf();
    clear(&folder)?;
    std::fs::create_dir_all(&folder)?;
    let options = Options {
        folder: folder.clone(),
        workers: place.workers,
        members: None,
        speed: None,
        serve: None,
        stretch: Some(Arc::clone(&stretch)),
        host: Host::default(),
    };
    let Ran { report, .. } = run::run(compiled, &options, Arc::clone(place.stop), bar)?;
    clear(&folder)?;
    if stretch.is_whole() {
        place.stop.store(false, Ordering::SeqCst);
    } else if place.stop.load(Ordering::SeqCst) {
        return Err(stopped());
    }
    let summary = report.summary;
    let dead_letters = summary.dead_letters.iter().map(|dead| dead.rows).sum();
    Ok(Counted { events: summary.events, late: summary.late, dead_letters })
}

/// Somebody asked it to stop.
fn stopped() -> Error {
    Error::external("the backfill was stopped before it was done")
        .help("give the same command again: it goes on with the parts that are missing")
}

fn clear(folder: &Path) -> Result<(), Error> {
    match folder.exists() {
        true => Ok(std::fs::remove_dir_all(folder)?),
        false => Ok(()),
    }
}
