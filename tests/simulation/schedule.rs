//! One schedule: lives of a run that are killed, one that comes to its end, and what is there then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value as Json;
use tidemill::engine::run::{Begun, Options, Shares, begin};
use tidemill::engine::workers::{Common, Seated};
use tidemill::host::{Host, Turn};
use tidemill_connectors::source::Source;
use tidemill_types::Error;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::Thread;
use timely::worker::Worker;

use super::broker::{Log, Topic};
use super::chance::Chance;
use super::director::{Director, Killed};
use super::pipeline::Case;
use super::world::World;

/// What is compared of two runs.
pub type Found = BTreeMap<String, String>;

/// How a schedule went.
pub struct Went {
    pub found: Found,
    /// Ticks of its last life.
    pub ticks: u64,
    /// A hash of every step of every life.
    pub trace: u64,
    pub kills: u64,
    /// Restarts that went on from a line.
    pub went_on: u64,
}

/// What a schedule is made of.
pub struct Schedule<'a> {
    pub case: &'a Case,
    pub logs: &'a [Arc<Log>],
    pub seed: u64,
    /// Kills at most, each within so many ticks.
    pub kills: u64,
    pub within: u64,
    /// See [`World`].
    pub lies: bool,
    pub verbose: bool,
}

enum Ended {
    Killed,
    Finished,
}

impl Schedule<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn run(&self) -> Result<Went, String> {
        let world = World::new(self.lies, self.verbose);
        let chance = &mut Chance::new(self.seed, 2);
        let kills = if self.kills == 0 { 0 } else { 1 + chance.below(self.kills) };
        let mut went = Went { found: Found::new(), ticks: 0, trace: 0, kills: 0, went_on: 0 };
        loop {
            world.go_on();
            went.went_on += u64::from(world.lines().map_err(|e| e.to_string())? > 0);
            let kill_at = (went.kills < kills).then(|| match chance.below(5) {
                0 => 1 + chance.below(60),
                _ => 1 + chance.below(self.within),
            });
            let director =
                Director::new(&world, Chance::new(self.seed, 100 + world.life()), kill_at);
            let life = AssertUnwindSafe(|| self.live(&world, &director));
            let lived = catch_unwind(life);
            director.leave();
            let (ticks, trace) = director.told();
            went.ticks = ticks;
            went.trace = went.trace.rotate_left(7) ^ trace;
            if self.verbose {
                eprintln!("    life {} ended after {ticks} ticks", world.life());
            }
            let ended = match lived {
                Ok(lived) => lived.map_err(|e| format!("life {}: {e}", world.life()))?,
                Err(panic) if panic.is::<Killed>() => Ended::Killed,
                Err(panic) => {
                    let said = panic.downcast_ref::<String>().map(String::as_str);
                    let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                    return Err(format!("life {}: it panicked: {said}", world.life()));
                }
            };
            if let Some(wrong) = world.wrong() {
                return Err(format!("life {}: {wrong}", world.life()));
            }
            match ended {
                Ended::Killed => went.kills += 1,
                Ended::Finished => break,
            }
        }
        world.look();
        if let Some(wrong) = world.wrong() {
            return Err(format!("at the end: {wrong}"));
        }
        if world.lines().map_err(|e| e.to_string())? > 0 {
            return Err("lines are left of a run that has ended".to_string());
        }
        went.found = found(&world, self.case);
        Ok(went)
    }

    /// One life, to its end.
    fn live(&self, world: &Arc<World>, director: &Arc<Director>) -> Result<Ended, Error> {
        let host = Host::simulated(Arc::clone(director) as _);
        let options = Options {
            folder: world.run(),
            workers: 1,
            speed: None,
            serve: None,
            stretch: None,
            host,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let shares = self.shares(world.life());
        let mut begun = begin(&self.case.compiled, &options, stop, shares, Box::new(|_| {}))?;
        let gone = seat(&mut begun, director);
        let seated = loop {
            if let Some(seated) = gone.borrow_mut().pop() {
                break seated;
            }
            director.turn();
        };
        seated.into_iter().for_each(Seated::leave);
        begun.end(&[])?;
        Ok(Ended::Finished)
    }

    /// Every source as a worker has it.
    fn shares(&self, life: u64) -> Shares {
        let of = |(s, log): (usize, &Arc<Log>)| {
            let mut chance = Chance::new(self.seed, 1_000 + 10 * life + s as u64);
            let source = Topic {
                name: self.case.compiled.plan.sources[s].name.value.clone(),
                schema: Arc::clone(&self.case.schemas[s]),
                log: Arc::clone(log),
                places: (0..log.len() as u32).map(|partition| (partition, Some(0))).collect(),
                most: chance.of(&[1, 3, 10, 40]),
                chance,
            };
            (s, Box::new(source) as Box<dyn Source>)
        };
        vec![self.logs.iter().enumerate().map(of).collect()]
    }
}

/// Workers that have gone, or could not begin.
type Gone = Rc<RefCell<Vec<Option<Seated>>>>;

/// Has the worker and the clock among the parts of the run.
fn seat(begun: &mut Begun, director: &Arc<Director>) -> Gone {
    let common = Common::of(begun);
    let seat = begun.seats.pop().expect("a worker");
    let allocator = Allocator::Thread(Thread::default());
    let mut worker =
        Worker::new(WorkerConfig::default(), allocator, Some(std::time::Instant::now()));
    let mut seated = common.seat(&mut worker, seat);
    let gone = Gone::default();
    let told = Rc::clone(&gone);
    let step = move || {
        if seated.as_ref().is_some_and(|seated| seated.step(&mut worker, false)) {
            return Turn::Moved;
        }
        told.borrow_mut().push(seated.take());
        Turn::Over(())
    };
    director.seat("worker", Box::new(step));
    let (clock, shared) = (Arc::downgrade(director), Arc::clone(&begun.shared));
    let tick = move || {
        if let Some(director) = clock.upgrade() {
            director.tick();
        }
        shared.bells.iter().for_each(tidemill::engine::bell::Bell::ring);
        Turn::Moved
    };
    director.seat("clock", Box::new(tick));
    gone
}

/// What is there at the end.
fn found(world: &World, case: &Case) -> Found {
    let mut found = Found::new();
    for (name, rows) in world.topics() {
        let text = rows.iter().map(|row| format!("{row}\n")).collect();
        found.insert(format!("topic {name}"), text);
    }
    let mut open = vec![world.run()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(world.run()).expect("below").display().to_string();
            // What restarts make of them is not compared: epochs, and rows for trainings that are over.
            let skip = ["epochs", "training", "checkpoints", "journal/lock"];
            if skip.contains(&name.as_str()) {
            } else if path.is_dir() {
                open.push(path);
            } else {
                found.insert(name, content(&path));
            }
        }
    }
    if case.at_once { in_common(found) } else { aside_sorted(found) }
}

fn content(path: &Path) -> String {
    let bytes = fs::read(path).expect("a file");
    String::from_utf8(bytes).unwrap_or_else(|e| format!("{:x?}", e.as_bytes()))
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Rows that went aside have no order among partitions.
fn aside_sorted(mut found: Found) -> Found {
    for name in ["late.jsonl", "dead.jsonl"] {
        if let Some(text) = found.get_mut(name) {
            *text = sorted(text);
        }
    }
    found
}

/// `at_once`: features after all corrections, which rows were scored, and what went aside.
fn in_common(found: Found) -> Found {
    let mut common = Found::new();
    let mut scored: Vec<&str> = Vec::new();
    for (name, text) in &found {
        match name.as_str() {
            "late.jsonl" | "dead.jsonl" => drop(common.insert(name.clone(), sorted(text))),
            "features.jsonl" | "topic features" => drop(common.insert(name.clone(), net(text))),
            name if name.starts_with("scores") => {
                scored.extend(text.lines().skip(1).filter_map(|line| line.split(',').next()));
            }
            _ => {}
        }
    }
    scored.sort_unstable();
    common.insert("scored".to_string(), scored.join("\n"));
    common
}

/// The rows that stand when each `diff` is added up.
fn net(text: &str) -> String {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for line in text.lines() {
        let mut row: Json = serde_json::from_str(line).expect("JSON");
        let diff = row.as_object_mut().and_then(|row| row.remove("diff"));
        let diff = diff.and_then(|diff| diff.as_i64()).expect("a diff");
        *counts.entry(row.to_string()).or_default() += diff;
    }
    counts.retain(|_, count| *count != 0);
    counts.iter().map(|(row, count)| format!("{count} {row}\n")).collect()
}

/// Where two runs differ first.
pub fn difference(wanted: &Found, found: &Found) -> Option<String> {
    for name in wanted.keys().chain(found.keys()) {
        let (wanted, found) = (wanted.get(name), found.get(name));
        if wanted == found {
            continue;
        }
        let (Some(wanted), Some(found)) = (wanted, found) else {
            let which = if wanted.is_some() { "is missing" } else { "is there and should not be" };
            return Some(format!("{name} {which}"));
        };
        let pairs = wanted.lines().zip(found.lines()).enumerate();
        let first = pairs.clone().find(|(_, (a, b))| a != b);
        return Some(match first {
            Some((line, (a, b))) => {
                format!("line {} of {name} is\n{b}\nand should be\n{a}", line + 1)
            }
            None => {
                let (a, b) = (wanted.lines().count(), found.lines().count());
                format!("{name} has {b} lines and should have {a}")
            }
        });
    }
    None
}
