//! Who reads and who works: sources are opened, readers started and workers seated here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_config::plan::{Mode, SourcePlan};
use tidemill_connectors::source::{SOURCES, Source};
use tidemill_operators::dataflow::Shelf;
use tidemill_types::Error;

use super::bell::Bell;
use super::check::{self, Compiled};
use super::feed::Feed;
use super::ingest::{Ingest, Place, Shared};
use super::lines::{Begin, Resume};
use super::offsets::Offsets;
use super::outputs::Outputs;
use super::pace::Pace;
use super::reader::{PIECES, Reader};
use super::recovery::{Partitions, Recovery};
use super::replay::Stretch;
use super::run::{Options, is_live};
use super::watch::Turns;
use super::watermarks::Watermarks;
use super::workers::{Seat, WithMill};
use crate::host::{Handle, Host};

/// One worker's sources, opened before anything runs.
pub type Shares = Vec<Vec<(usize, Box<dyn Source>)>>;

fn entry_of(source: &SourcePlan) -> Result<&'static tidemill_connectors::source::Entry, Error> {
    let found = SOURCES.iter().find(|e| e.name == source.section.kind.value);
    found.ok_or_else(|| Error::internal("a source passed the check and is not there"))
}

/// Opens the shares of these of all workers of every source, so that nothing starts where one cannot be read.
pub(super) fn open_sources(
    sources: &[SourcePlan],
    own: Range<usize>,
    workers: usize,
) -> Result<Shares, Error> {
    own.map(|worker| {
        let open = |(s, plan): (usize, &SourcePlan)| {
            // Sources of one partition each do not all go to the first worker.
            let share = ((worker + s) % workers, workers);
            Ok((s, (entry_of(plan)?.open)(plan, share)?))
        };
        sources.iter().enumerate().map(open).collect()
    })
    .collect()
}

/// What all seats of a process share.
pub(super) struct Crew<'a> {
    pub(super) outputs: &'a Outputs,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) turns: &'a Arc<Turns>,
    /// Rows read, by source.
    pub(super) rows: &'a [Arc<AtomicU64>],
    /// Where windows as of a moment are read from, if they are.
    pub(super) shelf: Option<&'a Arc<Shelf>>,
}

impl Crew<'_> {
    /// The seats of this process's workers, and who reads for them. The first worker has the mill beside it, if
    /// it is in this process.
    pub(super) fn seats(
        &self,
        compiled: &Arc<Compiled>,
        options: &Options,
        recovery: &Recovery,
        shares: Shares,
        mut mill: Option<WithMill>,
    ) -> Result<(Vec<Seat>, Vec<Handle<()>>), Error> {
        let Crew { outputs, shared, turns, rows, shelf } = *self;
        let (plan, host, stretch) = (&compiled.plan, &options.host, options.stretch.as_ref());
        let (own, total) = (options.own(), options.total());
        let (mut readers, mut seats) = (Vec::new(), Vec::new());
        for (worker, share) in own.clone().zip(shares) {
            let mut partitions = Partitions::new();
            let begin = &recovery.begin;
            // The mill is where worker 0 is: elsewhere each worker tells it how far it has read.
            let far = (own.start > 0).then(|| noted(compiled));
            let offsets = far.as_ref().unwrap_or(&shared.offsets);
            let to = Way { outputs, shared, offsets, turns, worker, begin, stretch, host };
            let feeds = share
                .into_iter()
                .map(|(s, source)| {
                    let name = &plan.sources[s].name.value;
                    partitions.extend(source.partitions().into_iter().map(|p| (name.clone(), p)));
                    start(compiled, s, source, &to, &rows[s], &mut readers)
                })
                .collect::<Result<Vec<Feed>, Error>>()?;
            let (program, shared) = (Arc::clone(&compiled.program), Arc::clone(shared));
            let stop = Arc::clone(&shared.stop);
            let line = recovery.seat(compiled, worker, &partitions);
            let gathers = is_live(plan) && total == 1;
            let place = Place { worker, gathers, line, epochs: recovery.epochs.clone(), far };
            let mut ingest = Ingest::new(program, shared, outputs.clone(), feeds, place);
            ingest.begin(begin);
            let keep = recovery.keep(compiled, (worker, total), shelf.cloned(), stop)?;
            seats.push(Seat::new(ingest, keep, mill.take()));
        }
        Ok((seats, readers))
    }
}

/// Where readers note how far they are.
fn noted(compiled: &Compiled) -> Arc<Offsets> {
    let at_once = compiled.plan.pipeline.mode == Mode::AtOnce;
    Arc::new(Offsets::new(compiled.plan.pipeline.tick, at_once))
}

/// What the workers of a run share.
pub(super) fn shared(compiled: &Compiled, options: &Options, stop: Arc<AtomicBool>) -> Shared {
    let pace = options.speed.map(|speed| Pace::new(speed, compiled.plan.sources.len()));
    let offsets = noted(compiled);
    let bells = (0..options.total()).map(|_| Bell::default()).collect();
    let ahead = usize::try_from(compiled.plan.pipeline.ahead).unwrap_or(usize::MAX);
    let failed = Mutex::new(None);
    let watermarks = Arc::new(Watermarks::new(options.total(), compiled.plan.sources.len()));
    Shared { epoch: AtomicU64::new(0), stop, failed, pace, offsets, bells, ahead, watermarks }
}

/// Where a reader's rows go, and from where it reads.
pub(super) struct Way<'a> {
    pub(super) outputs: &'a Outputs,
    pub(super) shared: &'a Arc<Shared>,
    /// Where is noted how far partitions were read.
    pub(super) offsets: &'a Arc<Offsets>,
    pub(super) turns: &'a Arc<Turns>,
    pub(super) worker: usize,
    pub(super) begin: &'a Begin,
    pub(super) stretch: Option<&'a Arc<Stretch>>,
    pub(super) host: &'a Host,
}

/// Starts the thread that reads a source for a worker.
pub(super) fn start(
    compiled: &Arc<Compiled>,
    s: usize,
    source: Box<dyn Source>,
    way: &Way<'_>,
    rows: &Arc<AtomicU64>,
    readers: &mut Vec<Handle<()>>,
) -> Result<Feed, Error> {
    let plan = compiled.plan.sources[s].clone();
    let host = way.host.clone();
    let (to, from) = host.channel(PIECES);
    let max_ahead = compiled.plan.pipeline.max_ahead;
    let feed = Feed {
        source: s,
        name: plan.name.value.clone(),
        from,
        partitions: source.partitions(),
        idle_after: Duration::from_micros(plan.idle_after.unsigned_abs()),
        hold: plan.hold.map(|hold| Duration::from_micros(hold.unsigned_abs())),
        host: host.clone(),
    };
    let clock = host.clone();
    let reader = Reader {
        bounded: check::bounded(&plan),
        waits: compiled.plan.pipeline.mode == Mode::Final,
        derive: Arc::clone(&compiled.sources[s]),
        latest_allowed: Box::new(move || clock.wall_clock().saturating_add(max_ahead)),
        outputs: way.outputs.clone(),
        stop: Arc::clone(&way.shared.stop),
        read: Arc::clone(rows),
        offsets: Arc::clone(way.offsets),
        to,
        bell: way.shared.bells[way.worker].clone(),
        turns: Arc::clone(way.turns),
        spine: s == compiled.plan.pipeline.spine.value,
        resume: resumed(way.begin, &feed),
        cuts: cuts(way.begin, &feed),
        stretch: way.stretch.cloned(),
        source: s,
        plan,
    };
    readers.push(reader.start(source, &host)?);
    Ok(feed)
}

/// From where this reader's partitions are read on.
fn resumed(begin: &Begin, feed: &Feed) -> BTreeMap<u32, Resume> {
    let of = |partition: &u32| {
        let resume = begin.partitions.get(&(feed.name.clone(), *partition))?;
        Some((*partition, resume.clone()))
    };
    feed.partitions.iter().filter_map(of).collect()
}

/// Where epochs of an earlier run end in this reader's partitions, and where its line stands in them.
fn cuts(begin: &Begin, feed: &Feed) -> BTreeMap<u32, Vec<u64>> {
    let mut cuts: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    if begin.epochs.is_empty() {
        return cuts;
    }
    for partition in &feed.partitions {
        let resume = begin.partitions.get(&(feed.name.clone(), *partition));
        cuts.entry(*partition).or_default().extend(resume.map(|resume| resume.position.taken));
    }
    for (came, _) in begin.epochs.iter().flat_map(|epoch| &epoch.came) {
        let own = came.source as usize == feed.source;
        if let Some(cuts) = cuts.get_mut(&came.partition).filter(|_| own) {
            cuts.push(came.next);
        }
    }
    cuts
}
