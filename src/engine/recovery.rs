//! Where a run begins: at the newest line of an earlier one that was cut off, or at the beginning.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidemill_config::plan::{CheckpointPlan, Mode, Plan};
use tidemill_config::section::Section;
use tidemill_config::table::Item;
use tidemill_operators::dataflow::{Begin as BeginWindows, HeldRows, Keep, Saved, Shelf, restored};
use tidemill_operators::window::Pieces;
use tidemill_types::schema::hex;
use tidemill_types::{Error, Micros};

use super::check::{Compiled, bounded};
use super::ingest::repeated;
use super::lines::{Begin, LineSeat, Resume, Seat, cut};
use super::outputs::SinksState;
use crate::checkpoint::epochs::{Epochs, Header, Run};
use crate::checkpoint::keeper::{self, About, Told};
use crate::checkpoint::line::{Gift, SharedLines, ToHead, Track, Tracks};
use crate::checkpoint::restore::{self, Restored};
use crate::checkpoint::store::Store;
use crate::checkpoint::{member, points, section};
use crate::host::{Handle, Host};
use crate::journal::Settled;

/// What a run knows of lines.
pub struct Recovery {
    /// Who makes lines, if anybody does.
    pub lines: Option<SharedLines>,
    /// The line that it goes on from.
    pub from: Option<Restored>,
    /// Where sources begin.
    pub begin: Begin,
    /// `at_once`: where epochs are written down.
    pub epochs: Option<Arc<Epochs>>,
    keeper: Option<Handle<Store>>,
}

impl Recovery {
    /// Reads the newest line in the run's `folder` and starts the thread that makes further ones.
    ///
    /// # Errors
    /// A store that cannot be used; a fail point that does not exist.
    pub fn open(
        compiled: &Arc<Compiled>,
        folder: &Path,
        (workers, others): (usize, usize),
        host: &Host,
        (epochs, settled): (Option<Opened>, Settled),
        tell: Box<dyn Fn(Told) + Send>,
    ) -> Result<(Recovery, Option<SinksState>), Error> {
        points::check()?;
        let Some(plan) = &compiled.plan.checkpoint else {
            let (lines, from, begin, keeper) = (None, None, Begin::default(), None);
            return Ok((Recovery { lines, from, begin, epochs: None, keeper }, None));
        };
        let CheckpointPlan { interval, keep, store } = plan;
        let store = host.store(store, folder)?;
        let places = places(&compiled.plan);
        let (from, next) = restore::newest(&store, &compiled.fingerprint, &places)?;
        let (mut begin, sinks) = match &from {
            Some(from) => {
                let at = tidemill_types::time::to_rfc3339(from.before);
                tracing::info!(line = from.line, "going on from the checkpoint at {at}");
                let sinks: SinksState = section::decode(&from.sinks).map_err(Error::internal)?;
                points::pass("restore.read");
                (begin(from, &sinks), Some(sinks))
            }
            None => (Begin::default(), None),
        };
        let (epochs, runs) = epochs.map_or((None, Vec::new()), |(log, runs)| (Some(log), runs));
        begin.epochs = repeated(runs, begin.round.unwrap_or(0));
        begin.mark = from.as_ref().map(|from| from.before);
        if let Some(log) = &epochs {
            let mark = begin.epochs.last().map(|last| last.mark).or(begin.mark);
            log.begin(mark.unwrap_or(Micros::MIN));
        }
        if let Some(from) = &from {
            begin.held = (0..workers).map(|_| Vec::new()).collect();
            for (i, rows) in from.held.iter().enumerate() {
                let rows: Option<HeldRows> = section::decode(rows).map_err(Error::internal)?;
                begin.held[i % workers].extend(rows);
            }
        }
        let program = Arc::clone(&compiled.program);
        let live = compiled.plan.sources.iter().any(|source| !bounded(source));
        let about = About {
            pipeline: compiled.plan.pipeline.name.value.clone(),
            plan: compiled.fingerprint.clone(),
            places,
            workers,
            others,
            keep: usize::try_from(*keep).unwrap_or(usize::MAX),
            cut: Box::new(move |round| cut(&program, round)),
            epochs: epochs.clone().map(|log| (log, live)),
            settled,
            tell,
        };
        let every = Duration::from_micros(interval.unsigned_abs());
        let (lines, keeper) = keeper::start(store, about, every, next, host)?;
        let (lines, keeper) = (Some(lines), Some(keeper));
        Ok((Recovery { lines, from, begin, epochs, keeper }, sinks))
    }

    /// The same in another process than the head, whose line this is; what it gives goes by `way`.
    ///
    /// # Errors
    /// A store that cannot be used, a line that is not there.
    pub fn of_member(
        compiled: &Arc<Compiled>,
        folder: &Path,
        workers: usize,
        line: Option<u64>,
        way: Arc<ToHead>,
        host: &Host,
    ) -> Result<Recovery, Error> {
        points::check()?;
        let Some(plan) = &compiled.plan.checkpoint else {
            let (lines, from, begin, keeper) = (None, None, Begin::default(), None);
            return Ok(Recovery { lines, from, begin, epochs: None, keeper });
        };
        let store = host.store(&plan.store, folder)?;
        let from = line.map(|line| restore::shared(&store, line)).transpose()?;
        let mut begin = match &from {
            Some(from) => begin(from, &section::decode(&from.sinks).map_err(Error::internal)?),
            None => Begin::default(),
        };
        begin.mark = from.as_ref().map(|from| from.before);
        let (lines, keeper) = member::start(store, workers, way, host)?;
        Ok(Recovery { lines: Some(lines), from, begin, epochs: None, keeper: Some(keeper) })
    }

    /// The seat of a worker's ingest, which has these partitions.
    pub fn seat(
        &self,
        compiled: &Compiled,
        worker: usize,
        partitions: &Partitions,
    ) -> Option<LineSeat> {
        let lines = self.lines.as_ref()?;
        let mut tracks = BTreeMap::new();
        for (source, partition) in partitions {
            let plan = compiled.plan.sources.iter().find(|plan| plan.name.value == *source);
            let sort = plan.and_then(|plan| plan.sort);
            let key = (source.clone(), *partition);
            let track = match self.begin.partitions.get(&key) {
                Some(resume) => Track::resumed(&resume.position, sort),
                None => Track::new(sort),
            };
            tracks.insert(key, track);
        }
        let tracks = Tracks::new(tracks, self.begin.mark.unwrap_or(Micros::MIN));
        Some(LineSeat::new(Arc::clone(lines), Arc::clone(&compiled.program), worker, tracks))
    }

    /// What a worker's windows begin with, and the `shelf` on which they stand for requests, if they do.
    ///
    /// # Errors
    /// Windows of another program.
    pub fn keep(
        &self,
        compiled: &Compiled,
        (worker, workers): (usize, usize),
        shelf: Option<Arc<Shelf>>,
        stop: Arc<AtomicBool>,
    ) -> Result<Kept, Error> {
        let windows = self.lines.clone().map(|lines| {
            Seat::new(lines, "line.windows", move |saved: Saved| {
                let in_order = || saved.into_iter().map(Pieces::ranges).collect();
                Gift::Windows(worker, Box::new(in_order))
            })
        });
        let lines = self.lines.clone().filter(|_| self.epochs.is_some());
        let held = lines.map(|lines| {
            Seat::new(lines, "line.held", move |rows: Option<HeldRows>| {
                let rows = section::encode(&rows).expect("rows have bytes");
                Gift::Held(worker, rows)
            })
        });
        let begin = self.from.as_ref().map(|from| {
            let saved = from.windows.iter().map(|(group, bytes)| (*group, bytes.as_slice()));
            let stores = restored(&compiled.program, from.before, saved, worker, workers);
            let stores = stores.map_err(|why| {
                Error::external(format!("a checkpoint does not fit this pipeline: {why}"))
                    .help("begin again: remove the run's folder of checkpoints")
            });
            stores.map(|stores| BeginWindows { stores, watermark: from.before })
        });
        Ok(Kept { windows, held, begin: begin.transpose()?, shelf, stop })
    }

    /// The run is over. Lines of a run that came to its end are removed: the next one begins at the
    /// beginning.
    ///
    /// # Errors
    /// A store that cannot be cleared; a defect of the thread.
    pub fn close(self, finished: bool) -> Result<(), Error> {
        let (Some(lines), Some(keeper)) = (self.lines, self.keeper) else { return Ok(()) };
        self.epochs.iter().for_each(|epochs| epochs.close());
        lines.close();
        let panicked = |_| Err(Error::internal("the thread of checkpoints panicked"));
        let store = keeper.join().or_else(panicked)?;
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
    windows: Option<Seat<Saved>>,
    held: Option<Seat<Option<HeldRows>>>,
    begin: Option<BeginWindows>,
    shelf: Option<Arc<Shelf>>,
    stop: Arc<AtomicBool>,
}

impl From<Kept> for Keep {
    fn from(kept: Kept) -> Keep {
        let windows = kept.windows.map(|seat| Box::new(seat) as _);
        let held = kept.held.map(|seat| Box::new(seat) as _);
        Keep { windows, held, begin: kept.begin, shelf: kept.shelf, stop: kept.stop }
    }
}

/// The log of epochs, and what earlier runs wrote there.
pub type Opened = (Arc<Epochs>, Vec<Run>);

/// Opens the log of epochs of a pipeline in `at_once` that makes lines.
///
/// # Errors
/// A folder that cannot be written, a log that is damaged.
pub fn open_epochs(
    compiled: &Compiled,
    folder: &Path,
    workers: usize,
    host: &Host,
) -> Result<Option<Opened>, Error> {
    if compiled.plan.pipeline.mode == Mode::Final || compiled.plan.checkpoint.is_none() {
        return Ok(None);
    }
    let header = Header::new(&compiled.fingerprint, &places(&compiled.plan), workers);
    let (log, runs) = Epochs::open(&folder.join("epochs"), header, host)?;
    Ok(Some((Arc::new(log), runs)))
}

fn begin(from: &Restored, sinks: &SinksState) -> Begin {
    let told = |stream: &str, partition: &str| {
        sinks.until.get(&(stream.to_string(), partition.to_string())).copied().unwrap_or(0)
    };
    let resume = from.positions.iter().map(|position| {
        let name = format!("{}/{}", position.source, position.partition);
        let resume = Resume {
            position: position.clone(),
            before: position.before.unwrap_or(from.before),
            told_refused: told("dead_letters", &name),
            told_late: told("late", &name),
        };
        ((position.source.clone(), position.partition), resume)
    });
    Begin { round: Some(from.round), partitions: resume.collect(), ..Begin::default() }
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
