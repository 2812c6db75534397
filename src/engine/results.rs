//! What a run came to, as its report has it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_operators::dataflow::{Failed, Site};
use tidemill_types::Micros;

use super::check::{Compiled, Written};
use super::outputs::Outputs;
use crate::mill::Results;
use crate::observe::summary::{DeadLetters, FailedExpression, FailedFeature};
use crate::observe::{Summary, peak_resident_bytes};
use crate::report::{Drift, FeatureDrift, Report};

/// Dead letters, late rows and alerts.
pub(super) type Counted = (Vec<DeadLetters>, u64, u64);

/// What the sinks were told of besides rows.
pub(super) fn counted(outputs: &Outputs) -> Counted {
    let counts = outputs.counts();
    let dead = counts.dead_letters.lock().map(|dead| {
        let all = dead.iter();
        all.map(|((source, reason), rows)| DeadLetters {
            source: source.clone(),
            reason: reason.clone(),
            rows: *rows,
        })
        .collect()
    });
    let late = counts.late.lock().map(|late| late.values().sum());
    (dead.unwrap_or_default(), late.unwrap_or(0), counts.alerts.load(Ordering::Relaxed))
}

/// The report of a run that read so many events in this time.
pub(super) fn report(
    compiled: &Compiled,
    results: Results,
    events: u64,
    (dead_letters, late, alerts): Counted,
    took: Duration,
) -> Report {
    let seconds = took.as_secs_f64();
    let (mut failed_features, mut failed_expressions) = (Vec::new(), Vec::new());
    for (site, Failed { rows, first, reason, .. }) in results.failed {
        let Written { kind, name, text } = compiled.written(site);
        let why = format!("row {}: {reason}", first.1);
        match site {
            Site::Feature(_) => failed_features.push(FailedFeature { feature: name, rows, why }),
            _ => failed_expressions.push(FailedExpression {
                kind: kind.to_string(),
                name,
                expression: text,
                rows,
                why,
            }),
        }
    }
    let waited = results.waited.as_secs_f64();
    let summary = Summary {
        pipeline: compiled.plan.pipeline.name.value.clone(),
        event_times: results.event_times,
        events,
        events_per_second: events as f64 / (seconds - waited).max(1e-9),
        scores: results.scores,
        labelled: results.join.labelled,
        timed_out: results.join.timed_out,
        pending: results.pending,
        late,
        dead_letters,
        failed_features,
        failed_expressions,
        alerts,
        retrainings: results.trainings,
        first_scores: results.first_scores,
        promotions: results.promotions,
        refusals: results.refusals,
        rollbacks: results.rollbacks,
        peak_memory_bytes: peak_resident_bytes(),
        seconds,
        seconds_waiting_for_training: waited,
        contenders: results.contenders,
        spans: results.spans,
    };
    let bounds = results.bounds;
    let drifts = results.drift.into_iter().map(|(detector, features)| {
        let mut weeks: Vec<Micros> = features.values().flat_map(|f| f.keys().copied()).collect();
        weeks.sort_unstable();
        weeks.dedup();
        let features = features
            .into_iter()
            .map(|(name, values)| FeatureDrift {
                name,
                values: weeks.iter().map(|week| values.get(week).copied()).collect(),
            })
            .collect();
        let (warning, limit) = bounds.get(detector).copied().unwrap_or((f64::MAX, f64::MAX));
        Drift { statistic: detector.to_string(), warning, limit, weeks, features }
    });
    Report {
        summary,
        weekly: results.weekly,
        drifts: drifts.collect(),
        moments: results.moments,
        calibrations: results.calibrations,
        importances: results.importances,
    }
}
