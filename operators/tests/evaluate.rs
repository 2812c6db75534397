//! Measures against scikit-learn's and against counting; the gate against its definition.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;
use tidemill_operators::evaluate::gate::{Comparison, Decision, Gate};
use tidemill_operators::evaluate::log_loss::{SURE, log_loss, log_loss_of_margin};
use tidemill_operators::evaluate::{Bin, Evaluation};

fn golden() -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/evaluation_sklearn.jsonl");
    let text = std::fs::read_to_string(path).expect("the golden file");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Scores of a progression, labels of a hash.
fn rows(case: &Json) -> Vec<(bool, f64)> {
    let part = |key: &str| case[key].as_u64().expect("a whole number");
    let (a, b, c, q) = (part("a"), part("b"), part("c"), part("q"));
    let row = |i: u64| {
        let score = (((a * i + b) % c) as f64 + 0.5) / (c + 1) as f64;
        let hash = ((i * 2_654_435_761 + q * 97) % 4_294_967_296) as f64 / 4_294_967_296.0;
        (hash < score * 0.6 + 0.1, score)
    };
    (0..part("n")).map(row).collect()
}

fn evaluate(rows: &[(bool, f64)]) -> Evaluation {
    let mut evaluation = Evaluation::new(1);
    for (i, &(label, score)) in rows.iter().enumerate() {
        evaluation.add(i as i64 % 3, label, &[score]);
    }
    evaluation
}

#[test]
fn measures_equal_scikit_learn() {
    let cases = golden();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let rows = rows(&case);
        let total = evaluate(&rows).total(0).expect("rows");
        let near = |ours: f64, key: &str| {
            let theirs = case[key].as_f64().expect("a number");
            assert!((ours - theirs).abs() < 1e-12, "{key}: {ours} against {theirs}");
        };
        assert_eq!(total.rows, rows.len() as u64);
        near(total.base_rate * total.rows as f64, "positives");
        near(total.log_loss, "log_loss");
        near(total.brier, "brier");
        near(total.auc.expect("both labels"), "auc");
        assert!(!total.approximate);
    }
}

#[test]
fn folded_scores_change_the_area_little_and_nothing_else() {
    for case in golden() {
        let rows = rows(&case);
        // Scores of a rare event too: crowded near 0.
        for power in [1, 8] {
            let (mut exact, mut folded) = (Evaluation::new(2), Evaluation::with_limit(2, 100));
            for (i, &(label, score)) in rows.iter().enumerate() {
                let score = score.powi(power);
                exact.add(i as i64 % 3, label, &[score, 1.0 - score]);
                folded.add(i as i64 % 3, label, &[score, 1.0 - score]);
            }
            for contender in [0, 1] {
                let (exact, mut folded) =
                    (exact.total(contender).expect("rows"), folded.total(contender).expect("rows"));
                assert!(folded.approximate);
                let (e, f) = (exact.auc.expect("both labels"), folded.auc.expect("both labels"));
                assert!((e - f).abs() < 1e-3, "{e} against {f}");
                (folded.auc, folded.approximate) = (exact.auc, false);
                assert_eq!(exact, folded);
            }
        }
    }
}

#[test]
fn calibration_bins_are_tenths() {
    let mut evaluation = Evaluation::new(1);
    for (label, score) in [(false, 0.0), (true, 0.05), (true, 0.1), (true, 0.95), (false, 1.0)] {
        evaluation.add(0, label, &[score]);
    }
    let bins = evaluation.bucket(0, 0).expect("rows").calibration;
    assert_eq!(bins[0], Bin { rows: 2, score: 0.025, rate: 0.5 });
    assert_eq!(bins[1], Bin { rows: 1, score: 0.1, rate: 1.0 });
    assert_eq!(bins[2], Bin::default());
    assert_eq!((bins[9].rows, bins[9].rate), (2, 0.5));
}

#[test]
fn odd_rows_are_counted_not_believed() {
    let mut evaluation = Evaluation::new(2);
    evaluation.add(7, true, &[f64::NAN, 2.0]);
    evaluation.add(7, true, &[0.5]);
    let first = evaluation.bucket(7, 0).expect("a row");
    assert_eq!((first.rows, first.unscored, first.auc), (1, 1, None));
    let second = evaluation.bucket(7, 1).expect("a row");
    assert_eq!((second.rows, second.unscored), (1, 1));
    assert!(second.log_loss < 1e-14, "a score above 1 is 1");
    assert!((log_loss(true, 0.0) - 34.538_776_394_910_684).abs() < 1e-9);
    assert!(evaluation.bucket(8, 0).is_none() && evaluation.bucket(7, 2).is_none());
    assert!(Evaluation::new(1).total(0).is_none());
}

#[test]
fn the_loss_of_a_margin_is_that_of_its_probability() {
    for margin in [-30.0, -3.0, 0.0, 0.7, 20.0] {
        let score = 1.0 / (1.0 + libm::exp(-margin));
        for label in [false, true] {
            let (a, b) = (log_loss(label, score), log_loss_of_margin(label, margin));
            assert!((a - b).abs() < 1e-2 * b, "{margin} {label}: {a} against {b}");
        }
    }
    for sure in [SURE, 1000.0, f64::INFINITY] {
        assert_eq!(log_loss_of_margin(true, -sure), SURE, "sums take no more");
    }
}

fn some_rows() -> impl Strategy<Value = Vec<(i64, bool, f64)>> {
    let score = prop_oneof![(0u32..=8).prop_map(|i| f64::from(i) / 8.0), 0.0..1.0f64];
    prop::collection::vec((0i64..3, any::<bool>(), score), 1..80)
}

proptest! {
    #[test]
    fn the_area_is_the_share_of_pairs_won(rows in some_rows()) {
        let mut evaluation = Evaluation::new(1);
        for (bucket, label, score) in &rows {
            evaluation.add(*bucket, *label, &[*score]);
        }
        let scores = |wanted| rows.iter().filter(move |r| r.1 == wanted).map(|r| r.2);
        let (mut won, mut pairs) = (0.0, 0.0);
        for one in scores(true) {
            for zero in scores(false) {
                pairs += 1.0;
                won += if one > zero { 1.0 } else if one == zero { 0.5 } else { 0.0 };
            }
        }
        let expected = (pairs > 0.0).then_some(won / pairs);
        prop_assert_eq!(evaluation.total(0).and_then(|s| s.auc), expected);
    }

    #[test]
    fn no_measure_depends_on_the_order(rows in some_rows()) {
        let read = |rows: &mut dyn Iterator<Item = &(i64, bool, f64)>| {
            let mut evaluation = Evaluation::new(1);
            rows.for_each(|(bucket, label, score)| evaluation.add(*bucket, *label, &[*score]));
            (evaluation.total(0), evaluation.bucket(1, 0))
        };
        prop_assert_eq!(read(&mut rows.iter()), read(&mut rows.iter().rev()));
    }

    /// Whatever came before, the gate says what a fresh one says of the rows in its span.
    #[test]
    fn the_gate_forgets_exactly(rows in prop::collection::vec((0i64..100, 0.0..5.0f64, 0.0..5.0f64), 0..60),
                                looks in prop::collection::vec(0i64..160, 1..5)) {
        let mut gate = Gate::new(30, 5, 0.1);
        for &(time, challenger, champion) in &rows {
            gate.add(time, challenger, champion);
        }
        let mut looks = looks;
        looks.sort_unstable();
        for now in looks {
            let mut fresh = Gate::new(1_000, 5, 0.1);
            let inside = rows.iter().filter(|r| r.0 >= now - 30);
            inside.for_each(|&(time, a, b)| fresh.add(time, a, b));
            prop_assert_eq!(gate.decide(now), fresh.decide(now));
        }
    }
}

#[test]
fn the_gate_waits_promotes_and_refuses() {
    let mut gate = Gate::new(100, 4, 0.002);
    for (time, challenger) in [(1, 0.4), (2, 0.6), (3, 0.5)] {
        gate.add(time, challenger, 0.5);
    }
    gate.add(3, f64::NAN, 0.5);
    assert_eq!(gate.decide(3), Decision::Wait(3));
    gate.add(4, 0.5, 0.5);
    let Decision::Promote(Comparison { mean, standard_error, rows: 4 }) = gate.decide(4) else {
        panic!("a mean of nothing is below the margin");
    };
    // Differences -0.1, 0.1, 0, 0: variance 0.02 / 3.
    assert!(mean.abs() < 1e-15 && (standard_error - libm::sqrt(0.02 / 12.0)).abs() < 1e-12);
    gate.add(5, 0.6, 0.5);
    assert!(matches!(gate.decide(5), Decision::Refuse(c) if (c.mean - 0.02).abs() < 1e-12));
    // Rows from `now - last` on are kept, that one included.
    assert!(matches!(gate.decide(102), Decision::Refuse(c) if c.rows == 4));
    assert_eq!(gate.decide(103), Decision::Wait(3));
    gate.clear();
    assert_eq!(gate.decide(103), Decision::Wait(0));
}
