//! One schedule: lives of a run that are killed, one that comes to its end, and what is there then.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value as Json;
use tidemill::engine::crew::Shares;
use tidemill::engine::run::{Options, begin};
use tidemill::engine::workers::Seated;
use tidemill::host::Host;
use tidemill_connectors::source::Source;
use tidemill_types::Error;

use super::broker::{Log, Topic};
use super::chance::Chance;
use super::director::{Director, Killed};
use super::pipeline::Case;
use super::store::AWAY;
use super::workers;
use super::world::{Broken, World};

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
    /// Workers of each life; by chance where it is not said.
    pub workers: Option<usize>,
    pub broken: Option<Broken>,
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
        let world = World::new(self.broken, self.verbose);
        let chance = &mut Chance::new(self.seed, 2);
        let kills = if self.kills == 0 { 0 } else { 1 + chance.below(self.kills) };
        let mut went = Went { found: Found::new(), ticks: 0, trace: 0, kills: 0, went_on: 0 };
        let mut again = false;
        loop {
            world.go_on();
            went.went_on += u64::from(world.lines().map_err(|e| e.to_string())? > 0);
            let kill_at = (went.kills < kills && !again).then(|| match chance.below(5) {
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
                Ok(Ok(ended)) => ended,
                // It ended in order, with an error that a person would answer by starting it again.
                Ok(Err(error)) if error.to_string().contains(AWAY) => Ended::Killed,
                Ok(Err(error)) => return Err(format!("life {}: {error}", world.life())),
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
                // A run that has come to its end repeats itself.
                Ended::Finished if !again && chance.once_in(4) => again = true,
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
        let workers = self
            .workers
            .unwrap_or_else(|| Chance::new(self.seed, 50 + world.life()).of(&[1, 1, 1, 1, 2, 3]));
        let options = Options {
            folder: world.run(),
            workers,
            members: None,
            speed: None,
            serve: None,
            stretch: None,
            host,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let shares = self.shares(world.life(), workers);
        let mut begun = begin(&self.case.compiled, &options, stop, shares, None, Box::new(|_| {}))?;
        workers::run(&mut begun, director).into_iter().for_each(Seated::leave);
        begun.end(&[])?;
        Ok(Ended::Finished)
    }

    /// Every source as each worker has it: its share of the partitions.
    fn shares(&self, life: u64, workers: usize) -> Shares {
        let of = |worker: usize, (s, log): (usize, &Arc<Log>)| {
            let purpose = 1_000 + 100 * life + 10 * worker as u64 + s as u64;
            let mut chance = Chance::new(self.seed, purpose);
            let own = |partition: &u32| *partition as usize % workers == (worker + s) % workers;
            let partitions = (0..log.len() as u32).filter(own);
            let source = Topic {
                name: self.case.compiled.plan.sources[s].name.value.clone(),
                schema: Arc::clone(&self.case.schemas[s]),
                log: Arc::clone(log),
                places: partitions.map(|partition| (partition, Some(0))).collect(),
                most: chance.of(&[1, 3, 10, 40]),
                chance,
            };
            (s, Box::new(source) as Box<dyn Source>)
        };
        let share = |worker| self.logs.iter().enumerate().map(|one| of(worker, one)).collect();
        (0..workers).map(share).collect()
    }
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
    // A row that is there twice was answered twice, and corrected once.
    let twice = found.get("dead.jsonl").map(|text| twice(text)).unwrap_or_default();
    let mut scored: Vec<&str> = Vec::new();
    for (name, text) in &found {
        match name.as_str() {
            "late.jsonl" => drop(common.insert(name.clone(), sorted(text))),
            "dead.jsonl" => drop(common.insert(name.clone(), refused(text))),
            "features.jsonl" | "topic messages" => {
                common.insert(name.clone(), net(text, &twice));
            }
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

/// What was refused, and why. A row that is there twice has the features that it had when it came.
fn refused(text: &str) -> String {
    let what = |line: &str| {
        let mut row: Json = serde_json::from_str(line).expect("JSON");
        if let Some(row) = row.as_object_mut().filter(|row| row["reason"] == "duplicate_id") {
            row.remove("raw");
        }
        format!("{row}\n")
    };
    sorted(&text.lines().map(what).collect::<String>())
}

/// The ids of rows that were there twice.
fn twice(refused: &str) -> Vec<String> {
    let id = |line: &str| {
        let row: Json = serde_json::from_str(line).expect("JSON");
        let said = row["detail"].as_str()?.strip_prefix("a row with the id ")?;
        said.split(' ').next().map(str::to_string)
    };
    refused.lines().filter_map(id).collect()
}

/// The rows that stand when each `diff` is added up, without those of these ids.
fn net(text: &str, without: &[String]) -> String {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for line in text.lines() {
        let mut row: Json = serde_json::from_str(line).expect("JSON");
        if without.contains(&row["id"].to_string()) {
            continue;
        }
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
