//! Each check of the gate in a run: it turns a version away with a reason that a person can act on, and lets
//! the same version pass where the limit is wide.

#[path = "support/turncoat.rs"]
mod turncoat;

use serde_json::Value as Json;
use turncoat::{Event, Turncoat};

/// The second version is trained at the end of the second day, and shadowed in the first hours of the third.
const DAY: i64 = 86_400;
const HOURS: i64 = 54;

/// A limit of the gate that the second version of a run breaks, and one that it keeps.
struct Case<'a> {
    check: &'a str,
    broken: &'a str,
    kept: &'a str,
    /// What the reason names.
    names: &'a str,
    /// More flags of the run.
    set: &'a [&'a str],
    change: fn(i64, &mut Event) -> bool,
}

fn second_day(at: i64) -> bool {
    (DAY..2 * DAY).contains(&at)
}

/// Runs with such a gate: what is shown of the second version, and the versions that scored.
fn run(case: &Case, gate: &str) -> (Turncoat, Json, Vec<u64>) {
    // The test of the rollout would find most of these worse too; here the gate is to say it.
    let rollout = r#"shadow = "3h", canary = ["50% for 1h"], by = "user", min_rows = 50, give_up = "12h", false_abort = 1e-9"#;
    let more = format!("gate = {{ {gate} }}\nrollout = {{ {rollout} }}");
    let data = Turncoat::with(HOURS, &more, case.change);
    let sets: Vec<&str> = case.set.iter().flat_map(|set| ["--set", set]).collect();
    let told = data.run("out", &sets);
    let first = told["first_scores"].as_array().expect("a list").iter();
    let scored = first.map(|first| {
        assert!(first["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{told}");
        first["version"].as_u64().expect("a version")
    });
    let scored = scored.collect();
    let shown = data.models(&["show", "out", "trees", "2"]);
    (data, shown, scored)
}

/// The check in the report of the second version.
fn check_of<'a>(shown: &'a Json, name: &str) -> &'a Json {
    let checks = shown["report"]["checks"].as_array().unwrap_or_else(|| panic!("{shown}"));
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check of {name}: {shown}"))
}

fn holds(case: &Case) {
    let check = case.check;
    let (data, shown, scored) = run(case, case.broken);
    assert_eq!(scored, [1], "{check}: who scored");
    let found = check_of(&shown, check);
    assert_eq!(found["passed"], false, "{shown}");
    assert!(shown["seal"].as_str().is_some_and(|seal| seal.contains("whole")), "{shown}");
    let reason = format!("the gate's check of {check} failed");
    let refused = data.journal("out", "refused");
    let second: Vec<&Json> = refused.iter().filter(|record| record["to"] == 2).collect();
    let why = second.first().and_then(|record| record["why"].as_str()).unwrap_or_default();
    assert!(second.len() == 1 && why.contains(&reason), "{check}: {refused:?}");
    assert!(why.contains(case.names), "{why}, without {}", case.names);
    let reports = data.journal("out", "report");
    let told = reports.iter().any(|report| {
        report["version"] == 2
            && report["checks"].as_array().is_some_and(|all| all.iter().any(|c| c == found))
    });
    assert!(told, "the journal has another report: {reports:?}");
    assert!(data.scores("out").iter().all(|score| score["version"] != 2), "{check}: it served");

    let (data, shown, scored) = run(case, case.kept);
    assert_eq!(scored, [1, 2], "{check}: who scored, as a canary at least");
    assert_eq!(check_of(&shown, check)["passed"], true, "{shown}");
    let stages = data.journal("out", "rollout");
    let stages = stages.iter().filter(|record| record["version"] == 2);
    let stages: Vec<&str> = stages.filter_map(|record| record["stage"].as_str()).collect();
    assert!(stages.contains(&"canary"), "{check}: a version that passes goes on: {stages:?}");
}

#[test]
fn a_training_set_that_shrinks_is_turned_away() {
    holds(&Case {
        check: "volume",
        broken: "volume = 0.5",
        kept: "volume = 0.2",
        names: "before",
        set: &[],
        change: |at, row| !second_day(at) || row.id % 3 == 0,
    });
}

#[test]
fn values_that_are_gone_are_told() {
    holds(&Case {
        check: "nulls",
        broken: "nulls = 0.1",
        kept: "nulls = 0.5",
        names: "more of x",
        set: &[],
        change: |at, row| {
            if second_day(at) && row.luck.fract() * 10.0 % 1.0 < 0.3 {
                row.x = None;
            }
            true
        },
    });
    // Of a text too: the second day has values of x for which there is no word.
    holds(&Case {
        check: "nulls",
        broken: "nulls = 0.1",
        kept: "nulls = 0.9",
        names: "more of side",
        set: &["features.side=CASE WHEN x <= 0.5 THEN 'low' WHEN x <= 1 THEN 'high' END"],
        change: |at, row| {
            if second_day(at) && row.id % 2 == 0 {
                row.x = row.x.map(|x| x + 1.0);
            }
            true
        },
    });
}

#[test]
fn values_beyond_all_that_was_seen_are_told() {
    holds(&Case {
        check: "range",
        broken: "range = 0.2",
        kept: "range = 0.8",
        names: "values of x are new",
        set: &[],
        change: |at, row| {
            if second_day(at) {
                row.x = row.x.map(|x| 2.0 * x);
            }
            true
        },
    });
}

#[test]
fn a_segment_that_loses_is_told() {
    // On the second day nothing is true of the users below 12: what was learnt then is wrong of them on the
    // third.
    holds(&Case {
        check: "segment",
        broken: "segments = [\"user\"], segment_rows = 3, segment_loss = 0.1",
        kept: "segments = [\"user\"], segment_rows = 3, segment_loss = 90.0",
        names: "user = ",
        set: &["model.trees.inputs=[\"x\", \"user\"]", "model.trees.trees=100"],
        change: |at, row| {
            row.yes = row.yes && !(second_day(at) && row.user < 12);
            true
        },
    });
}

#[test]
fn scores_that_are_no_probabilities_are_told() {
    // On the second day half of what is false is true.
    holds(&Case {
        check: "calibration",
        broken: "calibration = 0.1",
        kept: "calibration = 0.9",
        names: "rows",
        set: &[],
        change: |at, row| {
            row.yes = row.yes || (second_day(at) && row.luck < 0.5);
            true
        },
    });
}

#[test]
fn a_version_that_is_slow_is_turned_away() {
    // A thousand trees take more than a microsecond on any machine.
    holds(&Case {
        check: "latency",
        broken: "latency = \"1us\"",
        kept: "latency = \"10s\"",
        names: "seconds a row",
        set: &["model.trees.trees=1000"],
        change: |_, _| true,
    });
}

#[test]
fn a_feature_that_knows_the_label_is_told() {
    // On the second day x was written when the label was known.
    holds(&Case {
        check: "leakage",
        broken: "leakage = 0.97",
        kept: "leakage = 1.0",
        names: "AUC of x alone",
        set: &[],
        change: |at, row| {
            if second_day(at) {
                row.x = row.x.map(|x| x / 2.0 + if row.yes { 0.5 } else { 0.0 });
            }
            true
        },
    });
}

#[test]
fn a_version_that_is_too_large_is_turned_away() {
    // Of the first day there is one row in five, too few for as many leaves as the second day gives.
    let change: fn(i64, &mut Event) -> bool = |at, row| at >= DAY || row.id % 5 == 0;
    let case = |broken, kept| Case {
        check: "size",
        broken,
        kept,
        names: "bytes of the artifact",
        set: &[],
        change,
    };
    let (data, second, _) = run(&case("", ""), "size = \"1GiB\"");
    let first = data.models(&["show", "out", "trees", "1"]);
    let size = |shown: &Json| check_of(shown, "size")["value"].as_f64().expect("bytes");
    let (first, second) = (size(&first), size(&second));
    assert!(first * 1.2 < second, "{first} bytes, then {second}");
    let between = format!("size = \"{:.0}\"", (first + second) / 2.0);
    holds(&case(&between, "size = \"1GiB\""));
}
