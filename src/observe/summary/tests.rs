//! The table for people, on a sample.

use tidemill_types::time::{DAY, from_rfc3339};

use super::*;

/// A run of a year, as large as real ones.
pub(crate) fn sample() -> Summary {
    let time = |text: &str| from_rfc3339(text).expect("a time");
    let spans: Vec<Span> = (2..=12)
        .map(|month| (format!("2013-{month:02}"), month, 1, month + 1, 1))
        .chain([("5 Feb to 30 Jun".into(), 2, 5, 7, 1), ("1 Jul to 31 Dec".into(), 7, 1, 13, 1)])
        .map(|(name, from_month, from_day, to_month, to_day)| {
            let year = if to_month > 12 { 2014 } else { 2013 };
            let to_month = (to_month - 1) % 12 + 1;
            Span {
                name,
                from: time(&format!("2013-{from_month:02}-{from_day:02}")),
                to: time(&format!("{year}-{to_month:02}-{to_day:02}")),
            }
        })
        .collect();
    let contender = |name: &str, loss: f64, auc: Option<f64>| {
        let quality = |i: usize| Quality {
            rows: 26_000 + 311 * i as u64,
            log_loss: Some(loss + 0.013 * (i as f64 * 0.9).sin()),
            auc: auc.map(|a| a - 0.01 * (i as f64 * 0.7).cos()),
        };
        let whole = Quality { rows: 301_512, ..quality(0) };
        Contender { name: name.into(), whole, spans: (0..spans.len()).map(quality).collect() }
    };
    let retraining = |week: i64, trigger: &str, version, fate| Retraining {
        model: "trees".into(),
        version,
        triggered_at: time("2013-02-05") + week * 7 * DAY,
        trigger: trigger.into(),
        rows: 24_311 + 6_000 * week as u64,
        seconds: 1.2 + 0.3 * week as f64,
        metrics: vec![("log_loss".into(), 0.45 - 0.001 * week as f64), ("auc".into(), 0.71)],
        fate,
    };
    Summary {
        pipeline: "flight_delays".into(),
        event_times: Some((time("2013-01-01T10:00:00Z"), time("2013-12-31T23:59:00Z"))),
        events: 689_987,
        events_per_second: 41_250.7,
        scores: 336_776,
        labelled: 327_346,
        timed_out: 9_012,
        pending: 418,
        late: 17,
        dead_letters: vec![
            DeadLetters { source: "departures".into(), reason: "no_time".into(), rows: 3 },
            DeadLetters { source: "weather".into(), reason: "parse".into(), rows: 12 },
        ],
        failed_features: vec![FailedFeature {
            feature: "minutes_per_mile".into(),
            rows: 2_104,
            why: "row 5117: Divide by zero error".into(),
        }],
        failed_expressions: vec![FailedExpression {
            kind: "window".into(),
            name: "carrier_3h, carrier_1d, carrier_7d".into(),
            expression: "cast(tail_number as bigint) * distance".into(),
            rows: 336_776,
            why: "row 3: Cannot cast string 'N14228' to value of Int64 type".into(),
        }],
        alerts: 41,
        first_scores: vec![FirstScore { model: "trees".into(), version: 1, seconds: 3.4 }],
        retrainings: vec![
            retraining(0, "every 7d", Some(1), Fate::Promoted),
            retraining(3, "drift.features gusts psi 0.31 above 0.25", Some(2), Fate::Promoted),
            retraining(9, "every 7d", Some(3), Fate::Refused),
            retraining(15, "drift.loss", None, Fate::Failed),
            retraining(22, "every 7d", Some(4), Fate::Waiting),
        ],
        promotions: 2,
        refusals: 1,
        rollbacks: 0,
        peak_memory_bytes: Some(812 << 20),
        seconds: 84.3,
        seconds_waiting_for_training: 31.9,
        contenders: vec![
            contender("served", 0.4391, Some(0.7411)),
            contender("online", 0.4412, Some(0.7390)),
            contender("trees (retrained)", 0.4463, Some(0.7322)),
            contender("trees v1 (frozen)", 0.4718, Some(0.6891)),
            contender("base rate", 0.5123, None),
        ],
        spans,
    }
}

#[test]
fn the_table_fits_a_terminal() {
    let table = sample().table();
    for line in table.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end());
    }
    let wanted =
        ["689,987", "2013-01-01 to 2013-12-31", "812.0 MiB", "base rate", "5 Feb to 30 Jun"];
    for wanted in wanted.into_iter().chain([
        "(retrained)",
        "(frozen)",
        "log_loss 0.4500",
        "no_time",
        "row 5117: Divide",
        "window carrier_3h",
        "cast(tail_number as",
        "row 3: Cannot cast",
    ]) {
        assert!(
            table.contains(wanted),
            "{wanted}
{table}"
        );
    }
}

#[test]
fn the_best_of_a_row_is_marked_once() {
    let table = sample().table();
    let losses = table.split("LOG LOSS").nth(1).and_then(|t| t.split("AUC").next()).expect("there");
    assert_eq!(losses.matches('*').count(), sample().spans.len() + 1, "{losses}");
    assert!(losses.contains("0.4391*"), "{losses}");
}

#[test]
fn json_and_back() {
    let text = serde_json::to_string(&sample()).expect("JSON");
    assert_eq!(serde_json::from_str::<Summary>(&text).expect("back"), sample());
}

#[test]
fn an_empty_run_has_a_table_too() {
    let table = Summary::default().table();
    assert!(table.contains("events") && !table.contains("LOG LOSS"), "{table}");
}
