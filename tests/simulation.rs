//! The whole engine in one thread, from one seed: a simulated broker, disk, store and executor, a clock that moves when
//! chance has it, and lives that are killed at any step. What is there at the end is what a run writes that was
//! never killed.
//!
//! `TIDEMILL_SCHEDULES=1000000` runs as many. A schedule that fails is told with its seed, and `TIDEMILL_SEED` runs that
//! one alone and tells each step.

#![allow(clippy::print_stdout)]

#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/director.rs"]
mod director;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/executor.rs"]
mod executor;
#[path = "simulation/pipeline.rs"]
mod pipeline;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/workers.rs"]
mod workers;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use broker::Log;
use pipeline::Case;
use schedule::{Found, Schedule, Went};
use world::Broken;

/// Schedules, where nobody says how many.
const SCHEDULES: u64 = 10_000;

/// Different logs of each pipeline.
const LOGS: u64 = 12;

/// Kills of a schedule at most.
const KILLS: u64 = 4;

/// A log of a pipeline, and what a run over it gives that is never killed.
struct Whole {
    logs: Vec<Arc<Log>>,
    found: Found,
    ticks: u64,
}

/// Pipelines, and over each log what is wanted.
struct Wanted {
    cases: Vec<Case>,
    whole: Vec<OnceLock<Whole>>,
}

impl Wanted {
    fn new() -> Wanted {
        let cases = pipeline::cases();
        let whole = (0..cases.len() as u64 * LOGS).map(|_| OnceLock::new()).collect();
        Wanted { cases, whole }
    }

    /// The pipeline of a seed, and the number of its log.
    fn place(&self, seed: u64) -> (&Case, u64) {
        let cases = self.cases.len() as u64;
        (&self.cases[(seed % cases) as usize], seed / cases % LOGS)
    }

    fn whole(&self, seed: u64) -> &Whole {
        let (case, log) = self.place(seed);
        let at = seed % self.cases.len() as u64 * LOGS + log;
        self.whole[at as usize].get_or_init(|| {
            let logs = pipeline::logs(log);
            let schedule = Schedule {
                case,
                logs: &logs,
                seed: log,
                kills: 0,
                workers: Some(1),
                within: 1,
                broken: None,
                verbose: false,
            };
            let went =
                schedule.run().unwrap_or_else(|e| panic!("{} without a kill: {e}", case.name));
            assert!(!went.found.is_empty());
            Whole { logs, found: went.found, ticks: went.ticks }
        })
    }

    /// Runs the schedule of a seed.
    fn run(&self, seed: u64, broken: Option<Broken>, verbose: bool) -> Result<Went, String> {
        let (case, log) = self.place(seed);
        let whole = self.whole(seed);
        let (logs, within) = (&whole.logs, whole.ticks);
        let schedule =
            Schedule { case, logs, seed, kills: KILLS, within, workers: None, broken, verbose };
        let told = |e: String| format!("seed {seed} ({}, log {log}): {e}", case.name);
        let went = schedule.run().map_err(told)?;
        match schedule::difference(&whole.found, &went.found) {
            Some(difference) => Err(told(difference)),
            None => Ok(went),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Any schedule gives what a run gives that is never killed.
#[test]
fn nothing_is_lost_and_nothing_is_there_twice() {
    let wanted = Wanted::new();
    if let Some(seed) = number("TIDEMILL_SEED") {
        tracing_subscriber::fmt().without_time().with_writer(std::io::stderr).init();
        let went = wanted.run(seed, None, true).unwrap_or_else(|e| panic!("{e}"));
        println!("seed {seed}: {} kills", went.kills);
        return;
    }
    let schedules = number("TIDEMILL_SCHEDULES").unwrap_or(SCHEDULES);
    let (next, kills, went_on, ticks) = <(AtomicU64, AtomicU64, AtomicU64, AtomicU64)>::default();
    let failed: Mutex<Vec<String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= schedules || failed.lock().expect("whole").len() >= 10 {
            return;
        }
        match wanted.run(seed, None, false) {
            Ok(went) => {
                kills.fetch_add(went.kills, Ordering::Relaxed);
                went_on.fetch_add(went.went_on, Ordering::Relaxed);
                ticks.fetch_add(went.ticks, Ordering::Relaxed);
            }
            Err(e) => failed.lock().expect("whole").push(e),
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("whole");
    let (kills, went_on) = (kills.into_inner(), went_on.into_inner());
    println!(
        "{schedules} schedules, {kills} kills, {went_on} restarts went on from a line; {} steps in the last lives",
        ticks.into_inner()
    );
    assert!(
        failed.is_empty(),
        "{}\n\nTIDEMILL_SEED=... cargo test --release --workspace --test simulation nothing_is_lost -- --nocapture \
         runs one alone",
        failed.join("\n\n")
    );
    assert!(kills > schedules && went_on > schedules / 4, "it killed too little to say anything");
}

/// A schedule is its seed: every step comes again.
#[test]
fn a_seed_gives_the_same_steps() {
    let wanted = Wanted::new();
    for seed in 0..24 {
        let [first, second] = [(); 2].map(|()| wanted.run(seed, None, false).expect("it is sound"));
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

/// The simulation can fail: where something does not keep its word that the engine counts on, it is found.
#[test]
fn what_does_not_keep_its_word_is_found() {
    let wanted = Wanted::new();
    for broken in [Broken::Contents, Broken::Names, Broken::Fences] {
        let found = (0..240).find(|seed| wanted.run(*seed, Some(broken), false).is_err());
        assert!(found.is_some(), "{broken:?}: nothing was lost, and nothing was there twice");
    }
}
