//! What Prometheus is told, and how it is named.

use std::collections::BTreeMap;

use super::*;

fn used() -> Metrics {
    let metrics = Metrics::new("flights").expect("metrics");
    metrics.source_rows("departures", 10);
    metrics.dead_letters("departures", "parse", 2);
    metrics.late_rows("weather", 1);
    metrics.feature_errors("speed", 1);
    metrics.expression_errors("window", "day", "miles / hours", 1);
    metrics.watermark("weather", 1_500_000);
    metrics.source_waits("weather", false);
    metrics.watermark_lag("weather", 0.5);
    metrics.processed(2_500_000, Some(1.0));
    metrics.scores("online", None, 7);
    metrics.scores("online", Some("warming_up"), 1);
    metrics.log_loss("served", 0.5);
    metrics.labels("late", LabelOutcome::Joined, 4);
    metrics.labels("late", LabelOutcome::TimedOut, 1);
    metrics.labels_pending(5);
    metrics.drift("features", "gusts", "psi", 0.11);
    metrics.alerts("features", "drift", 1);
    metrics.trainings("trees", true, 1);
    metrics.training_took("trees", 2.0);
    metrics.trigger_to_score("trees", 4.0);
    metrics.promotions("trees", 1);
    metrics.model_version("trees", 2);
    metrics.refusals("trees", 1);
    metrics.request("/metrics", 200, 0.001);
    metrics
}

/// promtool's rules (`check metrics`), as they are documented, over the text format.
fn lint(text: &str) -> Vec<String> {
    const NOT_BASE: [&str; 9] = [
        "_milliseconds",
        "_ms",
        "_microseconds",
        "_minutes",
        "_hours",
        "_kilobytes",
        "_megabytes",
        "_percent",
        "_celcius",
    ];
    let mut found = Vec::new();
    let mut kinds = BTreeMap::new();
    let mut helped = std::collections::BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] if !help.is_empty() => _ = helped.insert(name.to_string()),
            ["#", "TYPE", name, kind] => _ = kinds.insert(name.to_string(), kind.to_string()),
            _ => (),
        }
    }
    for (name, kind) in &kinds {
        let mut say = |wrong: bool, why: &str| {
            if wrong {
                found.push(format!("{name}: {why}"));
            }
        };
        say(!helped.contains(name), "no help");
        say(
            (kind == "counter") != name.ends_with("_total"),
            "counters, and only they, end in _total",
        );
        say(NOT_BASE.iter().any(|unit| name.contains(unit)), "not a base unit");
        say(name.contains(kind.as_str()), "the name says the type");
        say(["_bucket", "_count", "_sum"].iter().any(|s| name.ends_with(s)), "a reserved ending");
        say(name.contains(':') || name.chars().any(|c| c.is_ascii_uppercase()), "not snake case");
        say(!name.starts_with("tidemill_"), "not our prefix");
    }
    found
}

#[test]
fn names_obey_promtool() {
    let text = used().text().expect("text");
    assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
    assert_eq!(text.matches("# TYPE").count(), 31);
    let bad = "# TYPE x_ms counter\n# HELP tidemill_gauge h\n# TYPE tidemill_gauge gauge\n";
    assert_eq!(lint(bad).len(), 5, "{:?}", lint(bad));
}

#[test]
fn values_arrive() {
    let text = used().text().expect("text");
    for line in [
        "tidemill_source_rows_total{source=\"departures\"} 10",
        "tidemill_dead_letters_total{reason=\"parse\",source=\"departures\"} 2",
        "tidemill_watermark_timestamp_seconds{source=\"weather\"} 1.5",
        "tidemill_scores_total{degraded=\"warming_up\",model=\"online\"} 1",
        "tidemill_labels_total{label=\"late\",outcome=\"timed_out\"} 1",
        "tidemill_model_version{model=\"trees\"} 2",
        "tidemill_training_duration_seconds_bucket{model=\"trees\",le=\"5\"} 1",
        "tidemill_trigger_to_score_seconds_sum{model=\"trees\"} 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.contains("tidemill_build_info{") && text.contains("pipeline=\"flights\""));
    let memory = text.lines().find_map(|l| l.strip_prefix("tidemill_resident_memory_bytes "));
    let told = memory.and_then(|m| m.parse::<f64>().ok()).expect("a number");
    assert_eq!(told > 1e6, super::super::resident_bytes().is_some());
}

#[test]
fn series_are_bounded_and_nothing_is_lost() {
    let metrics = Metrics::new("p").expect("metrics");
    for i in 0..2 * SERIES_LIMIT {
        metrics.dead_letters("s", &format!("reason {i}"), 1);
    }
    let text = metrics.text().expect("text");
    let series: Vec<&str> =
        text.lines().filter(|l| l.starts_with("tidemill_dead_letters_total")).collect();
    assert_eq!(series.len(), SERIES_LIMIT);
    let sum: u64 = series.iter().filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    assert_eq!(sum, 2 * SERIES_LIMIT as u64);
}

#[test]
fn labels_are_escaped() {
    let metrics = Metrics::new("a\"b\n").expect("metrics");
    assert!(metrics.text().expect("text").contains(r#"pipeline="a\"b\n""#));
}
