//! Drift is read, and what it says becomes alerts and triggers.

use std::sync::Arc;

use tidemill_operators::predictor::{Row, probability};
use tidemill_types::drift::Level;
use tidemill_types::{Error, Micros};

use super::judge::{MONDAY, WEEK, week_of};
use super::models::{Model, State};
use super::watch::{AHEAD, Reference, Said};
use super::{Mill, after, passed};

/// Rows that a version was not trained on, at least, before its scores are compared with those of them: of fewer the
/// statistics say warning now and then where nothing has changed.
const HELD_OUT: usize = 1_000;

impl Mill {
    /// Reads the statistics whose hour has come.
    pub(super) fn read_drift(&mut self, before: Micros, now: Micros) -> Result<(), Error> {
        for w in 0..self.watches.len() {
            let every = self.watches[w].plan.every;
            if !self.watches[w].watches_rows() || !passed(every, before, now) {
                continue;
            }
            self.refer_to_held_out();
            let next = |time: &Micros| Some(self.start_of(self.tick_from(after(every, *time))));
            let later = std::iter::successors(next(&now), next);
            let later = later.take_while(|time| *time < self.known).take(AHEAD);
            let later: Vec<Micros> = later.collect();
            let said = self.watches[w].read(now, &later);
            self.show_drift(w, now);
            if passed(WEEK, before.saturating_sub(MONDAY), now.saturating_sub(MONDAY)) {
                self.remember(w, before);
            }
            self.heed(w, said, now)?;
        }
        Ok(())
    }

    /// Takes the loss of a served score. What the monitors say is heeded at the next tick.
    pub(super) fn watch_loss(&mut self, loss: f64) -> Result<(), Error> {
        for (w, watch) in self.watches.iter_mut().enumerate() {
            let said = watch.loss(loss);
            self.heard.extend(said.into_iter().map(|said| (w, said)));
        }
        Ok(())
    }

    /// Heeds what the monitors of the loss have said since the last tick.
    pub(super) fn heed_losses(&mut self, now: Micros) -> Result<(), Error> {
        let heard = std::mem::take(&mut self.heard);
        heard.into_iter().try_for_each(|(w, said)| self.heed(w, vec![said], now))
    }

    /// Alerts what got worse; triggers a training where drift is said.
    fn heed(&mut self, w: usize, said: Vec<Said>, now: Micros) -> Result<(), Error> {
        let name = self.watches[w].plan.name.value.clone();
        if !self.watches[w].watches_rows() {
            // A monitor is heard when it has something to say; statistics are shown at each reading.
            let (name, every) = (Arc::from(name.as_str()), self.watches[w].plan.every);
            said.iter().for_each(|said| self.status.keep((&name, every), said, None, now));
        }
        for said in said.iter().filter(|said| said.raised) {
            self.emit.alert(&name, said, now)?;
        }
        let worst = said.iter().filter(|s| s.reading.level == Level::Drift);
        let worst: Vec<(String, f64)> =
            worst.map(|s| (format!("{} of {}", s.detector, s.of), s.reading.statistic)).collect();
        if let Some(Said { detector, of, .. }) = said.iter().find(|said| said.begun) {
            self.alarm_trials(w, &name, &format!("drift.{name}: {detector} of {of}"));
        }
        if worst.is_empty() {
            return Ok(());
        }
        for m in 0..self.models.len() {
            let Some(retrain) = &self.models[m].plan.retrain else { continue };
            let cooled = self.models[m]
                .triggered()
                .is_none_or(|last| now.saturating_sub(last) >= retrain.cooldown);
            if retrain.drifts.contains(&w) && cooled && !self.knows_all(m) {
                self.trigger(m, format!("drift.{name}"), worst.clone(), now)?;
            }
        }
        Ok(())
    }

    /// Lets others see what was read, where anybody may ask.
    fn show_drift(&self, w: usize, now: Micros) {
        if self.online.is_none() {
            return;
        }
        let watch = &self.watches[w];
        let (name, every) = (Arc::from(watch.plan.name.value.as_str()), watch.plan.every);
        for (said, bounds) in watch.newest() {
            self.status.keep((&name, every), &said, bounds, now);
        }
    }

    /// Another version of a model is in charge, or none. From now on what it reads is compared with what that one
    /// was trained on, and scores are those of that one alone.
    pub(super) fn swapped(&mut self, m: usize, reference: Option<&Reference>, now: Micros) {
        let own = self.is_own_measure(m);
        for w in 0..self.watches.len() {
            let features = self.watches[w].plan.model == Some(m);
            let score = self.scores_of(w) == Some(m);
            if (reference.is_some() && (features || score)) || (own && score) {
                self.remember(w, now);
            }
            if let Some(reference) = reference.filter(|_| features || score) {
                self.watches[w].refer_to(reference, features, score && !own);
            }
            if own && score {
                self.watches[w].refer_to(&Reference::default(), false, true);
            }
            if self.scoring[m] {
                self.watches[w].begin_scores();
            }
        }
        if own {
            self.held_out = None;
        }
    }

    /// Whether the model is a champion that is retrained: what its scores are compared with are scores of its own.
    pub(super) fn is_own_measure(&self, m: usize) -> bool {
        let champion = self.compiled.plan.score.as_ref().map(|score| score.champion);
        champion == Some(m) && self.models[m].plan.retrain.is_some()
    }

    /// Compares the scores of a champion that is retrained with those that the version in charge gives to rows that it
    /// was not trained on, once so many of them are labelled. To its training set it gives others, the more so the more
    /// of that it has by heart: compared with those, what is new would have drifted from its first row on.
    fn refer_to_held_out(&mut self) {
        let champion = self.compiled.plan.score.as_ref().map(|score| score.champion);
        let Some(m) = champion.filter(|m| self.held_out.is_none() && self.is_own_measure(*m))
        else {
            return;
        };
        let Model { inputs, state: State::Batch(batch), .. } = &self.models[m] else { return };
        let (Some(live), Some(sample)) = (&batch.live, &self.samples[m]) else { return };
        if !sample.has_from(live.cut, HELD_OUT) {
            return;
        }
        let scores = sample.scores(live.cut, |numbers, categories, margins| {
            let (numbers, categories) = inputs.of(numbers, categories, margins);
            probability(live.predictor.margin(Row { numbers: &numbers, categories: &categories }))
        });
        let reference = Reference { scores, ..Reference::default() };
        // What the champion serves is what every section compares.
        self.watches.iter_mut().for_each(|watch| watch.refer_to(&reference, false, true));
        self.held_out = Some(reference);
    }

    /// The model whose versions say what scores are compared with: the champion, where it is retrained.
    pub(super) fn scores_of(&self, w: usize) -> Option<usize> {
        let champion = self.compiled.plan.score.as_ref().map(|score| score.champion);
        let retrained = |m: &usize| self.models[*m].plan.retrain.is_some();
        champion.filter(retrained).or(self.watches[w].plan.model)
    }

    /// Keeps the largest readings of the week that ended, for the report.
    pub(super) fn remember(&mut self, w: usize, before: Micros) {
        let week = week_of(before);
        for (detector, of, statistic) in self.watches[w].take_largest() {
            let weeks = self.results.drift.entry(detector).or_default();
            let largest = weeks.entry(of.to_string()).or_default().entry(week).or_insert(f64::MIN);
            *largest = largest.max(statistic);
        }
    }
}
