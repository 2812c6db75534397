//! Where a run begins: at the newest line of an earlier one that was cut off, or at the beginning.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidemill_config::plan::{CheckpointPlan, Plan};
use tidemill_config::section::Section;
use tidemill_config::table::Item;
use tidemill_operators::dataflow::{Keep, restored};
use tidemill_types::Error;
use tidemill_types::schema::hex;

use super::check::Compiled;
use super::lines::{Begin, LineSeat, Resume, WindowsSeat};
use super::outputs::SinksState;
use crate::checkpoint::keeper::{self, About, Told};
use crate::checkpoint::line::{SharedLines, Track, Tracks};
use crate::checkpoint::restore::{self, Restored};
use crate::checkpoint::store::Store;
use crate::checkpoint::{points, section};
use crate::journal::Settled;

/// What a run knows of lines.
pub struct Recovery {
    /// Who makes lines, if anybody does.
    pub lines: Option<SharedLines>,
    /// The line that it goes on from.
    pub from: Option<Restored>,
    /// Where sources begin.
    pub begin: Begin,
    keeper: Option<JoinHandle<Result<Store, Error>>>,
}

impl Recovery {
    /// Reads the newest line in the run's `folder` and starts the thread that makes further ones.
    ///
    /// # Errors
    /// A store that cannot be used; a fail point that does not exist.
    pub fn open(
        compiled: &Arc<Compiled>,
        folder: &Path,
        workers: usize,
        settled: Settled,
        tell: Box<dyn Fn(Told) + Send>,
    ) -> Result<(Recovery, Option<SinksState>), Error> {
        points::check()?;
        let Some(plan) = &compiled.plan.checkpoint else {
            let none = Recovery { lines: None, from: None, begin: Begin::default(), keeper: None };
            return Ok((none, None));
        };
        let CheckpointPlan { interval, keep, store } = plan;
        let store = Store::local(&folder.join(store))?;
        let places = places(&compiled.plan);
        let (from, next) = restore::newest(&store, &compiled.fingerprint, &places)?;
        let (begin, sinks) = match &from {
            Some(from) => {
                let at = tidemill_types::time::to_rfc3339(from.before);
                tracing::info!(line = from.line, "going on from the checkpoint at {at}");
                let sinks: SinksState = section::decode(&from.sinks).map_err(Error::internal)?;
                points::pass("restore.read");
                (begin(from, &sinks), Some(sinks))
            }
            None => (Begin::default(), None),
        };
        let program = Arc::clone(&compiled.program);
        let about = About {
            pipeline: compiled.plan.pipeline.name.value.clone(),
            plan: compiled.fingerprint.clone(),
            places,
            workers,
            keep: usize::try_from(*keep).unwrap_or(usize::MAX),
            start_of: Box::new(move |round| program.start_of(round)),
            settled,
            tell,
        };
        let every = Duration::from_micros(interval.unsigned_abs());
        let (lines, keeper) = keeper::start(store, about, every, next)?;
        Ok((Recovery { lines: Some(lines), from, begin, keeper: Some(keeper) }, sinks))
    }

    /// The seat of a worker's ingest, which has these partitions.
    pub fn seat(
        &self,
        compiled: &Compiled,
        worker: usize,
        partitions: &Partitions,
    ) -> Option<LineSeat> {
        let lines = self.lines.as_ref()?;
        let mut tracks = Tracks::new();
        for (source, partition) in partitions {
            let key = (source.clone(), *partition);
            let resumed = self.begin.partitions.get(&key);
            let track = resumed.map_or_else(Track::default, |r| Track::resumed(&r.position));
            tracks.insert(key, track);
        }
        Some(LineSeat::new(Arc::clone(lines), Arc::clone(&compiled.program), worker, tracks))
    }

    /// What a worker's windows begin with.
    ///
    /// # Errors
    /// Windows of another program.
    pub fn keep(&self, compiled: &Compiled, worker: usize, workers: usize) -> Result<Kept, Error> {
        let lines = self.lines.clone().map(|lines| WindowsSeat::new(lines, worker));
        let stores = self.from.as_ref().map(|from| {
            let saved = from.windows.iter().map(|(group, bytes)| (*group, bytes.as_slice()));
            restored(&compiled.program, from.before, saved, worker, workers).map_err(|why| {
                Error::external(format!("a checkpoint does not fit this pipeline: {why}"))
                    .help("begin again: remove the run's folder of checkpoints")
            })
        });
        Ok(Kept { lines, stores: stores.transpose()? })
    }

    /// The run is over. Lines of a run that came to its end are removed: the next one begins at the
    /// beginning.
    ///
    /// # Errors
    /// A store that cannot be cleared; a defect of the thread.
    pub fn close(self, finished: bool) -> Result<(), Error> {
        let (Some(lines), Some(keeper)) = (self.lines, self.keeper) else { return Ok(()) };
        lines.close();
        let panicked = |_| Err(Error::internal("the thread of checkpoints panicked"));
        let store = keeper.join().unwrap_or_else(panicked)?;
        if finished {
            points::pass("run.finished");
            store.clear_all()?;
        }
        Ok(())
    }
}

/// Sources' names and their partitions.
pub type Partitions = Vec<(String, u32)>;

/// See [`Keep`]; it may go to another thread.
pub struct Kept {
    lines: Option<WindowsSeat>,
    stores: Option<Vec<tidemill_operators::window::Store>>,
}

impl From<Kept> for Keep {
    fn from(kept: Kept) -> Keep {
        let lines = kept.lines.map(|seat| Box::new(seat) as _);
        Keep { lines, stores: kept.stores }
    }
}

fn begin(from: &Restored, sinks: &SinksState) -> Begin {
    let told = |stream: &str, partition: &str| {
        sinks.until.get(&(stream.to_string(), partition.to_string())).copied().unwrap_or(0)
    };
    let resume = from.positions.iter().map(|position| {
        let name = format!("{}/{}", position.source, position.partition);
        let resume = Resume {
            position: position.clone(),
            before: from.before,
            told_refused: told("dead_letters", &name),
            told_late: told("late", &name),
        };
        ((position.source.clone(), position.partition), resume)
    });
    Begin { round: Some(from.round), partitions: resume.collect() }
}

/// A value without the place where it was written.
fn said(item: &Item) -> String {
    match item {
        Item::Array(items) => items.iter().map(|node| said(&node.value) + ",").collect(),
        Item::Table(entries) => {
            entries.iter().map(|(k, v)| format!("{}={},", k.value, said(&v.value))).collect()
        }
        other => format!("{other:?}"),
    }
}

/// Keys that say how a place is spoken to, and not which it is.
const HOW: [&str; 3] = ["brokers", "properties", "commit_every"];

/// A hash of where sources and sinks are, of what an event's place in time is, and of how rounds are cut: what
/// positions depend on.
fn places(plan: &Plan) -> String {
    let keys = |section: &Section| {
        let which = section.keys.iter().filter(|(k, _)| !HOW.contains(&k.value.as_str()));
        let mut keys: Vec<String> =
            which.map(|(k, v)| format!("{}={}", k.value, said(&v.value))).collect();
        keys.sort();
        format!("{} {keys:?}", section.kind.value)
    };
    let mut text = format!("{:?}", plan.pipeline.bundle);
    for source in &plan.sources {
        let format = source.format.as_ref().map(|format| &format.value);
        text += &format!("\n{} {} {format:?} ", source.name.value, keys(&source.section));
        text += &format!("{:?} {:?} {:?} ", source.sort, source.until, source.null);
        let id = source.id.as_ref().map(|id| &id.value);
        text += &format!("{} {id:?} {}", source.event_time.value, source.timezone.value);
    }
    for sink in &plan.sinks {
        let format = sink.format.as_ref().map(|format| &format.value);
        text += &format!("\n{} {:?} {format:?} ", sink.name.value, sink.stream);
        text += &keys(&sink.section);
        let columns = sink.columns.iter().flatten().map(|column| &column.value);
        text += &format!(" {:?}", columns.collect::<Vec<_>>());
    }
    hex(&Sha256::digest(text))
}
