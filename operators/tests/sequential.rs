//! The sequential test keeps what it promises: simulations with equal models and with a worse one.
//! `-- --nocapture` prints the figures of `docs/rollout.md`.

#![allow(clippy::print_stdout)]

use proptest::prelude::*;
use tidemill_operators::evaluate::in_order::InOrder;
use tidemill_operators::evaluate::log_loss::log_loss_of_margin;
use tidemill_operators::evaluate::sequential::{Duel, Terms, Verdict};

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Sum of twelve uniforms less six: near enough to a normal one.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Label and log-odds of challenger and champion on a row: the truth has log-odds of -1.2 and a spread of 1.2 as
/// the flights have; each model adds an error of its own.
fn row(chance: &mut Chance, challenger_error: f64, champion_error: f64) -> (bool, f64, f64) {
    let truth = -1.2 + 1.2 * chance.normal();
    let (a, b) =
        (truth + challenger_error * chance.normal(), truth + champion_error * chance.normal());
    let label = chance.uniform() < 1.0 / (1.0 + (-truth).exp());
    (label, a, b)
}

const RUNS: u64 = 1_000;
const LABELS: usize = 5_000;

/// Equal models, looked at after every label: no more runs end in a promotion, or in an abort, than
/// was set. A z-test looked at as often errs in many: the bound is not to be had by habit.
#[test]
fn equal_models_are_rarely_told_apart() {
    for allowed in [0.01, 0.05] {
        let terms =
            Terms { false_promotion: allowed, false_abort: allowed, margin: 0.0, clip: 0.001 };
        let (mut promoted, mut aborted, mut peeked) = (0u64, 0u64, 0u64);
        for run in 0..RUNS {
            let mut chance = Chance(run * 7_919 + 1);
            let mut duel = Duel::new(terms);
            let (mut better, mut worse, mut z_test) = (false, false, false);
            for n in 1..=LABELS {
                let (label, challenger, champion) = row(&mut chance, 0.5, 0.5);
                duel.add(label, challenger, champion);
                // A finding stands, so the sum of all looks is the last one; but they are two.
                let found = duel.verdict();
                better |= found == Verdict::Better;
                worse |= found == Verdict::Worse;
                let evidence = duel.evidence();
                let limit = if allowed < 0.02 { 2.326 } else { 1.645 };
                z_test |= n >= 100 && -evidence.mean > limit * evidence.standard_error;
            }
            promoted += u64::from(better);
            aborted += u64::from(worse);
            peeked += u64::from(z_test);
        }
        let rate = |n: u64| n as f64 / RUNS as f64;
        println!(
            "equal models, {RUNS} runs of {LABELS} labels, {allowed} allowed: {:.3} promoted, {:.3} \
             aborted; a z-test looked at as often promotes {:.3}",
            rate(promoted),
            rate(aborted),
            rate(peeked)
        );
        assert!(rate(promoted) <= allowed, "{promoted} of {RUNS} promoted");
        assert!(rate(aborted) <= allowed, "{aborted} of {RUNS} aborted");
        assert!(rate(peeked) > 3.0 * allowed, "{peeked}: the simulation is too easy");
    }
}

/// The rows that a one-sided z-test of level a needs, so that it finds a difference with probability
/// 0.8 when looked at once.
fn fixed_sample(mean: f64, deviation: f64, level: f64) -> f64 {
    let z = if level < 0.02 { 2.326 } else { 1.645 };
    ((z + 0.842) * deviation / mean).powi(2)
}

/// A worse model is aborted soon: the median beside a test of fixed size that finds it in 80 % of
/// cases. The sequential test need not know how much worse it is.
#[test]
fn a_worse_model_is_aborted_soon() {
    let allowed = 0.01;
    let terms = Terms { false_promotion: allowed, false_abort: allowed, margin: 0.0, clip: 0.001 };
    for (error, most) in [(1.0, 3.0), (1.5, 3.0), (2.5, 4.0)] {
        let mut chance = Chance(4_711);
        let difference = |(label, a, b)| terms.loss(label, a) - terms.loss(label, b);
        let sample: Vec<f64> =
            (0..200_000).map(|_| difference(row(&mut chance, error, 0.5))).collect();
        let mean = sample.iter().sum::<f64>() / sample.len() as f64;
        let squares = sample.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        let deviation = (squares / sample.len() as f64).sqrt();
        let fixed = fixed_sample(mean, deviation, allowed);
        let mut times: Vec<usize> = (0..201)
            .map(|run| {
                let mut chance = Chance(run * 104_729 + 3);
                let mut duel = Duel::new(terms);
                let mut n = 0;
                while duel.verdict() == Verdict::Open && n < 200_000 {
                    let (label, challenger, champion) = row(&mut chance, error, 0.5);
                    duel.add(label, challenger, champion);
                    n += 1;
                }
                assert_eq!(duel.verdict(), Verdict::Worse, "run {run} of a worse model");
                n
            })
            .collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!(
            "worse by {mean:.4} nats (deviation {deviation:.3}): aborted after {median} labels in the \
             median, {} in 9 of 10 runs; a test of fixed size needs {fixed:.0}",
            times[times.len() * 9 / 10]
        );
        assert!(median as f64 <= most * fixed, "{median} labels against {fixed}");
    }
}

/// A better model is promoted, and one that is as good is where a margin is allowed.
#[test]
fn a_better_model_is_promoted() {
    for (error, margin) in [(0.5, 0.0), (1.0, 0.03)] {
        let terms = Terms { false_promotion: 0.01, false_abort: 0.01, margin, clip: 0.001 };
        let mut chance = Chance(99);
        let mut duel = Duel::new(terms);
        while duel.verdict() == Verdict::Open && duel.evidence().rows < 100_000 {
            let (label, challenger, champion) = row(&mut chance, error, 1.0);
            duel.add(label, challenger, champion);
        }
        assert_eq!(duel.verdict(), Verdict::Better, "{:?}", duel.evidence());
    }
}

/// Labels of one kind come first. In the order of the labels an equal model that scores everything
/// higher is found better; in the order of the rows it is not.
#[test]
fn labels_that_come_early_deceive_only_who_does_not_wait() {
    let terms = Terms { false_promotion: 0.01, false_abort: 0.01, margin: 0.0, clip: 0.001 };
    let (mut hasty, mut patient) = (0, 0);
    for run in 0..200u64 {
        let mut chance = Chance(run + 1_000_003);
        let (mut by_label, mut by_row) = (Duel::new(terms), Duel::new(terms));
        let mut in_order = InOrder::default();
        let mut later: std::collections::VecDeque<(usize, usize, (bool, f64, f64))> =
            Default::default();
        let (mut was_hasty, mut was_patient) = (false, false);
        for n in 0..3_000usize {
            in_order.expect(n);
            let truth = 0.8 * chance.normal();
            let label = chance.uniform() < 1.0 / (1.0 + (-truth).exp());
            // By symmetry both shifts cost the same.
            let margins = (label, truth + 0.3, truth - 0.3);
            let wait = if label { 1 } else { 400 };
            let due = later.partition_point(|(due, ..)| *due <= n + wait);
            later.insert(due, (n + wait, n, margins));
            while later.front().is_some_and(|(due, ..)| *due <= n) {
                let (_, row, (label, challenger, champion)) = later.pop_front().expect("just seen");
                by_label.add(label, challenger, champion);
                in_order.settle(&row, Some((label, challenger, champion)));
            }
            while let Some((label, challenger, champion)) = in_order.next_settled() {
                by_row.add(label, challenger, champion);
            }
            was_hasty |= by_label.verdict() == Verdict::Better;
            was_patient |= by_row.verdict() == Verdict::Better;
        }
        hasty += u64::from(was_hasty);
        patient += u64::from(was_patient);
    }
    println!("labels of one kind first, 200 runs: {hasty} promoted at once, {patient} in order");
    assert!(hasty > 60 && patient <= 2, "{hasty} in the order of labels, {patient} of rows");
}

/// Log-odds of 0.999.
const LIMIT: f64 = 6.906_754_778_648_554;

proptest! {
    /// The capital is the mean of the products, and nothing but the margin moves the point of balance.
    #[test]
    fn capital_is_the_mean_of_products(
        rows in prop::collection::vec((-9.0..9.0f64, -9.0..9.0f64, any::<bool>()), 0..60),
        margin in 0.0..0.5f64,
    ) {
        let terms = Terms { false_promotion: 0.05, false_abort: 0.05, margin, clip: 0.001 };
        let mut duel = Duel::new(terms);
        let mut products = ([1.0f64; 12], [1.0f64; 12]);
        for (a, b, label) in &rows {
            duel.add(*label, *a, *b);
            let loss = |m: f64| log_loss_of_margin(*label, m.clamp(-LIMIT, LIMIT));
            let (a, b) = (loss(*a), loss(*b));
            prop_assert!((a - b).abs() <= LIMIT + 1e-12);
            for i in 0..12 {
                let bet = 0.9 / (LIMIT + margin) / f64::from(1 << i);
                products.0[i] *= 1.0 + bet * (b + margin - a);
                products.1[i] *= 1.0 - bet * (b + margin - a);
            }
        }
        let evidence = duel.evidence();
        let near = |ours: f64, theirs: [f64; 12]| {
            let theirs = theirs.iter().sum::<f64>() / 12.0;
            (ours - theirs).abs() <= 1e-9 * theirs.max(1.0)
        };
        prop_assert!(near(evidence.better, products.0) && near(evidence.worse, products.1));
        prop_assert_eq!(evidence.rows, rows.len() as u64);
    }

    /// Rows come out in the order in which they went in, each settled one once.
    #[test]
    fn rows_come_out_as_they_went_in(order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(), given_up in any::<u64>()) {
        let mut in_order = InOrder::default();
        (0..40).for_each(|row| in_order.expect(row));
        let mut out = Vec::new();
        let mut settled = [false; 40];
        for row in order {
            let kept = given_up >> row & 1 == 0;
            in_order.settle(&row, kept.then_some(row));
            settled[row] = true;
            while let Some(row) = in_order.next_settled() {
                prop_assert!(settled[..=row].iter().all(|s| *s), "row {} came too early", row);
                out.push(row);
            }
        }
        let wanted: Vec<usize> = (0..40).filter(|row| given_up >> row & 1 == 0).collect();
        prop_assert_eq!(out, wanted);
        prop_assert_eq!(in_order.held(), 0);
    }
}
