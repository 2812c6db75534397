//! A run: sources, workers and sinks are opened, started, watched and ended here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::bounded;
use tidemill_config::plan::{LeadingEdge, Mode, SourcePlan};
use tidemill_connectors::source::{SOURCES, Source};
use tidemill_operators::dataflow::Shelf;
use tidemill_types::{Error, Micros};
use timely::communication::Config as Workers;

use super::bell::Bell;
use super::check::{self, Compiled};
use super::control::Controller;
use super::feed::Feed;
use super::hand_over::HandOver;
use super::ingest::{Ingest, Place, Shared};
use super::lines::{Begin, Resume};
use super::offsets::Offsets;
use super::outputs::Outputs;
use super::pace::Pace;
use super::reader::Reader;
use super::recovery::{Kept, Partitions, Recovery, open_epochs};
use super::render::render;
use super::replay::Stretch;
use super::results::{counted, report};
use super::watch::{Turns, Watcher};
use super::watermarks::Watermarks;
use crate::board::{self, Board};
use crate::checkpoint::keeper::Told;
use crate::checkpoint::points;
use crate::journal::Settled;
use crate::mill::{Inbox, Ledger, Mill, Setup, SharedMill, Status};
use crate::observe::ProgressBar;
use crate::observe::metrics::Metrics;
use crate::online::{Desk, Keeper, Online};
use crate::report::Report;
use crate::serve::{self, Server, Watched};

/// Pieces of one source that wait for a worker at most.
const PIECES: usize = 8;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a person may choose of a run.
#[derive(Clone)]
pub struct Options {
    /// Where it writes to.
    pub folder: PathBuf,
    /// Workers of the dataflow.
    pub workers: usize,
    /// Microseconds of event time to a microsecond; full speed without.
    pub speed: Option<f64>,
    /// Where and to whom HTTP is served.
    pub serve: Option<serve::Options>,
    /// Which rows the sinks get, where it is a replay.
    pub stretch: Option<Arc<Stretch>>,
}

/// One worker's sources, opened before anything runs.
pub(super) type Shares = Vec<Vec<(usize, Box<dyn Source>)>>;

/// A line as the mill takes it: the event time before which everything is in, and its parts.
type Line = (Micros, BTreeMap<String, Vec<u8>>);

/// What workers take with them when they start.
struct Seat {
    ingest: Ingest,
    keep: Kept,
    setup: Option<(Setup, SharedMill, Option<Line>)>,
}

/// Runs a pipeline to its end, or until `stop` is set.
///
/// # Errors
/// What ends a run: a source or a sink that fails for good, a folder that cannot be written, a
/// journal of another pipeline. The server, where one was asked for, still answers.
pub fn run(
    compiled: Compiled,
    options: &Options,
    stop: Arc<AtomicBool>,
    mut bar: ProgressBar,
) -> Result<(Report, Option<Server>), Error> {
    let began = Instant::now();
    let compiled = Arc::new(compiled);
    let plan = &compiled.plan;
    let shares = open_sources(&plan.sources, options.workers)?;
    let epochs = open_epochs(&compiled, &options.folder, options.workers)?;
    let noted = epochs.as_ref().map_or_else(Settled::default, |(log, _)| log.settled());
    let name = &plan.pipeline.name.value;
    let ledger = Ledger::open(&options.folder, name, &compiled.fingerprint, noted.clone())?;
    let turns = Arc::new(Turns::default());
    let settled = ledger.settled().and(&noted);
    let metrics = Arc::new(Metrics::new(&plan.pipeline.name.value)?);
    let told = Arc::clone(&metrics);
    let to_board: Arc<Mutex<Option<Arc<Board>>>> = Arc::default();
    let seat = Arc::clone(&to_board);
    let tell = Box::new(move |line: Told| {
        if let Some(board) = seat.lock().ok().and_then(|board| board.clone()) {
            board.checkpoint(line.bytes);
        }
        told.checkpoint(line);
    });
    let (recovery, state) = Recovery::open(
        &compiled,
        &options.folder,
        options.workers,
        (epochs, settled.clone()),
        tell,
    )?;
    // `at_once`: the first epoch that no earlier run had.
    let new = recovery.begin.epochs.last().map(|last| last.round + 1);
    let new = new.max(recovery.begin.round).unwrap_or(0);
    let lines = recovery.lines.clone();
    let to_sinks = (Arc::clone(&turns), lines.clone(), options.stretch.clone());
    let (outputs, sinks) =
        Outputs::open(&compiled, &options.folder, settled, &stop, to_sinks, state)?;
    points::pass("restore.sinks");
    let shared = Arc::new(shared(&compiled, options, Arc::clone(&stop)));
    shared.epoch.store(new, Ordering::SeqCst);
    let status = Arc::new(Status::default());
    let inbox = Arc::new(Inbox::default());
    let rows: Vec<Arc<AtomicU64>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let live = plan.sources.iter().any(|source| !check::bounded(source));
    let features = compiled.program.feature_schema.fields.len();
    let online = options.serve.as_ref().map(|_| Arc::new(Online::new(features)));
    let by_clock = plan.online.as_ref().is_some_and(|online| online.edge == LeadingEdge::WallClock);
    let shelf = (by_clock && online.is_some()).then(|| Arc::new(Shelf::new(options.workers)));
    let board = online.as_ref().map(|online| {
        Arc::new(Board::new(board::Setup {
            compiled: Arc::clone(&compiled),
            status: Arc::clone(&status),
            outputs: outputs.closed(),
            rows: rows.clone(),
            watermarks: Arc::clone(&shared.watermarks),
            online: Arc::clone(online),
            folder: options.folder.clone(),
            live,
        }))
    });
    if let (Ok(mut seat), Some(board)) = (to_board.lock(), &board) {
        *seat = Some(Arc::clone(board));
    }
    let setup = Setup {
        online: online.as_ref().map(|online| Keeper::new(Arc::clone(online), &compiled)),
        compiled: Arc::clone(&compiled),
        outputs: outputs.clone(),
        ledger,
        folder: options.folder.clone(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        live: options.stretch.as_ref().map_or(live, |stretch| stretch.live),
        status: Arc::clone(&status),
        offsets: Arc::clone(&shared.offsets),
        stop,
        lines,
        inbox: Arc::clone(&inbox),
        repeated: if plan.pipeline.mode == Mode::AtOnce { new } else { 0 },
    };
    let mut watcher = Watcher::new(
        &compiled,
        &status,
        &outputs,
        (&rows, &turns),
        live,
        metrics,
        Arc::clone(&shared.watermarks),
    );
    let mill = SharedMill::default();
    let obeyed = setup.ledger.settled();
    let controller = Controller::start(&options.folder, inbox, Arc::clone(&mill), obeyed)?;
    let server = match options.serve.clone().zip(online) {
        Some((at, online)) => {
            let registry = options.folder.join("models");
            let view = board.as_ref().map(|board| Arc::clone(board) as Arc<dyn Watched>);
            let view = view.ok_or_else(|| Error::internal("a server without a board"))?;
            let desk = Desk::new(online, Arc::clone(&compiled), Arc::clone(&status), registry);
            let desk = match &shelf {
                Some(shelf) => desk.with_clock(Arc::clone(shelf), wall_clock),
                None => desk,
            };
            Some(Server::start(at, Arc::new(desk), view, Arc::clone(&watcher.metrics))?)
        }
        None => None,
    };
    let at = recovery.from.as_ref().map(|from| (from.before, from.mill.clone()));
    let mut setup = Some((setup, mill, at));
    let mut readers = Vec::new();
    let mut seats = Vec::new();
    for (worker, share) in shares.into_iter().enumerate() {
        let mut partitions = Partitions::new();
        let begin = &recovery.begin;
        let stretch = options.stretch.as_ref();
        let to = Way { outputs: &outputs, shared: &shared, turns: &turns, worker, begin, stretch };
        let feeds = share
            .into_iter()
            .map(|(s, source)| {
                let name = &plan.sources[s].name.value;
                partitions.extend(source.partitions().into_iter().map(|p| (name.clone(), p)));
                start(&compiled, s, source, &to, &rows[s], &mut readers)
            })
            .collect::<Result<Vec<Feed>, Error>>()?;
        let (program, shared) = (Arc::clone(&compiled.program), Arc::clone(&shared));
        let line = recovery.seat(&compiled, worker, &partitions);
        let gathers = live && options.workers == 1;
        let place = Place { worker, gathers, line, epochs: recovery.epochs.clone() };
        let mut ingest = Ingest::new(program, shared, outputs.clone(), feeds, place);
        ingest.begin(&recovery.begin);
        let keep = recovery.keep(&compiled, (worker, options.workers), shelf.clone())?;
        seats.push(Mutex::new(Some(Seat { ingest, keep, setup: setup.take() })));
    }
    let alive = Arc::new(AtomicUsize::new(options.workers));
    let guards = work(seats, &compiled, &shared, &turns, &alive)?;
    while alive.load(Ordering::SeqCst) > 0 {
        std::thread::park_timeout(LOOK);
        bar.update(&watcher.look());
        board.iter().for_each(|board| board.look(Instant::now()));
        if shared.stop.load(Ordering::Relaxed) {
            shared.bells.iter().for_each(Bell::ring);
        }
    }
    bar.finish(&watcher.look());
    drop(controller);
    let panics: Vec<String> = guards.join().into_iter().filter_map(Result::err).collect();
    readers.into_iter().for_each(|reader: JoinHandle<()>| drop(reader.join()));
    let events = watcher.rows();
    let counts = outputs.closed();
    drop((outputs, watcher));
    board.iter().for_each(|board| board.end());
    let written =
        sinks.join().unwrap_or_else(|_| Err(Error::internal("the sinks' thread panicked")));
    let counted = counted(&counts);
    if let Some(error) = shared.failed.lock().ok().and_then(|mut failed| failed.take()) {
        return Err(error);
    }
    if let Some(panic) = panics.first() {
        return Err(Error::internal(format!("a worker panicked: {panic}")));
    }
    written?;
    recovery.close(!shared.stop.load(Ordering::SeqCst))?;
    let results = status.results().ok_or_else(|| Error::internal("the run left no results"))?;
    Ok((report(&compiled, results, events, counted, began.elapsed()), server))
}

fn entry_of(source: &SourcePlan) -> Result<&'static tidemill_connectors::source::Entry, Error> {
    let found = SOURCES.iter().find(|e| e.name == source.section.kind.value);
    found.ok_or_else(|| Error::internal("a source passed the check and is not there"))
}

/// Opens every worker's share of every source, so that nothing starts where one cannot be read.
pub(super) fn open_sources(sources: &[SourcePlan], workers: usize) -> Result<Shares, Error> {
    (0..workers)
        .map(|worker| {
            let open = |(s, plan): (usize, &SourcePlan)| {
                // Sources of one partition each do not all go to the first worker.
                let share = ((worker + s) % workers, workers);
                Ok((s, (entry_of(plan)?.open)(plan, share)?))
            };
            sources.iter().enumerate().map(open).collect()
        })
        .collect()
}

/// What the workers of a run share.
pub(super) fn shared(compiled: &Compiled, options: &Options, stop: Arc<AtomicBool>) -> Shared {
    let pace = options.speed.map(|speed| Pace::new(speed, compiled.plan.sources.len()));
    let at_once = compiled.plan.pipeline.mode == Mode::AtOnce;
    let offsets = Arc::new(Offsets::new(compiled.plan.pipeline.tick, at_once));
    let bells = (0..options.workers).map(|_| Bell::default()).collect();
    let ahead = usize::try_from(compiled.plan.pipeline.ahead).unwrap_or(usize::MAX);
    let failed = Mutex::new(None);
    let watermarks = Arc::new(Watermarks::new(options.workers, compiled.plan.sources.len()));
    Shared { epoch: AtomicU64::new(0), stop, failed, pace, offsets, bells, ahead, watermarks }
}

/// Where a reader's rows go, and from where it reads.
pub(super) struct Way<'a> {
    pub(super) outputs: &'a Outputs,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) turns: &'a Arc<Turns>,
    pub(super) worker: usize,
    pub(super) begin: &'a Begin,
    pub(super) stretch: Option<&'a Arc<Stretch>>,
}

/// Starts the thread that reads a source for a worker.
pub(super) fn start(
    compiled: &Arc<Compiled>,
    s: usize,
    source: Box<dyn Source>,
    way: &Way<'_>,
    rows: &Arc<AtomicU64>,
    readers: &mut Vec<JoinHandle<()>>,
) -> Result<Feed, Error> {
    let plan = compiled.plan.sources[s].clone();
    let (to, from) = bounded(PIECES);
    let max_ahead = compiled.plan.pipeline.max_ahead;
    let feed = Feed {
        source: s,
        name: plan.name.value.clone(),
        from,
        partitions: source.partitions(),
        idle_after: Duration::from_micros(plan.idle_after.unsigned_abs()),
        hold: plan.hold.map(|hold| Duration::from_micros(hold.unsigned_abs())),
    };
    let reader = Reader {
        bounded: check::bounded(&plan),
        waits: compiled.plan.pipeline.mode == Mode::Final,
        derive: Arc::clone(&compiled.sources[s]),
        latest_allowed: Box::new(move || wall_clock().saturating_add(max_ahead)),
        outputs: way.outputs.clone(),
        stop: Arc::clone(&way.shared.stop),
        read: Arc::clone(rows),
        offsets: Arc::clone(&way.shared.offsets),
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
    let name = format!("read {}", feed.name);
    let thread = std::thread::Builder::new().name(name).spawn(move || reader.run(source));
    readers.push(thread.map_err(|e| Error::external(format!("no thread for a source: {e}")))?);
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

fn wall_clock() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// Counts a worker out, however it ends.
struct Leaving {
    alive: Arc<AtomicUsize>,
    /// Who waits for all to be out.
    waiting: Thread,
    shared: Arc<Shared>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Without it no round will ever be finished: the others must not wait for one.
            self.shared.fail(Error::internal("a worker panicked; what it said stands above"));
        }
        self.alive.fetch_sub(1, Ordering::SeqCst);
        self.waiting.unpark();
    }
}

/// Starts the workers.
fn work(
    seats: Vec<Mutex<Option<Seat>>>,
    compiled: &Arc<Compiled>,
    shared: &Arc<Shared>,
    turns: &Arc<Turns>,
    alive: &Arc<AtomicUsize>,
) -> Result<timely::communication::WorkerGuards<()>, Error> {
    let communication =
        if seats.len() == 1 { Workers::Thread } else { Workers::Process(seats.len()) };
    let config = timely::Config { communication, worker: timely::WorkerConfig::default() };
    let (compiled, shared, alive) = (Arc::clone(compiled), Arc::clone(shared), Arc::clone(alive));
    let (waiting, turns) = (std::thread::current(), Arc::clone(turns));
    let started = timely::execute(config, move |worker| {
        let shared = Arc::clone(&shared);
        let (alive, waiting) = (Arc::clone(&alive), waiting.clone());
        let _leaving = Leaving { alive, waiting, shared: Arc::clone(&shared) };
        let seat = seats[worker.index()].lock().ok().and_then(|mut seat| seat.take());
        let Some(Seat { ingest, keep, setup }) = seat else { return };
        let program = &compiled.program;
        let started = setup.map(|(setup, at, line)| {
            let lines = setup.lines.clone();
            let mill = seated(setup, at, line)?;
            HandOver::start(mill, Arc::clone(program), Arc::clone(&shared), lines)
        });
        let (mill, thread) = match started.transpose() {
            Ok(started) => started.unzip(),
            Err(error) => return shared.fail(error),
        };
        render(worker, ingest, &shared.bells[worker.index()], program, mill, keep.into());
        while worker.has_dataflows() {
            let failed = shared.failed.lock().is_ok_and(|failed| failed.is_some());
            if failed {
                // The mill ends when nobody can hand anything over to it any more.
                worker.installed_dataflows().into_iter().for_each(|id| worker.drop_dataflow(id));
                break;
            }
            turns.workers.fetch_add(1, Ordering::Relaxed);
            worker.step_or_park(None);
        }
        // A mill that panicked left no results: the run says so.
        thread.map(JoinHandle::join);
    });
    started.map_err(|e| Error::internal(format!("the dataflow did not start: {e}")))
}

/// Makes the mill where others can ask it.
fn seated(setup: Setup, at: SharedMill, line: Option<Line>) -> Result<SharedMill, Error> {
    let mut mill = Mill::new(setup)?;
    if let Some((before, parts)) = line {
        mill.restore(before, &parts)?;
    }
    if let Ok(mut seat) = at.lock() {
        *seat = Some(mill);
    }
    Ok(at)
}
