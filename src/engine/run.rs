//! A run: sources, workers and sinks are opened, started, watched and ended here.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill_config::plan::{LeadingEdge, Mode, Plan};
use tidemill_operators::dataflow::Shelf;
use tidemill_types::Error;

use super::bell::Bell;
use super::check::{self, Compiled};
use super::cluster::{Head, Hearing, Leading, Members, Network};
use super::control::Controller;
use super::crew::{Crew, Shares, open_sources, shared};
use super::ingest::Shared;
use super::outputs::Outputs;
use super::recovery::{Recovery, open_epochs};
use super::replay::Stretch;
use super::results::{Counted, counted, report};
use super::watch::{Turns, Watcher};
use super::workers::{Common, Seat, work};
use crate::board::recent::wall_clock;
use crate::board::{self, Board};
use crate::checkpoint::keeper::Told;
use crate::checkpoint::points;
use crate::host::{Handle, Host};
use crate::journal::Settled;
use crate::mill::{Inbox, Ledger, Mill, Results, Setup, SharedMill, Status};
use crate::observe::ProgressBar;
use crate::observe::metrics::Metrics;
use crate::online::{Desk, Keeper, Online};
use crate::report::Report;
use crate::serve::{self, Server, Watched};

/// How often a run is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// What a person may choose of a run.
#[derive(Clone)]
pub struct Options {
    /// Where it writes to.
    pub folder: PathBuf,
    /// Workers of the dataflow in this process.
    pub workers: usize,
    /// All processes, where there are several.
    pub members: Option<Members>,
    /// Microseconds of event time to a microsecond; full speed without.
    pub speed: Option<f64>,
    /// Where and to whom HTTP is served.
    pub serve: Option<serve::Options>,
    /// Which rows the sinks get, where it is a replay.
    pub stretch: Option<Arc<Stretch>>,
    /// What its parts stand on.
    pub host: Host,
}

impl Options {
    /// Workers of all processes.
    pub(super) fn total(&self) -> usize {
        self.workers * self.members.as_ref().map_or(1, |members| members.hosts.len())
    }

    /// The workers of this process, by their numbers among all.
    pub(super) fn own(&self) -> Range<usize> {
        let first = self.workers * self.members.as_ref().map_or(0, |members| members.process);
        first..first + self.workers
    }
}

/// A run that is open and whose workers are not at work yet.
pub struct Begun {
    /// The pipeline.
    pub compiled: Arc<Compiled>,
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// What each worker takes with it.
    pub seats: Vec<Seat>,
    /// What its parts stand on.
    pub host: Host,
    /// What lines and epochs have of earlier runs.
    pub recovery: Recovery,
    pub(super) turns: Arc<Turns>,
    rows: Vec<Arc<AtomicU64>>,
    status: Arc<Status>,
    inbox: Arc<Inbox>,
    mill: SharedMill,
    obeyed: Settled,
    outputs: Outputs,
    sinks: Handle<Result<(), Error>>,
    readers: Vec<Handle<()>>,
    online: Option<Arc<Online>>,
    leading: Option<Leading>,
    network: Option<Network>,
    shelf: Option<Arc<Shelf>>,
}

/// Opens a run over sources that are open, and starts all of it but the workers. `tell` is told of lines.
///
/// # Errors
/// As [`run`].
pub fn begin(
    compiled: &Arc<Compiled>,
    options: &Options,
    stop: Arc<AtomicBool>,
    shares: Shares,
    head: Option<Head>,
    tell: Box<dyn Fn(Told) + Send>,
) -> Result<Begun, Error> {
    let (plan, host) = (&compiled.plan, &options.host);
    let epochs = open_epochs(compiled, &options.folder, options.total(), host)?;
    let noted = epochs.as_ref().map_or_else(Settled::default, |(log, _)| log.settled());
    let name = &plan.pipeline.name.value;
    let ledger = Ledger::open(&options.folder, name, &compiled.fingerprint, noted.clone(), host)?;
    let turns = Arc::new(Turns::default());
    let settled = ledger.settled().and(&noted);
    let (recovery, state) = Recovery::open(
        compiled,
        &options.folder,
        (options.total(), head.as_ref().map_or(0, Head::members)),
        host,
        (epochs, settled.clone()),
        tell,
    )?;
    // `at_once`: the first epoch that no earlier run had.
    let new = recovery.begin.epochs.last().map(|last| last.round + 1);
    let new = new.max(recovery.begin.round).unwrap_or(0);
    let lines = recovery.lines.clone();
    let shared = Arc::new(shared(compiled, options, Arc::clone(&stop)));
    let to_sinks = (Arc::clone(&turns), lines.clone(), options.stretch.clone());
    let state = (state, host);
    let (outputs, sinks) =
        Outputs::open(compiled, &options.folder, settled, &shared, to_sinks, state)?;
    points::pass("restore.sinks");
    shared.epoch.store(new, Ordering::SeqCst);
    let status = Arc::new(Status::default());
    let inbox = Arc::new(Inbox::default());
    let rows: Vec<Arc<AtomicU64>> = plan.sources.iter().map(|_| Arc::default()).collect();
    let live = is_live(plan);
    let features = compiled.program.feature_schema.fields.len();
    let online = options.serve.as_ref().map(|_| Arc::new(Online::new(features)));
    let obeyed = ledger.settled();
    let setup = Setup {
        online: online.as_ref().map(|online| Keeper::new(Arc::clone(online), compiled)),
        compiled: Arc::clone(compiled),
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
        host: host.clone(),
    };
    let mill = SharedMill::default();
    let at = recovery.from.as_ref().map(|from| (from.before, from.mill.clone()));
    let hearing = Hearing {
        outputs: outputs.clone(),
        shared: Arc::clone(&shared),
        rows: rows.clone(),
        lines: recovery.lines.clone(),
    };
    let line = recovery.from.as_ref().map(|from| from.line);
    let led = head.map(|head| head.begin(line, hearing)).transpose()?;
    let (leading, network) = led.unzip();
    let by_clock = plan.online.as_ref().is_some_and(|online| online.edge == LeadingEdge::WallClock);
    let shelf = (by_clock && online.is_some()).then(|| Arc::new(Shelf::new(options.workers)));
    let crew = Crew {
        outputs: &outputs,
        shared: &shared,
        turns: &turns,
        rows: &rows,
        shelf: shelf.as_ref(),
    };
    let setup = Some((setup, Arc::clone(&mill), at));
    let (seats, readers) = crew.seats(compiled, options, &recovery, shares, setup)?;
    let (compiled, host) = (Arc::clone(compiled), host.clone());
    Ok(Begun {
        compiled,
        shared,
        seats,
        host,
        recovery,
        turns,
        rows,
        status,
        inbox,
        mill,
        obeyed,
        outputs,
        sinks,
        readers,
        online,
        leading,
        network,
        shelf,
    })
}

impl Begun {
    /// Ends a run whose workers have gone, with what those said that panicked.
    ///
    /// # Errors
    /// As [`run`].
    pub fn end(self, panics: &[String]) -> Result<(Results, Counted), Error> {
        let Begun { recovery, readers, outputs, mill, sinks, shared, status, .. } = self;
        readers.into_iter().for_each(|reader| drop(reader.join()));
        let counts = outputs.closed();
        // The mill is a way to the sinks too.
        drop((outputs, mill));
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
        let results = status.results();
        let results = results.ok_or_else(|| Error::internal("the run left no results"))?;
        Ok((results, counted))
    }
}

pub(super) fn is_live(plan: &Plan) -> bool {
    plan.sources.iter().any(|source| !check::bounded(source))
}

/// What a run leaves.
pub struct Ran {
    /// What people are told.
    pub report: Report,
    /// Where HTTP was asked for: it still answers.
    pub server: Option<Server>,
    /// Whether the run went on from a checkpoint, or made one.
    pub checkpoint: bool,
}

/// Runs a pipeline to its end, or until `stop` is set.
///
/// # Errors
/// What ends a run: a source or a sink that fails for good, a folder that cannot be written, a
/// journal of another pipeline.
pub fn run(
    compiled: Compiled,
    options: &Options,
    stop: Arc<AtomicBool>,
    mut bar: ProgressBar,
) -> Result<Ran, Error> {
    let began = Instant::now();
    let compiled = Arc::new(compiled);
    let plan = &compiled.plan;
    let shares = open_sources(&plan.sources, options.own(), options.total())?;
    let read = shares.iter().flatten();
    let read = read.map(|(s, source)| (plan.sources[*s].name.value.as_str(), source.files()));
    check::sinks::replace_no_source(plan, &options.folder, read)?;
    let open = |members| Head::open(members, &compiled, options.workers, &stop);
    let head = options.members.as_ref().map(open).transpose()?;
    let metrics = Arc::new(Metrics::new(&plan.pipeline.name.value)?);
    let told = Arc::clone(&metrics);
    let to_board: Arc<Mutex<Option<Arc<Board>>>> = Arc::default();
    let seat = Arc::clone(&to_board);
    let made = Arc::new(AtomicBool::new(false));
    let makes = Arc::clone(&made);
    let tell = Box::new(move |line: Told| {
        makes.store(true, Ordering::SeqCst);
        if let Some(board) = seat.lock().ok().and_then(|board| board.clone()) {
            board.checkpoint(line.bytes);
        }
        told.checkpoint(line);
    });
    let mut begun = begin(&compiled, options, stop, shares, head, tell)?;
    let Begun { status, outputs, shared, rows, turns, .. } = &begun;
    let live = is_live(plan);
    let board = begun.online.as_ref().map(|online| {
        Arc::new(Board::new(board::Setup {
            compiled: Arc::clone(&compiled),
            status: Arc::clone(status),
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
    let watermarks = Arc::clone(&shared.watermarks);
    let counters = (rows.as_slice(), turns);
    let mut watcher = Watcher::new(&compiled, status, outputs, counters, live, metrics, watermarks);
    let (inbox, mill) = (Arc::clone(&begun.inbox), Arc::clone(&begun.mill));
    let controller = Controller::start(&options.folder, inbox, mill, begun.obeyed.clone())?;
    let server = match options.serve.clone().zip(begun.online.clone()) {
        Some((at, online)) => {
            let registry = options.folder.join("models");
            let view = board.as_ref().map(|board| Arc::clone(board) as Arc<dyn Watched>);
            let view = view.ok_or_else(|| Error::internal("a server without a board"))?;
            let desk = Desk::new(online, Arc::clone(&compiled), Arc::clone(status), registry);
            let desk = match &begun.shelf {
                Some(shelf) => desk.with_clock(Arc::clone(shelf), wall_clock),
                None => desk,
            };
            Some(Server::start(at, Arc::new(desk), view, Arc::clone(&watcher.metrics))?)
        }
        None => None,
    };
    let alive = Arc::new(AtomicUsize::new(options.workers));
    let network = begun.network.take();
    let fate = network.as_ref().map(|network| Arc::clone(&network.2));
    let seats = std::mem::take(&mut begun.seats);
    let guards = work(seats, Common::of(&begun), network, &alive)?;
    let (shared, leading) = (Arc::clone(&begun.shared), begun.leading.take());
    while alive.load(Ordering::SeqCst) > 0 {
        std::thread::park_timeout(LOOK);
        bar.update(&watcher.look());
        board.iter().for_each(|board| board.look(Instant::now()));
        // Where the mill is at work it shows them by itself.
        if let Ok(mut mill) = begun.mill.try_lock() {
            mill.iter_mut().for_each(Mill::catch_up);
        }
        if shared.stop.load(Ordering::Relaxed) {
            leading.iter().for_each(Leading::stop);
            shared.bells.iter().for_each(Bell::ring);
        }
    }
    let failed = || shared.failed.lock().ok().and_then(|failed| failed.clone());
    if let (Some(leading), Some(error)) = (&leading, failed()) {
        leading.fail(&error.to_string());
        // Threads of the network wait for processes that may be gone: they end with this one.
        std::mem::forget(guards);
        return Err(error);
    }
    fate.iter().for_each(|fate| fate.over.store(true, Ordering::SeqCst));
    bar.finish(&watcher.look());
    drop(controller);
    let panics: Vec<String> = guards.join().into_iter().filter_map(Result::err).collect();
    leading.iter().try_for_each(Leading::end)?;
    let events = watcher.rows();
    let resumed = begun.recovery.from.is_some();
    drop(watcher);
    let ended = begun.end(&panics);
    board.iter().for_each(|board| board.end());
    let (results, counted) = ended?;
    let report = report(&compiled, results, events, counted, began.elapsed());
    Ok(Ran { report, server, checkpoint: resumed || made.load(Ordering::SeqCst) })
}
