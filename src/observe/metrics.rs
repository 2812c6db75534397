//! Metrics for Prometheus. The rest of the program sees [`Metrics`] and never the crate behind it.
//!
//! Names follow Prometheus' rules: base units (seconds, bytes), `_total` on counters and nothing else,
//! a HELP for each. Labels are names out of the pipeline file, so their number is bounded by it; where a
//! value might come from data, a family takes at most [`SERIES_LIMIT`] series and counts the rest as
//! `other`. Model versions are values, not labels: they grow for ever.

mod lines;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Mutex;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};
use tidemill_types::{Error, Micros};

use super::traces::{self, Tracer};

/// A family has at most so many series.
pub const SERIES_LIMIT: usize = 1_000;
const OTHER: &str = "other";
const TRAINING_SECONDS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0];
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Every metric of a run. All methods may be called from any thread; each costs about 100 ns, so they
/// are called per batch and not per row.
pub struct Metrics {
    registry: Registry,
    names: Vec<String>,
    source_rows: Limited<IntCounterVec>,
    dead_letters: Limited<IntCounterVec>,
    late_rows: Limited<IntCounterVec>,
    feature_errors: Limited<IntCounterVec>,
    expression_errors: Limited<IntCounterVec>,
    turns: Limited<IntCounterVec>,
    spans: Limited<IntCounterVec>,
    /// Sent and dropped.
    spans_told: Mutex<(u64, u64)>,
    waits: Limited<GaugeVec>,
    watermark: Limited<GaugeVec>,
    lag: Limited<GaugeVec>,
    processed: Gauge,
    processed_lag: Gauge,
    scores: Limited<IntCounterVec>,
    log_loss: Limited<GaugeVec>,
    labels: Limited<IntCounterVec>,
    labels_pending: Gauge,
    drift: Limited<GaugeVec>,
    alerts: Limited<IntCounterVec>,
    model_version: Limited<GaugeVec>,
    trainings: Limited<IntCounterVec>,
    training_seconds: Limited<HistogramVec>,
    trigger_seconds: Limited<HistogramVec>,
    promotions: Limited<IntCounterVec>,
    refusals: Limited<IntCounterVec>,
    resident_memory: Gauge,
    requests: Limited<IntCounterVec>,
    request_seconds: Limited<HistogramVec>,
    lines: lines::LineMetrics,
}

/// How the wait for a label ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelOutcome {
    /// It came in time.
    Joined,
    /// None came in time.
    TimedOut,
    /// It came after its row had timed out.
    TooLate,
    /// It came for a row that nobody knows.
    Unmatched,
}

impl LabelOutcome {
    fn name(self) -> &'static str {
        match self {
            LabelOutcome::Joined => "joined",
            LabelOutcome::TimedOut => "timed_out",
            LabelOutcome::TooLate => "too_late",
            LabelOutcome::Unmatched => "unmatched",
        }
    }
}

impl Metrics {
    /// A new set, all zero.
    pub fn new(pipeline: &str) -> Result<Metrics, Error> {
        let of = Families { registry: Registry::new(), names: RefCell::default() };
        of.build_info(pipeline)?;
        Ok(Metrics {
            source_rows: of.counters("source_rows_total", "Rows read.", &["source"])?,
            dead_letters: of.counters(
                "dead_letters_total",
                "Records that could not be used.",
                &["source", "reason"],
            )?,
            late_rows: of.counters(
                "late_rows_total",
                "Rows later than the lateness of their source allows.",
                &["source"],
            )?,
            feature_errors: of.counters(
                "feature_errors_total",
                "Rows on which a feature could not be computed and is NULL.",
                &["feature"],
            )?,
            expression_errors: of.counters(
                "expression_errors_total",
                "Rows on which an expression of a label or a window could not be computed and is NULL.",
                &["kind", "name", "expression"],
            )?,
            turns: of.counters(
                "turns_total",
                "How often the loops of threads have gone round; a few a second when nothing comes.",
                &["thread"],
            )?,
            spans: of.counters(
                "trace_spans_total",
                "Spans for the collector of traces: sent, or dropped because it or the queue took no more.",
                &["outcome"],
            )?,
            spans_told: Mutex::default(),
            waits: of.gauges(
                "source_waits",
                "1 while rows of a source wait until earlier ones are done.",
                &["source"],
            )?,
            watermark: of.gauges(
                "watermark_timestamp_seconds",
                "Event time up to which a source is complete, since 1970.",
                &["source"],
            )?,
            lag: of.gauges(
                "watermark_lag_seconds",
                "How far the watermark of a live source is behind the wall clock.",
                &["source"],
            )?,
            processed: of.gauge(
                "pipeline_watermark_timestamp_seconds",
                "Event time before which everything is done, since 1970.",
            )?,
            processed_lag: of.gauge(
                "pipeline_watermark_lag_seconds",
                "How far that is behind the wall clock; 0 without a live source.",
            )?,
            scores: of.counters("scores_total", "Rows scored.", &["model", "degraded"])?,
            log_loss: of.gauges(
                "log_loss_nats",
                "Log loss over recently labelled rows, by who scored them.",
                &["contender"],
            )?,
            labels: of.counters(
                "labels_total",
                "How the wait for labels ended.",
                &["label", "outcome"],
            )?,
            labels_pending: of.gauge("labels_pending", "Rows whose label is awaited.")?,
            drift: of.gauges(
                "drift_statistic",
                "The last reading of a drift statistic.",
                &["drift", "feature", "detector"],
            )?,
            alerts: of.counters("alerts_total", "Drift alerts raised.", &["drift", "level"])?,
            model_version: of.gauges("model_version", "The version in charge.", &["model"])?,
            trainings: of.counters("trainings_total", "Trainings ended.", &["model", "outcome"])?,
            training_seconds: of.histograms(
                "training_duration_seconds",
                "Wall time of trainings.",
                &["model"],
                TRAINING_SECONDS,
            )?,
            trigger_seconds: of.histograms(
                "trigger_to_score_seconds",
                "Wall time from the trigger of a training to the first score by its version.",
                &["model"],
                TRAINING_SECONDS,
            )?,
            promotions: of.counters("promotions_total", "Versions that took over.", &["model"])?,
            refusals: of.counters(
                "refusals_total",
                "Versions that the gate turned away.",
                &["model"],
            )?,
            resident_memory: of.gauge("resident_memory_bytes", "Memory of the process in RAM.")?,
            requests: of.counters("http_requests_total", "HTTP requests.", &["route", "code"])?,
            request_seconds: of.histograms(
                "http_request_duration_seconds",
                "Time to answer an HTTP request.",
                &["route"],
                REQUEST_SECONDS,
            )?,
            lines: lines::LineMetrics::new(&of)?,
            names: of.names.into_inner(),
            registry: of.registry,
        })
    }

    /// The text that `/metrics` answers, and its content type is [`CONTENT_TYPE`].
    pub fn text(&self) -> Result<String, Error> {
        if let Some(bytes) = super::resident_bytes() {
            self.resident_memory.set(bytes as f64);
        }
        self.count_spans();
        let mut text = Vec::with_capacity(1 << 14);
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(|e| Error::internal(format!("metrics cannot be written: {e}")))?;
        String::from_utf8(text).map_err(|e| Error::internal(e.to_string()))
    }

    /// Requests are traced after the run has ended too, when nobody looks at it any more.
    fn count_spans(&self) {
        let mut told = self.spans_told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = traces::tracer().map(Tracer::counts).unwrap_or_default();
        self.spans.add(["sent"], now.0 - told.0);
        self.spans.add(["dropped"], now.1 - told.1);
        *told = now;
    }

    /// The names of all metrics, those without a value yet too; a histogram by its base name.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows were read.
    pub fn source_rows(&self, source: &str, rows: u64) {
        self.source_rows.add([source], rows);
    }

    /// Records went to the dead letters.
    pub fn dead_letters(&self, source: &str, reason: &str, rows: u64) {
        self.dead_letters.add([source, reason], rows);
    }

    /// Rows went to the late stream.
    pub fn late_rows(&self, source: &str, rows: u64) {
        self.late_rows.add([source], rows);
    }

    /// A feature could not be computed on so many rows.
    pub fn feature_errors(&self, feature: &str, rows: u64) {
        self.feature_errors.add([feature], rows);
    }

    /// An expression of a label or a window, which is its kind, could not be computed on so many rows.
    pub fn expression_errors(&self, kind: &str, name: &str, expression: &str, rows: u64) {
        self.expression_errors.add([kind, name, expression], rows);
    }

    /// Loops of a thread went round.
    pub fn turns(&self, thread: &str, turns: u64) {
        self.turns.add([thread], turns);
    }

    /// Whether rows of a source wait until earlier ones are done.
    pub fn source_waits(&self, source: &str, waits: bool) {
        self.waits.set([source], f64::from(u8::from(waits)));
    }

    /// A source is complete up to here.
    pub fn watermark(&self, source: &str, watermark: Micros) {
        self.watermark.set([source], watermark as f64 / 1e6);
    }

    /// How far a live source's watermark is behind the wall clock.
    pub fn watermark_lag(&self, source: &str, seconds: f64) {
        self.lag.set([source], seconds);
    }

    /// Everything before this event time is done; a pipeline with a live source is so many seconds behind.
    pub fn processed(&self, watermark: Micros, behind: Option<f64>) {
        self.processed.set(watermark as f64 / 1e6);
        self.processed_lag.set(behind.unwrap_or(0.0));
    }

    /// Rows were scored; `degraded` is `no` or the mode that is stamped on them.
    pub fn scores(&self, model: &str, degraded: Option<&str>, rows: u64) {
        self.scores.add([model, degraded.unwrap_or("no")], rows);
    }

    /// The log loss over recently labelled rows.
    pub fn log_loss(&self, contender: &str, loss: f64) {
        self.log_loss.set([contender], loss);
    }

    /// Waits for labels ended.
    pub fn labels(&self, label: &str, outcome: LabelOutcome, rows: u64) {
        self.labels.add([label, outcome.name()], rows);
    }

    /// Rows whose label is awaited.
    pub fn labels_pending(&self, rows: u64) {
        self.labels_pending.set(rows as f64);
    }

    /// A detector was read.
    pub fn drift(&self, drift: &str, feature: &str, detector: &str, statistic: f64) {
        self.drift.set([drift, feature, detector], statistic);
    }

    /// Alerts were raised.
    pub fn alerts(&self, drift: &str, level: &str, alerts: u64) {
        self.alerts.add([drift, level], alerts);
    }

    /// Versions took over.
    pub fn promotions(&self, model: &str, versions: u64) {
        self.promotions.add([model], versions);
    }

    /// The version in charge of a model.
    pub fn model_version(&self, model: &str, version: u64) {
        self.model_version.set([model], version as f64);
    }

    /// Versions were turned away.
    pub fn refusals(&self, model: &str, versions: u64) {
        self.refusals.add([model], versions);
    }

    /// Trainings ended.
    pub fn trainings(&self, model: &str, succeeded: bool, trainings: u64) {
        self.trainings.add([model, if succeeded { "trained" } else { "failed" }], trainings);
    }

    /// A version scored its first row so many seconds after its training was triggered.
    pub fn trigger_to_score(&self, model: &str, seconds: f64) {
        self.trigger_seconds.observe([model], seconds);
    }

    /// A training took so many seconds.
    pub fn training_took(&self, model: &str, seconds: f64) {
        self.training_seconds.observe([model], seconds);
    }

    /// A request was answered; `route` is the route's template, never the path.
    pub fn request(&self, route: &str, code: u16, seconds: f64) {
        self.requests.add([route, &code.to_string()], 1);
        self.request_seconds.observe([route], seconds);
    }
}

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A family of metrics that stops growing at [`SERIES_LIMIT`].
struct Limited<V> {
    family: V,
    series: Mutex<HashSet<String>>,
}

impl<V> Limited<V> {
    /// The labels as given, or `other` for each if they would make one series too many.
    fn admit<'a, const N: usize>(&self, labels: [&'a str; N]) -> [&'a str; N] {
        // A poisoned lock only means that a thread died while it counted.
        let mut series = self.series.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = labels.join("\u{1f}");
        if series.contains(&key) {
            return labels;
        }
        if series.len() >= SERIES_LIMIT - 1 {
            return [OTHER; N];
        }
        series.insert(key);
        labels
    }
}

impl Limited<IntCounterVec> {
    fn add<const N: usize>(&self, labels: [&str; N], by: u64) {
        self.family.with_label_values(&self.admit(labels)).inc_by(by);
    }
}

impl Limited<GaugeVec> {
    fn set<const N: usize>(&self, labels: [&str; N], value: f64) {
        self.family.with_label_values(&self.admit(labels)).set(value);
    }
}

impl Limited<HistogramVec> {
    fn observe<const N: usize>(&self, labels: [&str; N], value: f64) {
        self.family.with_label_values(&self.admit(labels)).observe(value);
    }
}

/// Makes and registers families.
struct Families {
    registry: Registry,
    names: RefCell<Vec<String>>,
}

impl Families {
    fn register<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> Result<C, Error> {
        let internal =
            |e: prometheus::Error| Error::internal(format!("a metric cannot be made: {e}"));
        let collector = made.map_err(internal)?;
        self.names.borrow_mut().extend(collector.desc().iter().map(|desc| desc.fq_name.clone()));
        self.registry.register(Box::new(collector.clone())).map_err(internal)?;
        Ok(collector)
    }

    fn family<C>(&self, made: prometheus::Result<C>) -> Result<Limited<C>, Error>
    where
        C: Collector + Clone + 'static,
    {
        Ok(Limited { family: self.register(made)?, series: Mutex::default() })
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.register(Gauge::with_opts(opts(name, help)))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<Limited<IntCounterVec>, Error> {
        self.family(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<Limited<GaugeVec>, Error> {
        self.family(GaugeVec::new(opts(name, help), labels))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<Limited<HistogramVec>, Error> {
        let opts = HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() };
        self.family(HistogramVec::new(opts, labels))
    }

    fn build_info(&self, pipeline: &str) -> Result<(), Error> {
        let labels = ["version", "cpu", "pipeline"];
        let help = "What runs; the value is always 1.";
        let values = [env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, pipeline];
        self.gauges("build_info", help, &labels)?.set(values, 1.0);
        Ok(())
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("tidemill_{name}"), help)
}
