//! Where labels meet scores: the one operator in which models learn, score, drift, are retrained and
//! take over. There is one, beside the first worker, because a gate and a drift of the score need every
//! score of a tick before the next tick begins.
//!
//! The mill walks event time tick by tick; each tick goes through the same steps, in the order of
//! [`Mill::tick`]: labels of earlier ticks are learnt, time runs out for rows without one, trainings
//! that are due are taken up, gates decide, versions are published, drift is read, trainings are
//! triggered, and only then are the rows of the tick scored. Ticks at which nothing can happen are
//! passed over, so a tick costs nothing by itself and the length of a bundle never shows.

mod checks;
mod drifts;
mod emit;
pub mod evidence;
pub mod executors;
mod judge;
mod learn;
mod ledger;
pub mod matrix;
mod models;
mod orders;
mod publish;
mod retrain;
mod same;
mod sample;
mod save;
mod score;
mod timer;
pub mod training;
mod trigger;
mod watch;

pub mod join;
pub mod rollout;
pub mod status;
pub mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tidemill_config::plan::{DriftOf, DriftPlan, Mode};
use tidemill_connectors::executor::Router;
use tidemill_operators::dataflow::{Decide, Features};
use tidemill_types::{Error, Id, Micros};

pub use ledger::Ledger;
pub use orders::Inbox;
pub use status::{Results, Status};

use self::emit::Emitter;
use self::join::LabelJoin;
use self::judge::Judge;
use self::matrix::Matrix;
use self::models::{Model, State};
use self::sample::Sample;
use self::training::TrainingParts;
use self::watch::{Reference, Watch};
use crate::checkpoint::line::SharedLines;
use crate::engine::check::{Compiled, ModelInputs, NumberFrom};
use crate::engine::offsets::Offsets;
use crate::engine::outputs::Outputs;
use crate::host::Host;
use crate::online::Keeper;

/// Rows of each training set that a gate looks at, where no drift wants more.
const SAMPLED: u64 = 10_000;

/// What a mill is made of.
pub struct Setup {
    /// The pipeline.
    pub compiled: Arc<Compiled>,
    /// The way to the sinks.
    pub outputs: Outputs,
    /// Journal and registry.
    pub ledger: Ledger,
    /// The run's folder.
    pub folder: PathBuf,
    /// Threads that a training may use.
    pub threads: usize,
    /// Whether a source is live, so that a training takes as long as it takes.
    pub live: bool,
    /// Where others see how far it is.
    pub status: Arc<Status>,
    /// How far partitions were read.
    pub offsets: Arc<Offsets>,
    /// Set when the run is asked to stop.
    pub stop: Arc<AtomicBool>,
    /// Where rows and models are held for requests, if anybody may ask.
    pub online: Option<Keeper>,
    /// Where lines are made, if they are.
    pub lines: Option<SharedLines>,
    /// What people ask for.
    pub inbox: Arc<Inbox>,
    /// `at_once`: epochs before this one are repeated, and nothing new is heard in them.
    pub repeated: u64,
    /// What its parts stand on.
    pub host: Host,
}

/// A mill where its thread finds it.
pub type SharedMill = Arc<Mutex<Option<Mill>>>;

/// A label on its way to the join.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Landed {
    time: Micros,
    id: Id,
    label: usize,
    value: f64,
}

/// Learns, scores and decides. See the head of this module.
pub struct Mill {
    compiled: Arc<Compiled>,
    ledger: Ledger,
    emit: Emitter,
    status: Arc<Status>,
    offsets: Arc<Offsets>,
    inbox: Arc<Inbox>,
    repeated: u64,
    live: bool,
    stop: Arc<AtomicBool>,
    /// The run was asked to stop, and nothing more is walked.
    stopped: bool,
    /// The input has ended, and the journal says so.
    ended: bool,
    /// `at_once`: the epoch after the last one.
    next_epoch: u64,
    host: Host,
    models: Vec<Model>,
    executors: BTreeMap<usize, Router>,
    /// By label.
    joins: Vec<LabelJoin>,
    /// By label: what trainings read, where a model is trained on it.
    training: Vec<Option<TrainingParts>>,
    /// By model: what drift is measured against.
    samples: Vec<Option<Sample>>,
    watches: Vec<Watch>,
    /// The scores that the version in charge gives to rows that it was not trained on, where the champion is retrained
    /// and enough of them are labelled.
    held_out: Option<Reference>,
    /// By model: whether it makes what is served, or gives a margin to what does.
    scoring: Vec<bool>,
    /// What monitors of the loss have said since the last tick.
    heard: Vec<(usize, watch::Said)>,
    judge: Judge,
    /// Sum and number of the labels of the champion so far.
    base: (f64, u64),
    incoming: Vec<Features>,
    bundle: Matrix,
    next_row: usize,
    /// `final`: everything before this time was absorbed.
    known: Micros,
    labels: VecDeque<Landed>,
    landed: Vec<Landed>,
    /// The beginning of the last tick walked.
    clock: Option<Micros>,
    /// `at_once`: rows that may still be corrected, and labels that wait for them.
    open: score::Open,
    /// Words that many score rows share.
    warming_up: Arc<str>,
    rolled_back: Arc<str>,
    constant: Arc<str>,
    results: Results,
    timer: timer::Timer,
    online: Option<Keeper>,
}

impl Mill {
    /// A mill before the first event.
    ///
    /// # Errors
    /// A folder that cannot be written, or an executor that cannot be opened.
    pub fn new(setup: Setup) -> Result<Mill, Error> {
        let Setup { compiled, outputs, ledger, folder, threads, live, .. } = setup;
        let Setup { status, offsets, stop, online, lines, inbox, repeated, host, .. } = setup;
        let plan = &compiled.plan;
        let features = &compiled.program.feature_schema;
        let names = |m: &tidemill_config::plan::ModelPlan| m.name.value.clone();
        let model_names: Vec<String> = plan.models.iter().map(names).collect();
        let models = plan.models.iter().zip(&compiled.inputs);
        let models = models.map(|(m, i)| Model::new(m, i, features));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let at = tidemill_connectors::executor::Setup {
            name: String::new(),
            train: training::train(folder.clone()),
            threads,
            folder: folder.clone(),
            python: executors::python_trainers(),
        };
        let executors = executors::open(plan, &at, &host)?;
        let trained = |l: usize| plan.models.iter().any(|m| m.label == l && m.retrain.is_some());
        let training = plan.labels.iter().enumerate().map(|(l, label)| {
            let path = PathBuf::from("training").join(&label.name.value);
            let make = || {
                TrainingParts::new(
                    &folder,
                    path,
                    features,
                    model_names.clone(),
                    Arc::clone(&offsets),
                    (lines.clone(), &host),
                )
            };
            trained(l).then(make).transpose()
        });
        let champion = plan.score.as_ref().map(|score| score.champion);
        let samples = (0..plan.models.len()).map(|m| {
            let scores = |of: &DriftOf| matches!(of, DriftOf::Inputs { score: true, .. });
            let compared =
                |d: &&DriftPlan| d.model == Some(m) || (champion == Some(m) && scores(&d.of));
            let wanted = plan.drifts.iter().filter(compared);
            let gate = plan.models[m].gate.as_ref().filter(|gate| gate.looks_at_data());
            let of_drift = wanted.map(|d| d.reference_rows).max();
            let rows = of_drift.or(gate.map(|_| SAMPLED));
            rows.map(|rows| Sample::new(rows, champion))
        });
        let watches = plan.drifts.iter().map(|d| Watch::new(d, features));
        let spans = plan.score.as_ref().map(|s| s.spans.clone()).unwrap_or_default();
        Ok(Mill {
            executors,
            joins: plan.labels.iter().map(LabelJoin::new).collect(),
            training: training.collect::<Result<_, _>>()?,
            samples: samples.collect(),
            watches: watches.collect::<Result<_, _>>()?,
            held_out: None,
            scoring: scoring(champion, &compiled.inputs),
            judge: Judge::new(learn::contenders(plan), spans),
            heard: Vec::new(),
            base: (0.0, 0),
            incoming: Vec::new(),
            bundle: Matrix::empty(),
            next_row: 0,
            known: Micros::MIN,
            labels: VecDeque::new(),
            landed: Vec::new(),
            clock: None,
            open: score::Open::default(),
            warming_up: Arc::from("warming_up"),
            rolled_back: Arc::from("rolled_back"),
            constant: Arc::from("constant"),
            results: Results { latest: Micros::MIN, ..Results::default() },
            timer: timer::Timer::default(),
            emit: Emitter::new(outputs, &compiled),
            online,
            models,
            ledger,
            status,
            offsets,
            inbox,
            repeated,
            live,
            stop,
            stopped: false,
            ended: false,
            next_epoch: 0,
            host,
            compiled,
        })
    }
}

/// The walk through time.
impl Mill {
    /// `final`: takes what belongs to a finished round.
    pub fn absorb(&mut self, message: Decide) {
        match message {
            Decide::Features(features) => self.incoming.push(features),
            Decide::Labels(labels) => self.land(labels),
            Decide::Failed(failed) => self.count_failed(&failed),
            Decide::End(latest) => self.results.latest = self.results.latest.max(latest),
            Decide::Reached(reached) => self.offsets.take(reached),
            Decide::Watermark(_) => {}
        }
    }

    /// `final`: walks all ticks that begin before this time; everything before it was absorbed.
    ///
    /// # Errors
    /// What ends the run: a folder that cannot be written, a journal that says otherwise.
    pub fn advance(&mut self, before: Micros) -> Result<(), Error> {
        let incoming = std::mem::take(&mut self.incoming);
        if !incoming.is_empty() {
            debug_assert_eq!(self.next_row, self.bundle.times.len());
            match self.passes() {
                true => self.pass(incoming)?,
                false => {
                    let most = self.compiled.program.batch_bytes;
                    self.begin(Matrix::merged(incoming, most))?;
                }
            }
        }
        self.known = before;
        let mut landed = std::mem::take(&mut self.landed);
        landed.sort_by(|a, b| (a.time, &a.id, a.label).cmp(&(b.time, &b.id, b.label)));
        self.labels.extend(landed);
        while let Some(tick) = self.next_tick().filter(|tick| self.start_of(*tick) < before) {
            // Whoever stops it does not wait for the rest of what was read.
            self.stopped |= self.stop.load(Ordering::Relaxed);
            if self.stopped {
                break;
            }
            self.tick(tick)?;
        }
        self.emit.flush()?;
        self.show();
        Ok(())
    }

    /// `at_once`: takes an epoch. Rows are scored with what was learnt in the epochs before.
    ///
    /// # Errors
    /// As [`Mill::advance`].
    pub fn epoch(&mut self, epoch: u64, messages: Vec<Decide>) -> Result<(), Error> {
        let mut watermark = Micros::MIN;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                Decide::Features(rows) if rows.last => last.push(rows),
                Decide::Features(rows) => first.push(rows),
                Decide::Labels(labels) => self.land(labels),
                Decide::Failed(failed) => self.count_failed(&failed),
                Decide::End(latest) => self.results.latest = self.results.latest.max(latest),
                Decide::Reached(reached) => self.offsets.take(reached),
                Decide::Watermark(now) => watermark = watermark.max(now),
            }
        }
        self.next_epoch = epoch + 1;
        self.obey(epoch, self.clock.unwrap_or(watermark))?;
        if watermark == Micros::MAX {
            watermark = self.results.latest;
        }
        if self.clock.is_none_or(|clock| watermark > clock) && watermark > Micros::MIN {
            self.keep_house(epoch, watermark)?;
        }
        self.score_open(first)?;
        self.settle(last)?;
        // Not at the next epoch: it may be long until that comes, and where the rounds begin would show
        // until then in what the models know.
        self.land_open()?;
        self.time_out(self.clock.unwrap_or(Micros::MIN))?;
        self.emit.flush()?;
        self.show();
        Ok(())
    }

    /// The input has ended: walks to the last event time. Labels still awaited stay pending.
    ///
    /// # Errors
    /// As [`Mill::advance`].
    pub fn finish(&mut self) -> Result<(), Error> {
        let latest = self.results.latest;
        if self.compiled.plan.pipeline.mode == Mode::Final && latest > Micros::MIN {
            self.advance(self.start_of(self.tick_of(latest)).saturating_add(1))?;
            if !self.stopped {
                self.learn_before(latest.saturating_add(1))?;
            }
        }
        self.close()
    }

    fn tick_of(&self, time: Micros) -> i64 {
        time.div_euclid(self.compiled.plan.pipeline.tick)
    }

    fn start_of(&self, tick: i64) -> Micros {
        tick.saturating_mul(self.compiled.plan.pipeline.tick)
    }

    /// The tick at which a duty of this time is done: the first that begins at it or later.
    fn tick_from(&self, time: Micros) -> i64 {
        self.tick_of(time.saturating_sub(1)) + 1
    }

    /// The next tick at which anything can happen.
    fn next_tick(&self) -> Option<i64> {
        let row = self.bundle.times.get(self.next_row).map(|time| self.tick_of(*time));
        let label = self.labels.front().map(|label| self.tick_of(label.time) + 1);
        let house = self.clock.and_then(|clock| self.next_duty(clock));
        let house = house.map(|time| self.tick_from(time));
        [row, label, house].into_iter().flatten().min()
    }

    fn tick(&mut self, tick: i64) -> Result<(), Error> {
        let now = self.start_of(tick);
        self.obey(tick as u64, now)?;
        self.learn_before(now)?;
        self.keep_house(tick as u64, now)?;
        if self.stopped { Ok(()) } else { self.score_tick(tick) }
    }

    /// Everything that is due when the clock comes to `now`, at this epoch.
    fn keep_house(&mut self, epoch: u64, now: Micros) -> Result<(), Error> {
        let before = self.clock.replace(now).unwrap_or(now);
        // Nobody may ask for a while, and what is passed need not be kept.
        self.offsets.pass(now.saturating_sub(1));
        // `at_once`: labels that came with this watermark are learnt at the end of the epoch.
        if self.compiled.plan.pipeline.mode == Mode::Final {
            self.time_out(now)?;
        }
        self.take_outcomes(epoch, now)?;
        if self.stopped {
            return Ok(());
        }
        self.ask_gates(epoch, now)?;
        self.publish(epoch, before, now)?;
        self.heed_losses(now)?;
        self.read_drift(before, now)?;
        self.walk_trials(epoch, now)?;
        self.keep_schedules(before, now)
    }

    /// The next time at which something is due by the clock, after the one given.
    fn next_duty(&self, clock: Micros) -> Option<Micros> {
        // Over an empty window nothing is read.
        let watches = self.watches.iter().filter(|w| w.watches_rows() && w.scored > 0);
        let reads = watches.map(|w| after(w.plan.every, clock));
        let models = self.models.iter().enumerate().flat_map(|(m, model)| {
            // A boundary at which there is nothing to publish or to train on is passed over.
            let fresh = match &model.state {
                State::Online(online) => online.learner.learnt() != online.published,
                State::Batch(_) => {
                    let wanted = model.plan.retrain.as_ref().map_or(0, |r| r.min_rows);
                    self.rows_for(m) >= wanted && !self.knows_all(m)
                }
            };
            let from = if fresh { Some(clock) } else { self.settled_from(m, clock) };
            let schedules = model.plan.retrain.iter().flat_map(|r| r.every.iter().copied());
            let periods = schedules.chain(model.plan.publish);
            let by_clock = from.map(|from| periods.map(move |period| after(period, from)));
            let by_clock = by_clock.into_iter().flatten();
            let due = match &model.state {
                State::Batch(batch) => batch.running.as_ref().and_then(|running| running.due),
                State::Online(_) => None,
            };
            let trial = match (&model.state, &model.plan.rollout) {
                (State::Batch(batch), Some(plan)) => {
                    batch.trial.as_ref().and_then(|trial| trial.due(plan, clock))
                }
                _ => None,
            };
            by_clock.chain(due).chain(trial).collect::<Vec<_>>()
        });
        reads.chain(models).min()
    }

    /// From when on a tick may find labels that count because the time of their rows is over.
    fn settled_from(&self, m: usize, clock: Micros) -> Option<Micros> {
        let over = self.joins[self.models[m].plan.label].next_settled()?;
        // The tick of a boundary may begin almost a tick after it.
        Some(clock.max(over.saturating_sub(self.compiled.plan.pipeline.tick)))
    }

    /// Whether a boundary of this period comes at this tick. One that was passed over, for nothing was to be
    /// done at it, is not made up for at a tick that happens to come next; in `at_once` there is no other.
    fn comes(&self, period: Micros, before: Micros, now: Micros) -> bool {
        let boundary = now.div_euclid(period).saturating_mul(period);
        let at_it = || self.tick_from(boundary) == self.tick_of(now);
        let at_once = self.compiled.plan.pipeline.mode == Mode::AtOnce;
        passed(period, before, now) && (at_once || at_it())
    }
}

/// Which models make what is served: the champion, and those whose margins it reads.
fn scoring(champion: Option<usize>, inputs: &[ModelInputs]) -> Vec<bool> {
    let mut all = vec![false; inputs.len()];
    let mut open: Vec<usize> = champion.into_iter().collect();
    while let Some(m) = open.pop() {
        if !std::mem::replace(&mut all[m], true) {
            open.extend(inputs[m].numbers.iter().filter_map(|from| match from {
                NumberFrom::Margin(of) => Some(*of),
                NumberFrom::Feature(_) => None,
            }));
        }
    }
    all
}

/// The next boundary of this period.
fn after(period: Micros, time: Micros) -> Micros {
    (time.div_euclid(period) + 1).saturating_mul(period)
}

/// Whether a boundary of this period was passed.
fn passed(period: Micros, before: Micros, now: Micros) -> bool {
    before.div_euclid(period) < now.div_euclid(period)
}
