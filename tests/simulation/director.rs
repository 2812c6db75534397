//! Who makes the next step: all parts of a run in one thread, and chance decides.
//!
//! A step may wait for others: then they make steps meanwhile, on top of it. So it is at the points of the protocol
//! (`src/checkpoint/points.rs`), where others may come first as well. At every step and every point the run may be
//! killed: what outlives that is taken down at that moment, and the stack is unwound.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use tidemill::checkpoint::points;
use tidemill::checkpoint::store::Store;
use tidemill::host::{Part, Simulation, Turn};
use tidemill_config::plan::SinkPlan;
use tidemill_connectors::executor::{Executor, Setup};
use tidemill_connectors::sink::Sink;
use tidemill_connectors::{disk, steps};
use tidemill_types::{Error, Micros};

use super::broker::Producer;
use super::chance::Chance;
use super::executor::Trainings;
use super::world::World;

/// What unwinds the stack of a run that is killed.
pub struct Killed;

/// A step of a part that stays in this thread.
pub type Step = Box<dyn FnMut() -> Turn<()>>;

struct Slot {
    name: String,
    /// None while it makes a step, and when it is over.
    step: Option<Step>,
    /// How often it is chosen.
    weight: u64,
}

thread_local! {
    static PARTS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// Steps without anything done, after which a run is taken for stuck.
const STUCK: u64 = 30_000;

/// One life of a run.
pub struct Director {
    world: Arc<World>,
    state: Mutex<State>,
    dead: AtomicBool,
    began: Instant,
    /// Microseconds since then.
    clock: Arc<AtomicU64>,
}

struct State {
    chance: Chance,
    ticks: u64,
    kill_at: Option<u64>,
    /// Steps since something was done.
    idle: u64,
    /// Names of the parts that make a step now.
    stack: Vec<String>,
    trace: u64,
}

/// Parts for which others wait in the middle of a step: nothing may come on top of theirs.
fn is_waited_for(name: &str) -> bool {
    ["journal", "epochs", "training set"].contains(&name)
}

impl Director {
    /// A life that is killed at this tick, if it comes to it.
    pub fn new(world: &Arc<World>, chance: Chance, kill_at: Option<u64>) -> Arc<Director> {
        let state =
            State { chance, ticks: 0, kill_at, idle: 0, stack: Vec::new(), trace: world.life() };
        let director = Arc::new(Director {
            world: Arc::clone(world),
            state: Mutex::new(state),
            dead: AtomicBool::new(false),
            began: Instant::now(),
            clock: Arc::default(),
        });
        disk::simulate(Some(world.disk()));
        steps::tell(points::pass);
        let hears = Arc::clone(&director);
        points::tell(Some(Rc::new(move |point: &str| hears.come_to(point))));
        director
    }

    /// Takes a part that stays in this thread.
    pub fn seat(&self, name: &str, step: Step) {
        let weight = self.state().chance.of(&[1, 3, 10, 30]);
        PARTS.with_borrow_mut(|parts| {
            parts.push(Slot { name: name.to_string(), step: Some(step), weight });
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("whole")
    }

    /// Ticks so far, and a hash of all that happened.
    pub fn told(&self) -> (u64, u64) {
        let state = self.state();
        (state.ticks, state.trace)
    }

    /// The clock moves on.
    pub fn tick(&self) {
        let by = self.state().chance.of(&[1_000, 5_000, 20_000, 100_000, 1_000_000]);
        self.clock.fetch_add(by, Ordering::Relaxed);
    }

    /// Ends this life: nobody makes a step any more.
    pub fn leave(&self) {
        self.dead.store(true, Ordering::Relaxed);
        points::tell(None);
        // What they hold may look for others while it goes.
        let parts = PARTS.take();
        drop(parts);
        disk::simulate(None);
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// One tick nearer to the end.
    fn count(&self, what: &str) {
        let mut state = self.state();
        state.ticks += 1;
        let mut trace = state.trace;
        for byte in what.bytes() {
            trace = (trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        state.trace = trace;
        if state.kill_at.is_some_and(|at| state.ticks >= at) {
            let mut chance = state.chance.clone();
            let stack = state.stack.join(" < ");
            drop(state);
            self.dead.store(true, Ordering::Relaxed);
            self.world.crash(&mut chance, &format!("{what} ({stack})"));
            resume_unwind(Box::new(Killed));
        }
    }

    fn come_to(&self, point: &str) {
        if self.is_dead() || std::thread::panicking() {
            return;
        }
        self.count(point);
        if self.world.verbose {
            eprintln!("      at {point}");
        }
        let mut state = self.state();
        if state.stack.iter().any(|name| is_waited_for(name)) || !state.chance.once_in(3) {
            return;
        }
        let turns = 1 + state.chance.below(6);
        drop(state);
        (0..turns).for_each(|_| self.turn());
    }

    /// Some part makes a step.
    pub fn turn(&self) {
        let at = PARTS.with_borrow(|parts| {
            let ready = || parts.iter().enumerate().filter(|(_, slot)| slot.step.is_some());
            let all: u64 = ready().map(|(_, slot)| slot.weight).sum();
            let mut at = self.state().chance.below(all.max(1));
            ready()
                .find(|(_, slot)| {
                    let found = at < slot.weight;
                    at = at.saturating_sub(slot.weight);
                    found
                })
                .map(|(i, slot)| (i, slot.name.clone()))
        });
        let Some((at, name)) = at else { return };
        self.count(&name);
        let Some(mut step) = PARTS.with_borrow_mut(|parts| parts[at].step.take()) else { return };
        self.state().stack.push(name.clone());
        let turn = step();
        let mut state = self.state();
        state.stack.pop();
        let moved = turn != Turn::Idle && name != "clock";
        state.trace = state.trace.rotate_left(1) ^ u64::from(moved);
        state.idle = if moved { 0 } else { state.idle + 1 };
        let idle = state.idle;
        drop(state);
        if self.world.verbose && moved {
            eprintln!("      {name}{}", if turn == Turn::Over(()) { " is over" } else { "" });
        }
        assert!(idle < STUCK, "nobody does anything any more");
        if turn == Turn::Over(()) {
            drop(step);
        } else {
            PARTS.with_borrow_mut(|parts| parts[at].step = Some(step));
        }
    }
}

impl Simulation for Director {
    fn start(&self, name: &str, part: Part) {
        self.seat(name, part);
    }

    fn pause(&self) -> bool {
        if self.is_dead() || std::thread::panicking() {
            return false;
        }
        self.turn();
        true
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_micros(self.clock.load(Ordering::Relaxed))
    }

    fn wall_clock(&self) -> Micros {
        super::pipeline::TODAY + self.clock.load(Ordering::Relaxed) as Micros
    }

    fn store(&self) -> Result<Store, Error> {
        self.world.store()
    }

    fn sink(
        &self,
        plan: &SinkPlan,
        _: &SchemaRef,
        mark: Option<&[u8]>,
    ) -> Option<Result<Box<dyn Sink>, Error>> {
        if plan.section.kind.value != "kafka" {
            return None;
        }
        let every = Duration::from_millis(self.state().chance.of(&[1, 20, 500]));
        let topic = self.world.topic(&plan.name.value);
        Some(Ok(Box::new(Producer::open(topic, mark, every))))
    }

    fn executor(&self, setup: &Setup) -> Box<dyn Executor> {
        let state = self.state();
        Box::new(Trainings::new(setup.train.clone(), Chance::new(state.ticks, state.trace)))
    }
}
