//! What people ask for is carried out between two ticks, and written down with the epoch from which it
//! holds; a second run does the same at the same place.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_config::plan::Mode;
use tidemill_types::{Error, Micros};

use super::Mill;
use super::models::{State, Version};
use super::watch::Reference;
use crate::journal::record::Command;
use crate::models::orders::{Answer, Letter, Order};

/// Orders on their way to the mill, and answers on their way back.
#[derive(Default)]
pub struct Inbox {
    boxes: Mutex<Boxes>,
    waiting: AtomicBool,
}

#[derive(Default)]
struct Boxes {
    /// Letters that lie in the folder of orders still.
    seen: BTreeSet<String>,
    orders: VecDeque<(Letter, Result<bool, String>)>,
    answers: Vec<(String, Answer)>,
}

impl Inbox {
    /// Takes a letter that was not seen before; `judged` says whether its sender is proven, or why it
    /// must not be carried out.
    pub fn put(&self, letter: Letter, judged: Result<bool, String>) {
        if let Ok(mut boxes) = self.boxes.lock()
            && boxes.seen.insert(letter.id.clone())
        {
            boxes.orders.push_back((letter, judged));
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// Whether a letter of this id was put in.
    pub fn has_seen(&self, id: &str) -> bool {
        self.boxes.lock().is_ok_and(|boxes| boxes.seen.contains(id))
    }

    /// The letter was answered and taken away: it comes no more, and need not be known.
    pub fn forget(&self, id: &str) {
        if let Ok(mut boxes) = self.boxes.lock() {
            boxes.seen.remove(id);
        }
    }

    /// Whether an order waits.
    pub fn waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// The answers since the last call; they are to be given once they are durable.
    pub fn answers(&self) -> Vec<(String, Answer)> {
        self.boxes.lock().map(|mut boxes| std::mem::take(&mut boxes.answers)).unwrap_or_default()
    }

    /// The oldest order. One at a time: where one cannot be carried out, the others still wait.
    fn next(&self) -> Option<(Letter, Result<bool, String>)> {
        let mut boxes = self.boxes.lock().ok()?;
        let next = boxes.orders.pop_front();
        self.waiting.store(!boxes.orders.is_empty(), Ordering::Release);
        next
    }

    fn answer(&self, id: String, answer: Answer) {
        if let Ok(mut boxes) = self.boxes.lock() {
            boxes.answers.push((id, answer));
        }
    }
}

impl Mill {
    /// Carries out what is asked for before the tick of this epoch begins: first what an earlier run
    /// was asked for, then, once that is all repeated, what is new.
    pub(super) fn obey(&mut self, epoch: u64, now: Micros) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        while let Some(command) = self.ledger.due(epoch) {
            self.carry_out(command)?;
        }
        if !self.inbox.waits() || !self.ledger.caught_up() || epoch < self.repeated {
            return Ok(());
        }
        self.hear(epoch, now).map(drop)
    }

    /// Carries out what is new; whether anything of it was written down.
    fn hear(&mut self, epoch: u64, now: Micros) -> Result<bool, Error> {
        let mut heard = false;
        while let Some((letter, judged)) = self.inbox.next() {
            if let Some(answer) = self.ledger.answer(&letter.id) {
                self.inbox.answer(letter.id, answer.clone());
                continue;
            }
            let (proven, refused) = match (letter.what.parse(), judged) {
                (Ok(order), Ok(proven)) => (proven, self.objection(&order, &letter.who, now)),
                (Ok(_), Err(why)) | (Err(why), _) => (false, Some(why)),
            };
            let Letter { id, who, what, why, .. } = letter;
            let command =
                Command { id: id.clone(), who, proven, what, why, epoch, event_time: now, refused };
            let answer = Answer { epoch, refused: command.refused.clone() };
            self.carry_out(command)?;
            heard = true;
            self.inbox.answer(id, answer);
        }
        Ok(heard)
    }

    /// The same while nothing comes: every tick up to the clock is done, so it holds from the next on.
    ///
    /// # Errors
    /// As [`Mill::advance`].
    pub fn obey_now(&mut self) -> Result<(), Error> {
        match self.clock {
            Some(clock) if self.compiled.plan.pipeline.mode == Mode::Final => {
                let next = self.tick_of(clock) + 1;
                self.obey(next as u64, self.start_of(next))
            }
            _ => Ok(()),
        }
    }

    /// The input has ended: what an earlier run was asked for after its last tick, and then what is new.
    /// A run that repeats a finished one is never up to date before this. What it is asked for here stands
    /// behind the end in its journal, with an end of its own, and so a third run comes to it in the same place.
    pub(super) fn obey_at_the_end(&mut self) -> Result<(), Error> {
        let (epoch, now) = self.after_the_end();
        loop {
            while let Some(command) = self.ledger.due(u64::MAX) {
                self.carry_out(command)?;
            }
            let finished = self.finished();
            self.ledger.note(finished)?;
            self.ended = true;
            if self.ledger.caught_up() && !self.hear(epoch, now)? {
                return Ok(());
            }
        }
    }

    /// The first epoch that the input did not come to, and its time.
    fn after_the_end(&self) -> (u64, Micros) {
        let last = self.clock.unwrap_or(Micros::MIN).max(self.results.latest);
        match self.compiled.plan.pipeline.mode {
            Mode::AtOnce => (self.next_epoch.max(self.repeated), last),
            Mode::Final if last == Micros::MIN => (0, last),
            Mode::Final => {
                let next = self.tick_of(last) + 1;
                (next as u64, self.start_of(next))
            }
        }
    }

    /// Why an order cannot be carried out.
    fn objection(&self, order: &Order, who: &str, now: Micros) -> Option<String> {
        let name = order.model();
        let Some(m) = self.models.iter().position(|m| *m.name == *name) else {
            return Some(format!("there is no model {name}"));
        };
        let State::Batch(batch) = &self.models[m].state else {
            return Some(format!(
                "model {name} learns from every label: it has no versions to choose"
            ));
        };
        let live = batch.live.as_ref().map_or(0, |live| live.number);
        let there = |n: u64| {
            let none =
                || format!("model {name} has no version {n}, the last is {}", batch.versions);
            (n == 0 || n > batch.versions).then(none)
        };
        let in_charge = |n: u64| (n == live).then(|| format!("version {n} is in charge already"));
        match *order {
            Order::Approve(_, n) => there(n).or_else(|| {
                let approvals = batch.approvals.get(&n).is_some_and(|all| all.contains(who));
                approvals
                    .then(|| format!("{who} has approved version {n} already: it takes another"))
            }),
            Order::Retrain(_) if self.ended => {
                Some("the input has ended, and no row is left that it could be trained for".into())
            }
            Order::Retrain(_) => self.cannot_train(m, now),
            Order::RollBack(_, None) => {
                (live == 0).then(|| format!("no version of model {name} is in charge"))
            }
            Order::RollBack(_, Some(n)) | Order::Promote(_, n) => {
                let (lacks, was) = (self.lacks(m, n), batch.line.iter().any(|v| v.number == n));
                there(n)
                    .or_else(|| in_charge(n))
                    .or_else(|| lacks.filter(|_| !was))
                    .or_else(|| self.version_of(m, n).err())
            }
        }
    }

    /// How many approvals a version lacks before it may serve, in words.
    fn lacks(&self, m: usize, number: u64) -> Option<String> {
        let wanted = self.models[m].plan.gate.as_ref().map_or(0, |gate| gate.requires_approval);
        let State::Batch(batch) = &self.models[m].state else { return None };
        let has = batch.approvals.get(&number).map_or(0, BTreeSet::len) as u64;
        (has < wanted).then(|| format!("version {number} has {has} of {wanted} approvals"))
    }

    /// Whether enough people have approved a version.
    pub(super) fn approved(&self, m: usize, number: u64) -> bool {
        self.lacks(m, number).is_none()
    }

    /// A version of a model: one that is at hand, or from the registry.
    fn version_of(&self, m: usize, number: u64) -> Result<Version, String> {
        let model = &self.models[m];
        let State::Batch(batch) = &model.state else { return Err("it has no versions".into()) };
        let trial = batch.trial.iter().map(|trial| &trial.new);
        let gate = batch.challenger.iter().map(|(version, _)| version);
        let mut at_hand =
            batch.live.iter().chain(trial).chain(gate).chain(&batch.next).chain(&batch.line);
        if let Some(found) = at_hand.find(|version| version.number == number) {
            return Ok(found.clone());
        }
        let (manifest, bytes) =
            self.ledger.version(&model.name, number).map_err(|e| e.to_string())?;
        let mut trainings = self.results.trainings.iter();
        let made = |t: &crate::observe::summary::Retraining| {
            t.model == *model.name && t.version == Some(number)
        };
        Ok(Version {
            number,
            predictor: model.load(&manifest.kind, &bytes)?,
            cut: manifest.lineage.labels.1,
            training: trainings.position(made).ok_or("no training of this run made it")?,
            // What it was trained on is at hand no more: drift is measured against what it was before, but for
            // that of its scores.
            reference: batch.live.as_ref().map_or_else(Arc::default, |live| self.borrowed(m, live)),
            manifest: manifest.into(),
            size: bytes.len() as u64,
            checks: [].into(),
        })
    }

    /// The reference of the version in charge for another one, without the scores where they are its own.
    fn borrowed(&self, m: usize, live: &Version) -> Arc<Reference> {
        let score = self.compiled.plan.score.as_ref();
        match score.is_some_and(|score| score.champion == m) {
            true => Arc::new(Reference { scores: Vec::new(), ..Reference::clone(&live.reference) }),
            false => Arc::clone(&live.reference),
        }
    }

    /// Writes a command down and, unless it is refused, does what it says.
    fn carry_out(&mut self, command: Command) -> Result<(), Error> {
        self.ledger.command(&command)?;
        let Command { who, why, epoch, event_time, what, refused, .. } = command;
        if let Some(refused) = refused {
            tracing::warn!("`{what}` by {who} is refused: {refused}");
            return Ok(());
        }
        let order: Order = what.parse().map_err(Error::internal)?;
        let place = self.models.iter().position(|m| *m.name == *order.model());
        let m = place.ok_or_else(|| Error::internal("a model of a command is gone"))?;
        let why = format!("{what} by {who}: {why}");
        tracing::info!("{why}");
        let version = |n| self.version_of(m, n).map_err(Error::external);
        match order {
            Order::Approve(_, n) => {
                if let State::Batch(batch) = &mut self.models[m].state {
                    batch.approvals.entry(n).or_default().insert(who);
                }
                // No tick comes any more at which it would be let in.
                if self.ended { self.admit_first(m, epoch, event_time) } else { Ok(()) }
            }
            Order::Promote(_, n) => {
                let version = version(n)?;
                if let State::Batch(batch) = &mut self.models[m].state {
                    batch.challenger.take_if(|(waiting, _)| waiting.number == n);
                    batch.next.take_if(|waiting| waiting.number == n);
                }
                self.promote(m, version, &why, epoch, event_time)
            }
            Order::Retrain(_) => {
                // At this tick, once the labels before it are learnt.
                if let State::Batch(batch) = &mut self.models[m].state {
                    batch.waiting = Some((why, Vec::new()));
                }
                Ok(())
            }
            Order::RollBack(_, to) => {
                let to = match (to, &self.models[m].state) {
                    (Some(n), _) => Some(version(n)?),
                    (None, State::Batch(batch)) => batch.line.last().cloned(),
                    (None, State::Online(_)) => None,
                };
                self.roll_back(m, to, &why, epoch, event_time)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_heard_once_and_forgotten_when_it_was_answered() {
        let inbox = Inbox::default();
        let letter = Letter::new("ann", &Order::Retrain("trees".into()), "new shops");
        for _ in 0..3 {
            inbox.put(letter.clone(), Ok(true));
        }
        assert!(inbox.has_seen(&letter.id) && inbox.waits());
        assert!(inbox.next().is_some_and(|(heard, _)| heard == letter));
        assert!(inbox.next().is_none() && !inbox.waits());
        inbox.forget(&letter.id);
        assert!(!inbox.has_seen(&letter.id), "what is remembered would grow with each order");
    }
}
