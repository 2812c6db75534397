//! What others see of the mill: how far it is while it runs, and what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_operators::dataflow::{Failed, Site};
use tidemill_types::{Error, Micros};

use super::evidence::OnTrial;
use super::join::JoinCounts;
use super::models::State;
use super::watch::Said;
use super::{Mill, join};
use crate::board::heat::Heat;
use crate::engine::check::Written;
use crate::journal::record::Record;
use crate::observe::summary::{Contender, FirstScore, Retraining, Span};
use crate::online::{Judge, ModelView, View};
use crate::report::{Calibration, Importances, Moment, Step, Weekly};

/// How far the mill is. Written at the end of each bundle or epoch.
#[derive(Default)]
pub struct Status {
    now: Mutex<Now>,
    results: Mutex<Option<Results>>,
    drift: Mutex<Drifts>,
    versions: Mutex<Happened>,
    trials: Mutex<Vec<OnTrial>>,
}

/// Readings by drift section, detector and feature.
type Drifts = BTreeMap<(Arc<str>, &'static str, Arc<str>), Shown>;

/// What is held of the readings of one feature.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The newest.
    pub told: Told,
    /// All of them, over time.
    pub heat: Heat,
    /// From where on the detector warns, and says drift; nothing of a monitor, which has no such bounds.
    pub bounds: Option<(f64, f64)>,
}

/// What has happened to versions since the run began.
#[derive(Clone, Debug, Default)]
pub struct Happened {
    /// The newest moments, the newest last.
    pub moments: VecDeque<Moment>,
    /// How many of each kind there were, by model.
    pub counts: BTreeMap<(String, Step), u64>,
    /// Trainings that ended and nobody has counted yet: model and wall time in seconds.
    pub trainings: Vec<(String, f64)>,
    /// Models whose newest version has scored its first row, with the seconds since its trigger.
    pub first_scores: Vec<(String, f64)>,
}

/// Moments that are held.
const MOMENTS: usize = 1_000;

/// A reading of a drift detector.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Told {
    /// When, in event time.
    pub at: Micros,
    /// What was read.
    pub statistic: f64,
    /// How likely it is where nothing has changed, where the detector says so.
    pub p_value: Option<f64>,
    /// What the detector calls it.
    pub level: &'static str,
}

/// A look at the mill.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// Everything before this event time is done.
    pub watermark: Option<Micros>,
    /// Rows scored.
    pub scores: u64,
    /// Those of them that a fallback scored.
    pub degraded: u64,
    /// Those of these that it scored because the last version was taken back.
    pub taken_back: u64,
    /// Rows on which expressions failed.
    pub failed: BTreeMap<Site, u64>,
    /// What became of the waits for the champion's label.
    pub join: JoinCounts,
    /// Rows whose label is awaited.
    pub pending: u64,
    /// Log loss of what was served, over the rows labelled last.
    pub log_loss: Option<f64>,
    /// The version in charge of each model.
    pub versions: Vec<(String, u64)>,
}

impl Status {
    /// How far it is.
    pub fn now(&self) -> Now {
        self.now.lock().map(|now| now.clone()).unwrap_or_default()
    }

    /// The last reading of each drift section, detector and feature.
    pub fn drift(&self) -> Vec<(String, &'static str, Arc<str>, Told)> {
        let Ok(drift) = self.drift.lock() else { return Vec::new() };
        let all = drift.iter();
        all.map(|((name, detector, of), shown)| {
            (name.to_string(), *detector, Arc::clone(of), shown.told)
        })
        .collect()
    }

    /// What is held of each drift section, detector and feature.
    pub fn drift_over_time(&self) -> Vec<(Arc<str>, &'static str, Arc<str>, Shown)> {
        let Ok(drift) = self.drift.lock() else { return Vec::new() };
        let all = drift.iter();
        all.map(|((name, detector, of), shown)| {
            (Arc::clone(name), *detector, Arc::clone(of), shown.clone())
        })
        .collect()
    }

    /// What has happened to versions, without the trainings.
    pub fn happenings(&self) -> Happened {
        let Ok(versions) = self.versions.lock() else { return Happened::default() };
        let (moments, counts) = (versions.moments.clone(), versions.counts.clone());
        Happened { moments, counts, ..Happened::default() }
    }

    /// How many moments of each kind there were, by model.
    pub fn steps(&self) -> BTreeMap<(String, Step), u64> {
        self.versions.lock().map(|held| held.counts.clone()).unwrap_or_default()
    }

    /// Trainings that have ended since this was asked last.
    pub fn take_trainings(&self) -> Vec<(String, f64)> {
        self.versions.lock().map(|mut held| std::mem::take(&mut held.trainings)).unwrap_or_default()
    }

    /// How long versions took from their trigger to their first score, since this was asked last.
    pub fn take_first_scores(&self) -> Vec<(String, f64)> {
        let taken = self.versions.lock().map(|mut held| std::mem::take(&mut held.first_scores));
        taken.unwrap_or_default()
    }

    /// Versions on trial.
    pub fn trials(&self) -> Vec<OnTrial> {
        self.trials.lock().map(|trials| trials.clone()).unwrap_or_default()
    }

    /// Shows the versions on trial.
    pub(super) fn show_trials(&self, trials: Vec<OnTrial>) {
        if let Ok(mut shown) = self.trials.lock() {
            *shown = trials;
        }
    }

    /// Something happened to a version.
    pub(super) fn happened(&self, moment: &Moment) {
        let Ok(mut held) = self.versions.lock() else { return };
        *held.counts.entry((moment.model.clone(), moment.step)).or_default() += 1;
        if held.moments.len() >= MOMENTS {
            held.moments.pop_front();
        }
        held.moments.push_back(moment.clone());
    }

    /// A training ended.
    pub(super) fn trained(&self, model: &str, seconds: f64) {
        let Ok(mut held) = self.versions.lock() else { return };
        // Whoever counts them looks ten times a second; where nobody does they need not be held.
        if held.trainings.len() < MOMENTS {
            held.trainings.push((model.to_string(), seconds));
        }
    }

    /// A version scored its first row, so long after its training was triggered.
    pub(super) fn first_score(&self, model: &str, seconds: f64) {
        let Ok(mut held) = self.versions.lock() else { return };
        if held.first_scores.len() < MOMENTS {
            held.first_scores.push((model.to_string(), seconds));
        }
    }

    /// Keeps a reading.
    pub(super) fn keep(
        &self,
        (name, every): (&Arc<str>, Micros),
        said: &Said,
        bounds: Option<(f64, f64)>,
        at: Micros,
    ) {
        let Ok(mut drift) = self.drift.lock() else { return };
        let (statistic, p_value) = (said.reading.statistic, said.reading.p_value);
        let told = Told { at, statistic, p_value, level: said.level_name() };
        let key = (Arc::clone(name), said.detector, Arc::clone(&said.of));
        let shown =
            drift.entry(key).or_insert_with(|| Shown { told, heat: Heat::default(), bounds });
        shown.told = told;
        shown.heat.add(at, statistic, every);
    }

    /// What came of it, once it is over; given once.
    pub fn results(&self) -> Option<Results> {
        self.results.lock().ok()?.take()
    }
}

/// What came of a run.
#[derive(Default)]
pub struct Results {
    /// The largest event time of all sources.
    pub latest: Micros,
    /// First and last event time of the spine.
    pub event_times: Option<(Micros, Micros)>,
    /// Rows scored.
    pub scores: u64,
    /// Those of them that a fallback scored.
    pub degraded: u64,
    /// Those of these that it scored because the last version was taken back.
    pub taken_back: u64,
    /// `at_once`: rows whose features were corrected.
    pub corrected: u64,
    /// Expressions that failed on some rows.
    pub failed: BTreeMap<Site, Failed>,
    /// What became of the waits for the champion's label.
    pub join: JoinCounts,
    /// Rows that still wait.
    pub pending: u64,
    /// Trainings in the order of their triggers.
    pub trainings: Vec<Retraining>,
    /// Versions that have scored a row, and how long after their trigger.
    pub first_scores: Vec<FirstScore>,
    /// Versions that took over.
    pub promotions: u64,
    /// Versions that were turned away.
    pub refusals: u64,
    /// Versions that were taken back.
    pub rollbacks: u64,
    /// Wall time for which the dataflow stood still and waited for a training.
    pub waited: Duration,
    /// What happened to versions.
    pub moments: Vec<Moment>,
    /// The largest reading by detector, feature and week.
    pub drift: BTreeMap<&'static str, BTreeMap<String, BTreeMap<Micros, f64>>>,
    /// From where on each detector warns, and says drift.
    pub bounds: BTreeMap<&'static str, (f64, f64)>,
    /// Spans that contenders are judged by.
    pub spans: Vec<Span>,
    /// How good everybody was.
    pub contenders: Vec<Contender>,
    /// The same by week.
    pub weekly: Weekly,
    /// Predicted against observed.
    pub calibrations: Vec<Calibration>,
    /// What the latest trees use.
    pub importances: Option<Importances>,
}

impl Mill {
    /// The label that the champion is judged by.
    pub(super) fn champions_label(&self) -> Option<usize> {
        let champion = self.compiled.plan.score.as_ref()?.champion;
        Some(self.models[champion].plan.label)
    }

    /// Rows whose label is awaited.
    fn pending(&self) -> u64 {
        self.champions_label().map_or(0, |l| self.joins[l].pending()) + self.unsettled()
    }

    /// What is written down at the end of the input.
    pub(super) fn finished(&self) -> Record {
        let join = self.champions_label().map(|l| self.joins[l].counts).unwrap_or_default();
        let count = |name: &str, n: u64| (name.to_string(), n);
        let counts = vec![
            count("labelled", join.labelled),
            count("pending", self.pending()),
            count("scores", self.results.scores),
            count("timed_out", join.timed_out),
        ];
        Record::Finished { counts }
    }

    /// Counts rows on which expressions failed. The first of each is logged, and no other: a stream may hold as many
    /// of them as it has rows.
    pub(super) fn count_failed(&mut self, failed: &[Failed]) {
        for new in failed {
            if let Some(known) = self.results.failed.get_mut(&new.site) {
                known.add(new);
                continue;
            }
            let Written { name, text, .. } = self.compiled.written(new.site);
            let (row, why) = (&new.first.1, &new.reason);
            match new.site {
                Site::Feature(_) => tracing::warn!(
                    feature = name,
                    %row,
                    "a feature cannot be computed and is NULL: {why}; rows to come are only counted",
                ),
                Site::Label(_) => tracing::warn!(
                    label = name,
                    %row,
                    "a label cannot be computed and is NULL: {why}; rows to come are only counted",
                ),
                Site::Key(..) | Site::Column(..) => tracing::warn!(
                    window = name,
                    expression = text,
                    %row,
                    "an expression of a window cannot be computed and is NULL: {why}; rows to come are only counted",
                ),
            }
            self.results.failed.insert(new.site, new.clone());
        }
    }

    /// Lets others see how far it is.
    pub(super) fn show(&mut self) {
        self.show_models(false);
        self.show_trials();
        let now = Now {
            watermark: self.clock,
            scores: self.results.scores,
            degraded: self.results.degraded,
            taken_back: self.results.taken_back,
            failed: self.results.failed.iter().map(|(site, found)| (*site, found.rows)).collect(),
            join: self.champions_label().map(|l| self.joins[l].counts).unwrap_or_default(),
            pending: self.pending(),
            log_loss: self.judge.recent_log_loss(),
            versions: self.models.iter().map(|m| (m.name.to_string(), m.version())).collect(),
        };
        if let Ok(mut shown) = self.status.now.lock() {
            *shown = now;
        }
    }

    /// Lets whoever asks see what was learnt and not shown yet, for it was too soon: it may be long until a row comes.
    pub fn catch_up(&mut self) {
        if self.online.as_ref().is_some_and(|keeper| keeper.behind) {
            self.show_models(false);
        }
    }

    /// Lets whoever asks see the models as they stand; `last` is said at the end of the run.
    pub(super) fn show_models(&mut self, last: bool) {
        let Some(keeper) = &mut self.online else { return };
        let shown = keeper.shown();
        let (copies, mut behind) = (keeper.wants_copies(last), false);
        let models = self.models.iter().enumerate().map(|(m, model)| {
            let before = shown.models.get(m);
            let learnt = match &model.state {
                State::Batch(_) => 0,
                State::Online(online) => online.learner.learnt(),
            };
            let judge = match (&model.state, before) {
                (State::Batch(batch), _) => match &batch.live {
                    Some(live) => Judge::Trained(Arc::clone(&live.predictor)),
                    None => Judge::Nobody,
                },
                // A version that is shown is never older than what scores for it.
                (State::Online(_), Some(before))
                    if before.version == model.version()
                        && (!copies || before.learnt == learnt) =>
                {
                    behind |= before.learnt != learnt;
                    return before.clone();
                }
                (State::Online(online), _) => Judge::Learnt(online.learner.snapshot()),
            };
            let inputs = match before {
                Some(before) => Arc::clone(&before.inputs),
                None => Arc::new(model.inputs.clone()),
            };
            let (name, version) = (Arc::clone(&model.name), model.version());
            let (canary, rolled_back) = (model.canary(), model.rolled_back());
            ModelView { name, version, learnt, inputs, judge, canary, rolled_back }
        });
        let view = View { models: models.collect() };
        keeper.behind = behind;
        keeper.show(view, self.clock);
    }

    /// The run was asked to stop: nothing more is walked.
    ///
    /// # Errors
    /// A journal that cannot be written.
    pub fn interrupt(&mut self) -> Result<(), Error> {
        self.stopped = true;
        self.close()
    }

    /// A step of it failed, and the run with it. An order that was carried out now would stand in the journal before
    /// what the tick under way has still to write there, and no run could repeat that.
    pub fn give_up(&mut self) {
        self.stopped = true;
    }

    /// The run is over: what came of it.
    ///
    /// # Errors
    /// A journal that cannot be written.
    pub fn close(&mut self) -> Result<(), Error> {
        self.emit.flush()?;
        // Asked to stop since, or nobody took the last rows: then the journal is told of no end.
        self.stopped |= self.stop.load(Ordering::Relaxed);
        if !self.stopped {
            self.obey_at_the_end()?;
        }
        self.emit.flush()?;
        self.show();
        self.show_models(true);
        (0..self.watches.len()).for_each(|w| self.remember(w, self.clock.unwrap_or(0)));
        let mut results = std::mem::take(&mut self.results);
        let join = self.champions_label().map(|l| &self.joins[l]);
        results.join = join.map(|join: &join::LabelJoin| join.counts).unwrap_or_default();
        results.pending = self.status.now().pending;
        results.bounds = self.watches.iter().flat_map(super::watch::Watch::bounds).collect();
        results.spans = self.judge.spans();
        results.contenders = self.judge.contenders();
        results.weekly = self.judge.weekly();
        results.calibrations = self.judge.calibrations();
        results.importances = self.models.iter().rev().find_map(|model| match &model.state {
            State::Batch(batch) => batch.live.as_ref().map(|live| Importances {
                model: model.name.to_string(),
                version: live.number,
                shares: live.predictor.importance(),
            }),
            State::Online(_) => None,
        });
        // Nothing is done after the end: it would stand behind it in the journal.
        self.stopped = true;
        self.ledger.settle()?;
        self.emit.close();
        if let Ok(mut shown) = self.status.results.lock() {
            *shown = Some(results);
        }
        Ok(())
    }
}
