//! The workers of a run: each renders its dataflow, and steps until it has ended or the run failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use tidemill_types::{Error, Micros};
use timely::communication::Config as Workers;
use timely::worker::Worker;

use super::check::Compiled;
use super::hand_over::HandOver;
use super::ingest::{Ingest, Shared};
use super::recovery::Kept;
use super::render::render;
use super::run::Begun;
use super::watch::Turns;
use crate::host::{Handle, Host};
use crate::mill::{Mill, Setup, SharedMill};

/// A line as the mill takes it: the event time before which everything is in, and its parts.
type Line = (Micros, BTreeMap<String, Vec<u8>>);

/// What a worker takes with it when it starts.
pub struct Seat {
    ingest: Ingest,
    keep: Kept,
    setup: Option<(Setup, SharedMill, Option<Line>)>,
}

impl Seat {
    /// Its ingest, what its windows begin with, and the mill, where it is beside this one.
    pub fn new(
        ingest: Ingest,
        keep: Kept,
        setup: Option<(Setup, SharedMill, Option<Line>)>,
    ) -> Seat {
        Seat { ingest, keep, setup }
    }
}

/// A worker at work.
pub struct Seated {
    shared: Arc<Shared>,
    turns: Arc<Turns>,
    mill: Option<Handle<()>>,
}

/// What all workers of a run are given.
#[derive(Clone)]
pub struct Common {
    compiled: Arc<Compiled>,
    shared: Arc<Shared>,
    turns: Arc<Turns>,
    host: Host,
}

impl Common {
    /// Of this run.
    pub fn of(begun: &Begun) -> Common {
        Common {
            compiled: Arc::clone(&begun.compiled),
            shared: Arc::clone(&begun.shared),
            turns: Arc::clone(&begun.turns),
            host: begun.host.clone(),
        }
    }

    /// Renders the dataflow of a worker, and starts the mill if it is beside this one. Nothing where that fails,
    /// which ends the run.
    pub fn seat(&self, worker: &mut Worker, seat: Seat) -> Option<Seated> {
        let Seat { ingest, keep, setup } = seat;
        let (program, shared) = (&self.compiled.program, &self.shared);
        let started = setup.map(|(setup, at, line)| {
            let lines = setup.lines.clone();
            let mill = seated(setup, at, line)?;
            HandOver::start(mill, Arc::clone(program), Arc::clone(shared), lines, &self.host)
        });
        let (hand_over, mill) = match started.transpose() {
            Ok(started) => started.unzip(),
            Err(error) => {
                shared.fail(error);
                return None;
            }
        };
        let bell = &shared.bells[worker.index()];
        render(worker, ingest, bell, program, hand_over, keep.into(), &self.host);
        Some(Seated { shared: Arc::clone(shared), turns: Arc::clone(&self.turns), mill })
    }
}

impl Seated {
    /// Goes round once, and waits for something to do if it may; false when there will be nothing any more.
    pub fn step(&self, worker: &mut Worker, wait: bool) -> bool {
        if !worker.has_dataflows() {
            return false;
        }
        if self.shared.failed.lock().is_ok_and(|failed| failed.is_some()) {
            // The mill ends when nobody can hand anything over to it any more.
            worker.installed_dataflows().into_iter().for_each(|id| worker.drop_dataflow(id));
            return false;
        }
        self.turns.workers.fetch_add(1, Ordering::Relaxed);
        match wait {
            true => worker.step_or_park(None),
            false => worker.step(),
        };
        true
    }

    /// Waits for the mill beside it.
    pub fn leave(self) {
        // A mill that panicked left no results: the run says so.
        self.mill.map(Handle::join);
    }
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

/// Starts the workers; `alive` counts those that have not ended.
///
/// # Errors
/// No threads are to be had.
pub fn work(
    begun: &mut Begun,
    alive: &Arc<AtomicUsize>,
) -> Result<timely::communication::WorkerGuards<()>, Error> {
    let seats = std::mem::take(&mut begun.seats).into_iter();
    let seats: Vec<Mutex<Option<Seat>>> = seats.map(|seat| Mutex::new(Some(seat))).collect();
    let communication =
        if seats.len() == 1 { Workers::Thread } else { Workers::Process(seats.len()) };
    let config = timely::Config { communication, worker: timely::WorkerConfig::default() };
    let (common, alive) = (Common::of(begun), Arc::clone(alive));
    let waiting = std::thread::current();
    let started = timely::execute(config, move |worker| {
        let (alive, waiting) = (Arc::clone(&alive), waiting.clone());
        let _leaving = Leaving { alive, waiting, shared: Arc::clone(&common.shared) };
        let seat = seats[worker.index()].lock().ok().and_then(|mut seat| seat.take());
        let Some(seated) = seat.and_then(|seat| common.seat(worker, seat)) else { return };
        while seated.step(worker, true) {}
        seated.leave();
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
