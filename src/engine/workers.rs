//! The workers of a run: each renders its dataflow, and steps until it has ended or the run failed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;

use tidemill_types::{Error, Micros};
use timely::worker::Worker;

use super::check::Compiled;
use super::cluster::{self, Network};
use super::hand_over::HandOver;
use super::ingest::{Ingest, Shared};
use super::recovery::Kept;
use super::render::render;
use super::run::Begun;
use super::watch::Turns;
use crate::host::{Handle, Host};
use crate::mill::{Mill, Setup, SharedMill};

/// A line as the mill takes it: the event time before which everything is in, and its parts.
pub type Line = (Micros, BTreeMap<String, Vec<u8>>);

/// What a worker takes with it when it starts.
pub struct Seat {
    ingest: Ingest,
    keep: Kept,
    mill: Option<WithMill>,
}

/// The mill of a run as it is to be made, where others find it, and what it goes on from.
pub type WithMill = (Setup, SharedMill, Option<Line>);

impl Seat {
    /// Its ingest, what its windows begin with, and the mill, where it is beside this one.
    pub fn new(ingest: Ingest, keep: Kept, mill: Option<WithMill>) -> Seat {
        Seat { ingest, keep, mill }
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
    /// These.
    pub fn new(
        compiled: &Arc<Compiled>,
        shared: &Arc<Shared>,
        turns: &Arc<Turns>,
        host: &Host,
    ) -> Common {
        let (compiled, shared) = (Arc::clone(compiled), Arc::clone(shared));
        Common { compiled, shared, turns: Arc::clone(turns), host: host.clone() }
    }

    /// Of this run.
    pub fn of(begun: &Begun) -> Common {
        Common::new(&begun.compiled, &begun.shared, &begun.turns, &begun.host)
    }

    /// Renders the dataflow of a worker, and starts the mill if it is beside this one. Nothing where that fails,
    /// which ends the run.
    pub fn seat(&self, worker: &mut Worker, seat: Seat) -> Option<Seated> {
        let Seat { ingest, keep, mill } = seat;
        let (program, shared) = (&self.compiled.program, &self.shared);
        let started = mill.map(|(setup, at, line)| {
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
        if self.shared.has_failed() {
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

/// Starts the workers of this process; `alive` counts those that have not ended.
///
/// # Errors
/// No threads are to be had.
pub fn work(
    seats: Vec<Seat>,
    common: Common,
    network: Option<Network>,
    alive: &Arc<AtomicUsize>,
) -> Result<timely::communication::WorkerGuards<()>, Error> {
    let (workers, alive) = (seats.len(), Arc::clone(alive));
    let first = network.as_ref().map_or(0, |(process, _, _)| process * workers);
    let seats = seats.into_iter().map(|seat| Mutex::new(Some(seat)));
    let seats: Vec<Mutex<Option<Seat>>> = seats.collect();
    let waiting = std::thread::current();
    cluster::execute(workers, network, move |worker| {
        let (alive, waiting) = (Arc::clone(&alive), waiting.clone());
        let _leaving = Leaving { alive, waiting, shared: Arc::clone(&common.shared) };
        let seat = seats[worker.index() - first].lock().ok().and_then(|mut seat| seat.take());
        let Some(seated) = seat.and_then(|seat| common.seat(worker, seat)) else { return };
        while seated.step(worker, true) {}
        seated.leave();
    })
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
