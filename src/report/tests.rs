use tidemill_types::time::{DAY, from_rfc3339};

use super::*;
use crate::observe::summary::tests::sample as summary;

const WEEKS: usize = 47;
const FEATURES: [&str; 14] = [
    "carrier_delay_3h",
    "carrier_delay_24h",
    "route_delay_p90",
    "route_flights_7d",
    "previous_delay",
    "previous_late_by_arrival",
    "gusts",
    "visibility",
    "precipitation",
    "pressure",
    "queue_1h",
    "inbound_delay_1h",
    "hour",
    "distance",
];

/// A year of flights, as it might have been.
fn sample() -> Report {
    let start = from_rfc3339("2013-02-05").expect("a time");
    let weeks: Vec<Micros> = (0..WEEKS as i64).map(|week| start + week * 7 * DAY).collect();
    let summary = summary();
    let wave = |i: usize, f: usize| {
        (i as f64 * 0.35 + f as f64).sin() + 0.6 * ((i * 7 + f * 13) % 11) as f64 / 11.0
    };
    let contenders = summary
        .contenders
        .iter()
        .enumerate()
        .map(|(f, contender)| WeeklyQuality {
            name: contender.name.clone(),
            log_loss: (0..WEEKS)
                .map(|i| {
                    (i != 20).then(|| {
                        contender.whole.log_loss.unwrap_or(0.5)
                            + 0.03 * wave(i, 0)
                            + 0.004 * wave(i, f)
                    })
                })
                .collect(),
            auc: (0..WEEKS)
                .map(|i| Some(contender.whole.auc? - 0.02 * wave(i, 1) - 0.003 * wave(i, f)))
                .collect(),
        })
        .collect();
    let features = FEATURES
        .iter()
        .enumerate()
        .map(|(f, name)| FeatureDrift {
            name: (*name).into(),
            values: (0..WEEKS)
                .map(|i| {
                    (i > 1 || f % 3 > 0).then(|| {
                        (0.05 * (1.0 + wave(i, f)).powi(3) * if f == 6 { 3.0 } else { 0.5 }).abs()
                    })
                })
                .collect(),
        })
        .collect();
    let moment = |day: i64, model: &str, version, step, why: &str| Moment {
        time: start + day * DAY,
        model: model.into(),
        version,
        step,
        why: why.into(),
    };
    let mut moments = vec![
        moment(0, "trees", None, Step::Triggered, "every 7d"),
        moment(0, "trees", Some(1), Step::Trained, "24,311 rows"),
        moment(1, "trees", Some(1), Step::Promoted, "the first version"),
        moment(21, "trees", None, Step::Triggered, "gusts psi 0.31 above 0.25"),
        moment(21, "trees", Some(2), Step::Trained, "42,001 rows"),
        moment(30, "trees", Some(2), Step::Promoted, "difference -0.0031 (0.0009) over 6,120 rows"),
        moment(63, "trees", None, Step::Triggered, "every 7d"),
        moment(63, "trees", Some(3), Step::Trained, "78,322 rows"),
        moment(70, "trees", Some(3), Step::Refused, "difference 0.0044 (0.0011) over 6,301 rows"),
        moment(105, "trees", None, Step::Triggered, "the loss of what is served rose"),
        moment(105, "trees", None, Step::Failed, "the executor went away"),
        moment(154, "trees", None, Step::Triggered, "every 7d"),
        moment(154, "trees", Some(4), Step::Trained, "156,011 rows"),
    ];
    moments.extend(
        (0..10).map(|i| moment(i * 33, "online", Some(i as u64 + 1), Step::Promoted, "published")),
    );
    let calibrations = summary
        .contenders
        .iter()
        .enumerate()
        .map(|(c, contender)| Calibration {
            contender: contender.name.clone(),
            bins: (0..10)
                .map(|i| {
                    let predicted = (i as f64 + 0.5) / 10.0;
                    let observed = (predicted + 0.05 * wave(i, c)).clamp(0.0, 1.0);
                    let rows = if c == 4 && i != 2 {
                        0
                    } else {
                        (120_000.0 * (-(i as f64 - 1.5).powi(2) / 4.0).exp()) as u64 + 40
                    };
                    Bin { predicted, observed, rows }
                })
                .collect(),
        })
        .collect();
    let shares = FEATURES
        .iter()
        .enumerate()
        .map(|(i, name)| ((*name).into(), 0.25 / (i as f64 + 1.0)))
        .collect();
    Report {
        summary,
        weekly: Weekly { weeks: weeks.clone(), contenders },
        drifts: vec![Drift { statistic: "PSI".into(), warning: 0.1, limit: 0.25, weeks, features }],
        moments,
        calibrations,
        importances: Some(Importances { model: "trees".into(), version: 2, shares }),
    }
}

/// Every element is closed by its own end tag; attributes are quoted. Enough to find a forgotten escape.
fn check_nesting(html: &str) {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let body = html.split("<style>").next().expect("a head").to_owned()
        + html.split("</style>").nth(1).expect("a body");
    let mut rest = body.as_str();
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "a stray > in {:?}", &rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop().map(str::to_owned).as_deref(), Some(name), "at {tag}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_holds_everything_and_needs_nothing() {
    let html = sample().html();
    check_nesting(&html);
    for part in [
        "Quality by week",
        "Quality by span",
        "Versions",
        "Drift: PSI",
        "Calibration",
        "Feature importances",
        "Counts",
        "Could not be computed",
    ] {
        assert!(html.contains(&format!("<h2>{part}</h2>")), "{part}");
    }
    for foreign in ["http:", "https:", "<script", "src=", "@import", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(
        html.matches("gusts, week of").count(),
        2 * WEEKS,
        "a tooltip per cell in both forms"
    );
    assert!(!html.contains("NaN") && !html.contains("inf\""));
    assert_eq!(html, sample().html());
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
}

#[test]
fn names_from_a_pipeline_cannot_break_the_page() {
    let evil = "</title><b x=\"y\">&";
    let mut report = sample();
    report.summary.pipeline = evil.into();
    report.drifts[0].features[0].name = evil.into();
    report.moments[0].why = evil.into();
    report.summary.contenders[0].name = evil.into();
    report.weekly.contenders[0].name = evil.into();
    let html = report.html();
    check_nesting(&html);
    assert!(!html.contains("<b x"));
}

#[test]
fn an_empty_report_is_a_page_too() {
    let html = Report::default().html();
    check_nesting(&html);
    assert!(html.contains("<h2>Counts</h2>") && !html.contains("Drift"));
}

#[test]
fn it_is_written_whole() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("report.html");
    sample().write(&path).expect("writes");
    assert_eq!(std::fs::read_to_string(&path).expect("reads"), sample().html());
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
    // To look at it: TIDEMILL_REPORT_SAMPLE=/tmp/report.html cargo test report
    if let Some(keep) = std::env::var_os("TIDEMILL_REPORT_SAMPLE") {
        sample().write(Path::new(&keep)).expect("writes");
    }
}
