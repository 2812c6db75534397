//! A run as others see it while it runs: the progress bar and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidemill_operators::dataflow::Site;
use tidemill_types::Micros;

use super::check::{self, Compiled, Written};
use super::outputs::Outputs;
use super::watermarks::{Stand, Watermarks};
use crate::mill::Status;
use crate::mill::status::Now;
use crate::observe::metrics::LabelOutcome;
use crate::observe::{Metrics, Progress};
use crate::report::Step;

/// What is counted outside the dataflow, and what was told of it last.
pub struct Watcher {
    /// The metrics, for the server.
    pub metrics: Arc<Metrics>,
    compiled: Arc<Compiled>,
    status: Arc<Status>,
    outputs: Outputs,
    rows: Vec<Arc<AtomicU64>>,
    turns: Arc<Turns>,
    began: Instant,
    live: bool,
    told: Told,
    watermarks: Arc<Watermarks>,
}

/// How often the loops of a run's threads have gone round: each turn is an event, or a look at the clock,
/// of which an idle run makes a few a second.
#[derive(Default)]
pub struct Turns {
    /// Of all readers together.
    pub readers: AtomicU64,
    /// Of all workers.
    pub workers: AtomicU64,
    /// Of the sinks' thread.
    pub sinks: AtomicU64,
}

/// How often readings of drift are told.
const DRIFT_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Told {
    turns: [u64; 3],
    rows: Vec<u64>,
    dead: BTreeMap<(String, String), u64>,
    late: BTreeMap<String, u64>,
    now: Now,
    first: Option<Micros>,
    alerts: BTreeMap<(String, String), u64>,
    steps: BTreeMap<(String, Step), u64>,
    drift: Option<Instant>,
}

impl Watcher {
    /// Over a run that begins now; the counters are those of its readers' rows and of its threads' turns.
    pub fn new(
        compiled: &Arc<Compiled>,
        status: &Arc<Status>,
        outputs: &Outputs,
        (rows, turns): (&[Arc<AtomicU64>], &Arc<Turns>),
        live: bool,
        metrics: Arc<Metrics>,
        watermarks: Arc<Watermarks>,
    ) -> Watcher {
        begin(&metrics, compiled);
        Watcher {
            metrics,
            watermarks,
            compiled: Arc::clone(compiled),
            status: Arc::clone(status),
            outputs: outputs.clone(),
            told: Told { rows: vec![0; rows.len()], ..Told::default() },
            rows: rows.to_vec(),
            turns: Arc::clone(turns),
            began: Instant::now(),
            live,
        }
    }

    /// Looks at the run: brings the metrics up to date and says how far it is.
    pub fn look(&mut self) -> Progress {
        let now = self.status.now();
        let sources = &self.compiled.plan.sources;
        for (s, rows) in self.rows.iter().enumerate() {
            let rows = rows.load(Ordering::Relaxed);
            self.metrics.source_rows(&sources[s].name.value, rows - self.told.rows[s]);
            self.told.rows[s] = rows;
        }
        let turns = &self.turns;
        let loops =
            [("reader", &turns.readers), ("worker", &turns.workers), ("sinks", &turns.sinks)];
        for ((thread, turns), told) in loops.into_iter().zip(&mut self.told.turns) {
            let turns = turns.load(Ordering::Relaxed);
            self.metrics.turns(thread, turns - *told);
            *told = turns;
        }
        let counts = self.outputs.counts();
        if let Ok(dead) = counts.dead_letters.lock() {
            for ((source, reason), rows) in dead.iter() {
                let told = self.told.dead.insert((source.clone(), reason.clone()), *rows);
                self.metrics.dead_letters(source, reason, rows - told.unwrap_or(0));
            }
        }
        if let Ok(late) = counts.late.lock() {
            for (source, rows) in late.iter() {
                let told = self.told.late.insert(source.clone(), *rows).unwrap_or(0);
                self.metrics.late_rows(source, rows - told);
            }
        }
        for (s, source) in sources.iter().enumerate() {
            self.metrics.source_waits(&source.name.value, self.watermarks.waits(s));
            if let Stand::At(at) = self.watermarks.of(s) {
                self.metrics.watermark(&source.name.value, at);
                if !check::bounded(source) {
                    self.metrics.watermark_lag(&source.name.value, behind(at));
                }
            }
        }
        for ((drift, level), alerts) in counts.recent.alert_counts() {
            let told = self.told.alerts.insert((drift.clone(), level.clone()), alerts);
            self.metrics.alerts(&drift, &level, alerts - told.unwrap_or(0));
        }
        // A wide pipeline has thousands of readings, and each may be new once an hour of event time.
        if self.told.drift.is_none_or(|at| at.elapsed() >= DRIFT_EVERY) {
            self.told.drift = Some(Instant::now());
            for (drift, detector, of, told) in self.status.drift() {
                self.metrics.drift(&drift, &of, detector, told.statistic);
            }
        }
        self.tell_of_versions();
        self.tell_of_the_mill(&now);
        let rows: u64 = self.told.rows.iter().sum();
        self.told.first = self.told.first.or(now.watermark);
        let progress = Progress {
            rows,
            rows_per_second: rows as f64 / self.began.elapsed().as_secs_f64().max(1e-9),
            start: self.told.first,
            watermark: now.watermark,
            end: None,
            lag: now.watermark.filter(|_| self.live).map(behind),
            versions: now.versions.clone(),
            scores: now.scores,
            log_loss: now.log_loss,
        };
        self.told.now = now;
        progress
    }

    /// Rows read from all sources so far.
    pub fn rows(&self) -> u64 {
        self.rows.iter().map(|rows| rows.load(Ordering::Relaxed)).sum()
    }

    /// Trainings, promotions and refusals, as the mill tells of them.
    fn tell_of_versions(&mut self) {
        for (model, seconds) in self.status.take_trainings() {
            self.metrics.training_took(&model, seconds);
        }
        for (model, seconds) in self.status.take_first_scores() {
            self.metrics.trigger_to_score(&model, seconds);
        }
        for ((model, step), n) in self.status.steps() {
            let told = self.told.steps.insert((model.clone(), step), n).unwrap_or(0);
            let new = n.saturating_sub(told);
            match step {
                Step::Trained => self.metrics.trainings(&model, true, new),
                Step::Failed => self.metrics.trainings(&model, false, new),
                Step::Promoted => self.metrics.promotions(&model, new),
                Step::Refused => self.metrics.refusals(&model, new),
                _ => {}
            }
        }
    }

    fn tell_of_the_mill(&self, now: &Now) {
        let plan = &self.compiled.plan;
        let before = &self.told.now;
        if let Some(watermark) = now.watermark {
            self.metrics.processed(watermark, self.live.then(|| behind(watermark)));
        }
        let name = &plan.pipeline.name.value;
        let degraded = now.degraded - before.degraded;
        self.metrics.scores(name, None, (now.scores - before.scores) - degraded);
        let taken_back = now.taken_back - before.taken_back;
        self.metrics.scores(name, Some("warming_up"), degraded - taken_back);
        self.metrics.scores(name, Some("rolled_back"), taken_back);
        for (site, rows) in &now.failed {
            let new = rows - before.failed.get(site).copied().unwrap_or(0);
            let Written { kind, name, text } = self.compiled.written(*site);
            match site {
                Site::Feature(_) => self.metrics.feature_errors(&name, new),
                _ => self.metrics.expression_errors(kind, &name, &text, new),
            }
        }
        if let Some(loss) = now.log_loss {
            self.metrics.log_loss("served", loss);
        }
        self.metrics.labels_pending(now.pending);
        if let Some(label) = plan.score.as_ref().map(|s| plan.models[s.champion].label) {
            let label = &plan.labels[label].name.value;
            let (new, old) = (&now.join, &before.join);
            let outcomes = [
                (LabelOutcome::Joined, new.labelled - old.labelled),
                (LabelOutcome::TimedOut, new.timed_out - old.timed_out),
                (LabelOutcome::Unmatched, new.unmatched - old.unmatched),
            ];
            outcomes.into_iter().for_each(|(o, rows)| self.metrics.labels(label, o, rows));
        }
        for (model, version) in now.versions.iter().filter(|(_, version)| *version > 0) {
            self.metrics.model_version(model, *version);
        }
    }
}

/// Counters that may stay at 0 for days begin at 0: of one that begins at 1 Prometheus sees no increase, and
/// the first alert would be lost.
fn begin(metrics: &Metrics, compiled: &Compiled) {
    let plan = &compiled.plan;
    for source in &plan.sources {
        metrics.late_rows(&source.name.value, 0);
    }
    for feature in &plan.features {
        metrics.feature_errors(&feature.name.value, 0);
    }
    for Written { kind, name, text } in compiled.may_fail().into_iter().map(|s| compiled.written(s))
    {
        metrics.expression_errors(kind, &name, &text, 0);
    }
    for drift in plan.drifts.iter().map(|drift| drift.name.value.as_str()).chain(["training"]) {
        ["warning", "drift"].iter().for_each(|level| metrics.alerts(drift, level, 0));
    }
    for model in plan.models.iter().map(|model| &model.name.value) {
        [true, false].iter().for_each(|succeeded| metrics.trainings(model, *succeeded, 0));
        metrics.promotions(model, 0);
        metrics.refusals(model, 0);
    }
}

/// Seconds by which an event time is behind the wall clock.
fn behind(time: Micros) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs_f64() - time as f64 / 1e6).max(0.0)
}
