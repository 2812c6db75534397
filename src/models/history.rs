//! What the journal of a run says of its versions: which is in charge, which came how far, and what
//! people had to do with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidemill_types::{Error, Micros};

use super::orders::Order;
use crate::journal::record::{Outcome, Record};
use crate::journal::records;
use crate::mill::rollout::evidence_told;

/// Versions that were in charge before and to which a rollback goes back one by one.
pub const KEPT: usize = 4;

/// How far a version has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is trained, and waits.
    #[default]
    New,
    /// It is scored beside the one in charge.
    Shadow,
    /// It serves a share of the keys.
    Canary,
    /// It is in charge. Of a model that learns by itself, what was published last.
    Champion,
    /// It was in charge.
    Former,
    /// It was turned away: by the gate, on trial, or for a newer one that came before its turn.
    Refused,
    /// It was in charge and was taken back.
    RolledBack,
}

impl Stage {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Stage::New => "new",
            Stage::Shadow => "shadow",
            Stage::Canary => "canary",
            Stage::Champion => "champion",
            Stage::Former => "former",
            Stage::Refused => "refused",
            Stage::RolledBack => "rolled back",
        }
    }
}

/// What happened to a version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When, in event time.
    pub at: Micros,
    /// The first epoch for which it holds.
    pub epoch: u64,
    /// What.
    pub what: String,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// How far it has come.
    pub stage: Stage,
    /// The share of the keys that it serves as a canary.
    pub share: f64,
    /// Who has approved it.
    pub approvals: Vec<String>,
    /// When it was in charge: from and, if it is no longer, to.
    pub charge: Vec<(Micros, Option<Micros>)>,
    /// The parameters that it was trained with.
    pub parameters: serde_json::Value,
    /// What happened to it, in order.
    pub events: Vec<Event>,
}

/// Every version of a run, by model and number.
#[derive(Clone, Debug, Default)]
pub struct Histories {
    versions: BTreeMap<(String, u64), History>,
    /// Versions in charge before, by model, newest last.
    lines: BTreeMap<String, Vec<u64>>,
    /// Parameters of trainings that have made no version yet.
    parameters: BTreeMap<String, serde_json::Value>,
}

/// The folder of a run and that of its registry, whichever of them was named.
///
/// # Errors
/// There is neither.
pub fn folders(named: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let models = named.join("models");
    if models.is_dir() {
        return Ok((named.to_path_buf(), models));
    }
    if !named.is_dir() {
        return Err(Error::user(format!("there is no registry at {}", named.display()))
            .help("name the folder of a run, or the folder `models` in it"));
    }
    let is_model = |entry: std::fs::DirEntry| entry.path().join("versions").is_dir();
    let holds_models = || {
        let entries = std::fs::read_dir(named).into_iter().flatten();
        entries.flatten().any(is_model)
    };
    if named.file_name().is_some_and(|name| name == "models") || holds_models() {
        let run = named.parent().unwrap_or(Path::new("."));
        return Ok((run.to_path_buf(), named.to_path_buf()));
    }
    // A run that has not begun yet, or has made no version.
    Ok((named.to_path_buf(), models))
}

impl Histories {
    /// Of a run that writes, or wrote, to this folder; nothing is known where there is no journal.
    ///
    /// # Errors
    /// A journal that is damaged.
    pub fn of_run(run: &Path) -> Result<Histories, Error> {
        let mut all = Histories::default();
        let folder = run.join("journal");
        if !folder.is_dir() {
            return Ok(all);
        }
        for entry in records(&folder)? {
            all.add(entry?.record);
        }
        Ok(all)
    }

    /// Takes the next record of the journal.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Task { task, .. } => {
                self.parameters.insert(task.id, task.parameters);
            }
            Record::Outcome { task, outcome: Outcome::Failed { .. }, .. } => {
                self.parameters.remove(&task);
            }
            Record::Version { version } => {
                let known = self.parameters.remove(&version.lineage.task).unwrap_or_default();
                self.of(&version.model, version.version).parameters = known;
                // No task made it: its model learns by itself, and what is published takes over undecided.
                if version.lineage.task.is_empty() {
                    let (model, since) = (&version.model, version.since);
                    self.leave(model, version.version.saturating_sub(1), since, Stage::Former);
                    let history = self.of(model, version.version);
                    history.stage = Stage::Champion;
                    history.charge.push((since, None));
                }
            }
            record => self.take(record),
        }
    }

    fn of(&mut self, model: &str, version: u64) -> &mut History {
        self.versions.entry((model.to_string(), version)).or_default()
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Promoted(switch) | Record::RolledBack(switch)
                if switch.from == 0 && switch.to == 0 => {}
            Record::Promoted(s) => {
                self.leave(&s.model, s.from, s.event_time, Stage::Former);
                let line = self.lines.entry(s.model.clone()).or_default();
                line.push(s.from);
                line.drain(..line.len().saturating_sub(KEPT));
                let what = format!("takes over from {}: {}", version(s.from), s.why);
                self.enter(&s.model, s.to, s.event_time, s.epoch, what);
            }
            Record::RolledBack(s) => {
                self.leave(&s.model, s.from, s.event_time, Stage::RolledBack);
                let line = self.lines.entry(s.model.clone()).or_default();
                let place = line.iter().position(|v| *v == s.to).unwrap_or(0);
                line.truncate(place);
                let what = format!("taken back for {}: {}", version(s.to), s.why);
                self.tell(&s.model, s.from, s.event_time, s.epoch, what);
                if s.to > 0 {
                    let what = format!("in charge again after {}", version(s.from));
                    self.enter(&s.model, s.to, s.event_time, s.epoch, what);
                }
            }
            Record::Refused(s) => {
                self.of(&s.model, s.to).stage = Stage::Refused;
                self.tell(&s.model, s.to, s.event_time, s.epoch, format!("turned away: {}", s.why));
            }
            Record::Rollout(look) => {
                let history = self.of(&look.model, look.version);
                history.share = look.share;
                match look.stage.as_str() {
                    "shadow" => history.stage = Stage::Shadow,
                    "canary" => history.stage = Stage::Canary,
                    _ => {}
                }
                let end = if look.why.is_empty() { "" } else { ": " };
                let stage = match look.stage.as_str() {
                    "canary" => format!("canary at {:.0} %", look.share * 100.0),
                    stage => stage.to_string(),
                };
                let what = format!(
                    "{stage} against {}, log loss {:+.5} over {} rows, evidence {} for better, {} for \
                     worse{end}{}",
                    version(look.against),
                    look.mean,
                    look.rows,
                    evidence_told(look.better),
                    evidence_told(look.worse),
                    look.why
                );
                self.tell(&look.model, look.version, look.event_time, look.epoch, what);
            }
            Record::Command(command) => {
                let Ok(order) = command.what.parse::<Order>() else { return };
                let number = match &order {
                    Order::Promote(_, n) | Order::Approve(_, n) => *n,
                    Order::RollBack(_, n) => n.unwrap_or(0),
                    Order::Retrain(_) => 0,
                };
                if let (Order::Approve(model, n), None) = (&order, &command.refused) {
                    self.of(model, *n).approvals.push(command.who.clone());
                }
                if number > 0 {
                    let proven = if command.proven { "" } else { " (unproven)" };
                    let end = command.refused.map(|why| format!("; refused: {why}"));
                    let what = format!(
                        "`{}` by {}{proven}: {}{}",
                        command.what,
                        command.who,
                        command.why,
                        end.unwrap_or_default()
                    );
                    self.tell(order.model(), number, command.event_time, command.epoch, what);
                }
            }
            _ => {}
        }
    }

    fn tell(&mut self, model: &str, number: u64, at: Micros, epoch: u64, what: String) {
        self.of(model, number).events.push(Event { at, epoch, what });
    }

    fn enter(&mut self, model: &str, number: u64, at: Micros, epoch: u64, what: String) {
        let history = self.of(model, number);
        history.stage = Stage::Champion;
        history.charge.push((at, None));
        self.tell(model, number, at, epoch, what);
    }

    fn leave(&mut self, model: &str, number: u64, at: Micros, stage: Stage) {
        if number == 0 {
            return;
        }
        let history = self.of(model, number);
        history.stage = stage;
        if let Some((_, until)) = history.charge.last_mut() {
            *until = Some(at);
        }
    }

    /// What is known of a version.
    pub fn get(&self, model: &str, number: u64) -> History {
        self.versions.get(&(model.to_string(), number)).cloned().unwrap_or_default()
    }

    /// The names that a run gives to versions of a model: `champion`, `challenger` (on trial, or the
    /// newest that waits), `previous` (what a rollback goes back to).
    pub fn aliases(&self, model: &str) -> BTreeMap<String, u64> {
        let mine = self.versions.iter().filter(|((of, _), _)| of == model);
        let last = |wanted: &dyn Fn(&History) -> bool| {
            let found = mine.clone().filter(|(_, history)| wanted(history)).map(|((_, n), _)| *n);
            found.max()
        };
        let champion = last(&|h| h.stage == Stage::Champion);
        let challenger = last(&|h| matches!(h.stage, Stage::Shadow | Stage::Canary))
            .or_else(|| last(&|h| h.stage == Stage::New).filter(|n| Some(*n) > champion));
        let previous = self.lines.get(model).and_then(|line| line.last().copied());
        let named = [("champion", champion), ("challenger", challenger), ("previous", previous)];
        let known = named.into_iter().filter_map(|(name, n)| Some((name.to_string(), n?)));
        known.filter(|(_, n)| *n > 0).collect()
    }
}

fn version(number: u64) -> String {
    if number == 0 { "none".to_string() } else { format!("version {number}") }
}
