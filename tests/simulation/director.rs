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

use super::broker::{Brokers, sink};
use super::chance::Chance;
use super::executor::Trainings;
use super::world::{Broken, World};

/// What unwinds the stack of a run that is killed.
pub struct Killed;

/// A step of a part that stays in this thread.
pub type Step = Box<dyn FnMut() -> Turn<()>>;

struct Slot {
    name: String,
    /// None while it makes a step, and when it is over.
    step: Option<Part>,
    /// How often it is chosen.
    weight: u64,
}

thread_local! {
    /// The worker, where it is the only one: what timely has of it cannot leave its thread.
    static WORKER: RefCell<Option<Step>> = const { RefCell::new(None) };
}

/// Steps without anything done, after which a run is taken for stuck.
const STUCK: u64 = 30_000;

/// One life of a run.
pub struct Director {
    world: Arc<World>,
    parts: Mutex<Vec<Slot>>,
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
            parts: Mutex::default(),
            state: Mutex::new(state),
            dead: AtomicBool::new(false),
            began: Instant::now(),
            clock: Arc::default(),
        });
        steps::tell(points::pass);
        director.enter();
        director
    }

    /// What this thread does is of this life.
    pub fn enter(self: &Arc<Director>) {
        disk::simulate(Some(self.world.disk()));
        let hears = Arc::clone(self);
        points::tell(Some(Rc::new(move |point: &str| hears.come_to(point))));
    }

    /// What this thread does is of no life any more.
    pub fn exit() {
        points::tell(None);
        drop(WORKER.take());
        disk::simulate(None);
    }

    /// Takes the only worker, which stays in this thread.
    pub fn seat(&self, step: Step) {
        WORKER.with_borrow_mut(|worker| *worker = Some(step));
        let step = || {
            let Some(mut step) = WORKER.take() else { return Turn::Over(()) };
            let turn = step();
            if turn != Turn::Over(()) {
                WORKER.with_borrow_mut(|worker| *worker = Some(step));
            }
            turn
        };
        self.start("worker 0", Box::new(step));
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<Slot>> {
        self.parts.lock().expect("whole")
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
        // What they hold may look for others while it goes.
        let parts = std::mem::take(&mut *self.parts());
        drop(parts);
        Director::exit();
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
        let at = {
            let parts = self.parts();
            let ready = || parts.iter().enumerate().filter(|(_, slot)| slot.step.is_some());
            let all: u64 = ready().map(|(_, slot)| slot.weight).sum();
            let mut at = self.state().chance.below(all.max(1));
            let found = ready().find(|(_, slot)| {
                let found = at < slot.weight;
                at = at.saturating_sub(slot.weight);
                found
            });
            found.map(|(i, slot)| (i, slot.name.clone()))
        };
        let Some((at, name)) = at else { return };
        self.count(&name);
        let step = self.parts()[at].step.take();
        let Some(mut step) = step else { return };
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
            self.parts()[at].step = Some(step);
        }
    }
}

impl Simulation for Director {
    fn start(&self, name: &str, part: Part) {
        let weight = self.state().chance.of(&[1, 3, 10, 30]);
        self.parts().push(Slot { name: name.to_string(), step: Some(part), weight });
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
        let state = self.state();
        self.world.store(Chance::new(state.ticks, state.trace))
    }

    fn sink(
        &self,
        plan: &SinkPlan,
        schema: &SchemaRef,
        mark: Option<&[u8]>,
    ) -> Option<Result<Box<dyn Sink>, Error>> {
        if plan.section.kind.value != "kafka" {
            return None;
        }
        let (every, chance) = {
            let state = &mut *self.state();
            let every = Duration::from_millis(state.chance.of(&[1, 20, 500]));
            (every, Chance::new(state.ticks, state.trace))
        };
        let name = &plan.name.value;
        let fences = self.world.broken() != Some(Broken::Fences);
        let brokers = Brokers::new(self.world.topic(name), chance, fences);
        Some(sink(brokers, (name, self.world.life()), schema, mark, every))
    }

    fn executor(&self, setup: &Setup) -> Box<dyn Executor> {
        let state = self.state();
        Box::new(Trainings::new(setup.train.clone(), Chance::new(state.ticks, state.trace)))
    }
}
