//! What the parts of a run stand on: threads, the clock, and what is outside of the process.
//!
//! A part, say a reader or the thread of the sinks, is a step that is done again and again. In a run each has a thread
//! of its own, whose steps sleep until there is something to do. In a simulation (`tests/simulation.rs`) all of them
//! are in one thread: a step that finds nothing says so, and what comes next is the simulation's choice. A run asks it at
//! the few places that would sleep, so that nothing else of the engine knows which of the two it is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use tidemill_config::plan::{SinkPlan, StorePlan};
use tidemill_connectors::executor::{self, Executor};
use tidemill_connectors::sink::Sink;
use tidemill_types::{Error, Micros};

use crate::checkpoint::store::Store;

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// Something was done.
    Moved,
    /// There was nothing to do; never said to whoever may wait.
    Idle,
    /// It was the last one.
    Over(T),
}

/// A step of a part in a simulation.
pub type Part = Box<dyn FnMut() -> Turn<()> + Send>;

/// A run in one thread, with a world of its own.
pub trait Simulation: Send + Sync {
    /// Takes a part.
    fn start(&self, name: &str, part: Part);

    /// Whoever runs now waits for others: some of them make a step. False once the run is dead, when nobody does
    /// any more.
    fn pause(&self) -> bool;

    /// The clock; it starts anywhere.
    fn now(&self) -> Instant;

    /// The time of the day.
    fn wall_clock(&self) -> Micros;

    /// Where lines are kept.
    ///
    /// # Errors
    /// It cannot be used.
    fn store(&self) -> Result<Store, Error>;

    /// The sink of this plan, where it is not the real one, at the state of a mark if there is one.
    fn sink(
        &self,
        plan: &SinkPlan,
        schema: &SchemaRef,
        state: Option<&[u8]>,
    ) -> Option<Result<Box<dyn Sink>, Error>>;

    /// What carries trainings out.
    fn executor(&self, setup: &executor::Setup) -> Box<dyn Executor>;
}

/// See the head of this file. The default is a run on threads. Clones are the same one.
#[derive(Clone, Default)]
pub struct Host(Option<Arc<dyn Simulation>>);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a simulation" } else { "threads" })
    }
}

/// A part that was started.
pub struct Handle<T>(Started<T>);

enum Started<T> {
    Thread(JoinHandle<T>),
    Simulated(Receiver<T>, Arc<dyn Simulation>),
}

impl<T> Handle<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked.
    pub fn join(self) -> std::thread::Result<T> {
        match self.0 {
            Started::Thread(thread) => thread.join(),
            Started::Simulated(end, simulation) => loop {
                if let Ok(end) = end.try_recv() {
                    return Ok(end);
                }
                if !simulation.pause() {
                    return Err(Box::new("the run is dead"));
                }
            },
        }
    }
}

impl Host {
    /// A simulation.
    pub fn simulated(simulation: Arc<dyn Simulation>) -> Host {
        Host(Some(simulation))
    }

    /// The simulation, if it is one.
    pub fn simulation(&self) -> Option<&Arc<dyn Simulation>> {
        self.0.as_ref()
    }

    /// Starts a part: `step` is done until it says that it is over, and is told whether it may wait for something
    /// to do.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start<T: Send + 'static>(
        &self,
        name: &str,
        mut step: impl FnMut(bool) -> Turn<T> + Send + 'static,
    ) -> Result<Handle<T>, Error> {
        if let Some(simulation) = &self.0 {
            let (to, end) = bounded(1);
            let part = move || match step(false) {
                Turn::Moved => Turn::Moved,
                Turn::Idle => Turn::Idle,
                Turn::Over(end) => {
                    // Whoever started it may have gone.
                    let _ = to.send(end);
                    Turn::Over(())
                }
            };
            simulation.start(name, Box::new(part));
            return Ok(Handle(Started::Simulated(end, Arc::clone(simulation))));
        }
        let all = move || loop {
            if let Turn::Over(end) = step(true) {
                return end;
            }
        };
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(all);
        let thread = thread.map_err(|e| Error::external(format!("no thread for {name}: {e}")))?;
        Ok(Handle(Started::Thread(thread)))
    }

    /// A channel in which so many wait at most. In a simulation nobody can wait for room: there a part that finds it
    /// full has to let its step be.
    pub fn channel<T>(&self, most: usize) -> (Sender<T>, Receiver<T>) {
        if self.0.is_some() { unbounded() } else { bounded(most) }
    }

    /// Waits until `done` says so, in a simulation; false where this is none, or the run is dead.
    pub fn wait(&self, mut done: impl FnMut() -> bool) -> bool {
        let Some(simulation) = &self.0 else { return false };
        loop {
            if done() {
                return true;
            }
            if !simulation.pause() {
                return false;
            }
        }
    }

    /// The clock.
    pub fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |simulation| simulation.now())
    }

    /// How long ago that was.
    pub fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }

    /// The time of the day.
    pub fn wall_clock(&self) -> Micros {
        if let Some(simulation) = &self.0 {
            return simulation.wall_clock();
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
    }

    /// Where lines of the run in this folder are kept.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn store(&self, plan: &StorePlan, run: &Path) -> Result<Store, Error> {
        self.0.as_ref().map_or_else(|| Store::open(plan, run), |simulation| simulation.store())
    }
}

/// What comes next, or why nothing does.
pub enum Received<T> {
    /// This.
    One(T),
    /// Nothing is there; never said to whoever may wait.
    Nothing,
    /// Nothing will come.
    Gone,
}

/// Takes from a channel; waits if it may.
pub fn receive<T>(from: &Receiver<T>, wait: bool) -> Received<T> {
    if wait {
        return from.recv().map_or(Received::Gone, Received::One);
    }
    match from.try_recv() {
        Ok(one) => Received::One(one),
        Err(TryRecvError::Empty) => Received::Nothing,
        Err(TryRecvError::Disconnected) => Received::Gone,
    }
}
