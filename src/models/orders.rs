//! Orders to a run: what a person wants done with a version, laid down in the run's folder.
//!
//! ```text
//! <run>/control/orders/<id>.json     what is asked for; a run takes it up within a fraction of a second
//! <run>/control/answers/<id>.json    what came of it, once the journal holds it for good
//! ```
//!
//! An order that nobody has taken up yet waits: for a run that is up, or for the next one, which takes
//! it up as soon as it has come to the end of what its journal says. An order is journaled with the
//! epoch at which it took effect, so that a second run repeats it there. Of the answers the newest 1,000 stay; the
//! journal has all of them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tidemill_types::Error;

use super::registry::{sha256, write_whole_file};
use crate::journal;

/// Answers that are kept: whoever waits for one reads it at once.
const ANSWERS: usize = 1_000;

/// What may be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `promote trees 3`: put this version in charge now.
    Promote(String, u64),
    /// `rollback trees` or `rollback trees 3`: the version before the one in charge, or this one.
    RollBack(String, Option<u64>),
    /// `approve trees 3`: it may serve, as far as I am concerned.
    Approve(String, u64),
    /// `retrain trees`: train it anew on what is known now.
    Retrain(String),
}

impl Order {
    /// The model it is about.
    pub fn model(&self) -> &str {
        match self {
            Order::Promote(model, _)
            | Order::RollBack(model, _)
            | Order::Approve(model, _)
            | Order::Retrain(model) => model,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Promote(model, version) => write!(f, "promote {model} {version}"),
            Order::RollBack(model, None) => write!(f, "rollback {model}"),
            Order::RollBack(model, Some(version)) => write!(f, "rollback {model} {version}"),
            Order::Approve(model, version) => write!(f, "approve {model} {version}"),
            Order::Retrain(model) => write!(f, "retrain {model}"),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Order, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |word: &str| word.parse().map_err(|_| format!("`{word}` is no version"));
        match words[..] {
            ["promote", model, version] => Ok(Order::Promote(model.into(), number(version)?)),
            ["rollback", model] => Ok(Order::RollBack(model.into(), None)),
            ["rollback", model, version] => {
                Ok(Order::RollBack(model.into(), Some(number(version)?)))
            }
            ["approve", model, version] => Ok(Order::Approve(model.into(), number(version)?)),
            ["retrain", model] => Ok(Order::Retrain(model.into())),
            _ => Err(format!("`{text}` is no order")),
        }
    }
}

/// An order as it is laid down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Tells it from every other.
    pub id: String,
    /// Who asks.
    pub who: String,
    /// The order.
    pub what: String,
    /// Why.
    pub why: String,
    /// What proves who asks ([`super::people`]); empty where the run knows no people.
    pub proof: String,
    /// When it was laid down, in nanoseconds since 1970: what was asked first is done first. 0 in letters of
    /// before, which had no time.
    #[serde(default)]
    pub laid: u64,
}

impl Letter {
    /// A letter with an id of its own, without a proof.
    pub fn new(who: &str, order: &Order, why: &str) -> Letter {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let what = order.to_string();
        let unique = format!("{} {} {who} {what}", now.as_nanos(), std::process::id());
        let id = sha256(unique.as_bytes())[..16].to_string();
        let laid = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Letter { id, who: who.into(), what, why: why.into(), proof: String::new(), laid }
    }

    /// The bytes that a proof is made over.
    pub fn signed(&self) -> Vec<u8> {
        let mut text = [&self.id, &self.who, &self.what, &self.why].map(String::as_str).join("\n");
        // Letters of before were proven without it.
        if self.laid > 0 {
            text.push_str(&format!("\n{}", self.laid));
        }
        text.into_bytes()
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The first epoch for which it holds.
    pub epoch: u64,
    /// Why it was not carried out; nothing if it was.
    pub refused: Option<String>,
}

/// The folder of orders and answers.
#[derive(Clone, Debug)]
pub struct Control {
    folder: PathBuf,
    journal: PathBuf,
}

impl Control {
    /// Of a run that writes to this folder.
    pub fn of_run(run: &Path) -> Control {
        Control { folder: run.join("control"), journal: run.join("journal") }
    }

    fn order(&self, id: &str) -> PathBuf {
        self.folder.join("orders").join(format!("{id}.json"))
    }

    fn answer(&self, id: &str) -> PathBuf {
        self.folder.join("answers").join(format!("{id}.json"))
    }

    /// Lays an order down for the run that is up.
    ///
    /// # Errors
    /// The folder cannot be written; no run is up, or it has come to its end and only serves.
    pub fn lay_down(&self, letter: &Letter) -> Result<(), Error> {
        if !journal::in_use(&self.journal) {
            return Err(Error::user("the run has ended, and takes no orders any more").help(
                "lay it down with `tidemill models`: the next run of the folder carries it out",
            ));
        }
        self.leave(letter)
    }

    /// Leaves an order for the run that is up, or for the next one.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn leave(&self, letter: &Letter) -> Result<(), Error> {
        let bytes = serde_json::to_vec(letter).map_err(|e| Error::internal(e.to_string()))?;
        write_whole_file(&self.order(&letter.id), &bytes)
    }

    /// Waits for the answer, at most so long.
    pub fn wait(&self, id: &str, most: Duration) -> Option<Answer> {
        let until = Instant::now() + most;
        loop {
            let found = fs::read(self.answer(id)).ok();
            if let Some(answer) = found.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                return Some(answer);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The orders that wait, the oldest first. What is no order is passed over with a warning.
    pub fn orders(&self) -> Vec<Letter> {
        let Ok(entries) = fs::read_dir(self.folder.join("orders")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
        let read = |path: PathBuf| {
            let letter = fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok());
            if letter.is_none() {
                tracing::warn!(path = %path.display(), "this is no order; remove the file");
            }
            letter.filter(|letter: &Letter| self.order(&letter.id) == path)
        };
        let mut letters: Vec<Letter> = paths.into_iter().filter_map(read).collect();
        letters.sort_by(|a, b| (a.laid, &a.id).cmp(&(b.laid, &b.id)));
        letters
    }

    /// Answers an order and takes it away. The oldest answers go where there are too many.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn reply(&self, id: &str, answer: &Answer) -> Result<(), Error> {
        let bytes = serde_json::to_vec(answer).map_err(|e| Error::internal(e.to_string()))?;
        write_whole_file(&self.answer(id), &bytes)?;
        let path = self.order(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::external(format!("cannot remove {}: {e}", path.display())))
            }
            _ => self.prune(ANSWERS),
        }
    }

    /// Removes all answers but so many, the newest.
    fn prune(&self, most: usize) -> Result<(), Error> {
        let folder = self.folder.join("answers");
        let context =
            |e| Error::external(format!("cannot remove old answers in {}: {e}", folder.display()));
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).map_err(context)? {
            let path = entry.map_err(context)?.path();
            // Somebody else may have removed it.
            let Ok(written) = fs::metadata(&path).and_then(|file| file.modified()) else {
                continue;
            };
            all.push((written, path));
        }
        all.sort();
        all.truncate(all.len().saturating_sub(most));
        all.iter().try_for_each(|(_, path)| fs::remove_file(path)).map_err(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in [
            Order::Promote("trees".into(), 3),
            Order::RollBack("trees".into(), None),
            Order::RollBack("a_b-c".into(), Some(17)),
            Order::Approve("trees".into(), 1),
            Order::Retrain("trees".into()),
        ] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for wrong in [
            "",
            "promote",
            "promote trees",
            "retrain",
            "retrain trees 2",
            "promote trees x",
            "rollback",
            "retire trees 1",
        ] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_order_waits_for_its_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Control::of_run(folder.path());
        assert!(control.orders().is_empty());
        let letter = Letter::new("ann", &Order::RollBack("trees".into(), None), "it lies");
        assert!(control.lay_down(&letter).is_err(), "no run is up");
        control.leave(&letter).expect("laid down");
        assert_eq!(control.orders(), std::slice::from_ref(&letter));
        assert_eq!(control.wait(&letter.id, Duration::ZERO), None);
        let answer = Answer { epoch: 7, refused: None };
        control.reply(&letter.id, &answer).expect("answered");
        assert_eq!(control.wait(&letter.id, Duration::ZERO), Some(answer));
        assert!(control.orders().is_empty());
    }

    /// Those who asked have read them, and the journal has them all.
    #[test]
    fn old_answers_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Control::of_run(folder.path());
        let answer = Answer { epoch: 7, refused: None };
        fs::create_dir_all(folder.path().join("control/answers")).expect("a folder");
        let ids: Vec<String> = (0..ANSWERS as u64 + 2).map(|n| format!("{n:016x}")).collect();
        for (n, id) in ids.iter().enumerate() {
            let mut file = fs::File::create(control.answer(id)).expect("a file");
            serde_json::to_writer(&mut file, &answer).expect("written");
            // Names are by chance: what counts is when it was written.
            let back = (n as u64 * 7_919) % ids.len() as u64;
            file.set_modified(UNIX_EPOCH + Duration::from_secs(back)).expect("a time");
        }
        control.reply("new", &answer).expect("answered");
        let known = |id: &str| control.wait(id, Duration::ZERO).is_some();
        let gone: Vec<&String> = ids.iter().filter(|id| !known(id)).collect();
        let of =
            |back: u64| (0..ids.len()).find(|n| (*n as u64 * 7_919) % ids.len() as u64 == back);
        let mut oldest: Vec<&String> = (0..3).filter_map(of).map(|n| &ids[n]).collect();
        oldest.sort();
        assert_eq!(gone, oldest);
        assert!(known("new"));
    }

    /// Their files are named by chance.
    #[test]
    fn orders_are_heard_as_they_were_laid_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Control::of_run(folder.path());
        let laid: Vec<Letter> = (1..=20)
            .map(|n| Letter::new("ann", &Order::Promote("trees".into(), n), "in turn"))
            .collect();
        laid.iter().for_each(|letter| control.leave(letter).expect("laid down"));
        assert_eq!(control.orders(), laid);

        // Letters of before have no time, and come first.
        let before = br#"{"id":"zz","who":"bob","what":"promote trees 1","why":"","proof":""}"#;
        std::fs::write(folder.path().join("control/orders/zz.json"), before).expect("written");
        let orders = control.orders();
        assert_eq!((orders.len(), orders[0].id.as_str(), orders[0].laid), (21, "zz", 0));
        assert_eq!(orders[0].signed(), b"zz\nbob\npromote trees 1\n");
    }
}
