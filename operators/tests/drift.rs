//! Laws over the list of detectors, and oracles for each.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;
use tidemill_config::section::Section;
use tidemill_operators::drift::special::{chi_square_tail, kolmogorov_tail};
use tidemill_operators::drift::{
    Build, CategoryStatistic, DETECTORS, Entry, Monitor, Statistic, StatisticFactory,
};
use tidemill_types::drift::{Level, Reading};

// ---- making detectors, and data

fn section(name: &str, keys: &str) -> Section {
    Section::with_keys(name, keys).expect("keys")
}

fn entry(name: &str) -> &'static Entry {
    DETECTORS.iter().find(|entry| entry.name == name).expect("a detector of this name")
}

fn factory(name: &str, keys: &str) -> Box<dyn StatisticFactory> {
    let Build::Statistic(build) = entry(name).build else { panic!("{name} is no statistic") };
    build(&section(name, keys)).expect("its keys")
}

fn monitor(name: &str, keys: &str) -> Box<dyn Monitor> {
    let Build::Monitor(build) = entry(name).build else { panic!("{name} is no monitor") };
    build(&section(name, keys)).expect("its keys")
}

fn numbers(name: &str, reference: &[f64]) -> Box<dyn Statistic> {
    factory(name, "").numbers(reference).expect("a statistic of numbers")
}

fn statistics() -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().filter(|e| matches!(e.build, Build::Statistic(_))).map(|e| e.name)
}

fn monitors() -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().filter(|e| matches!(e.build, Build::Monitor(_))).map(|e| e.name)
}

/// Splitmix64; the first state is the finaliser's value of seed + 0x51ED2701.
struct Draws(u64);

impl Draws {
    fn new(seed: u64) -> Draws {
        Draws(Draws::mix(seed + 0x51ED_2701))
    }

    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Draws::mix(self.0)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal: twelve uniforms less six.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn golden(file: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text = std::fs::read_to_string(path).expect("the golden file");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn fill(statistic: &mut dyn Statistic, rows: &[f64]) {
    for &row in rows {
        statistic.insert(statistic.locate(row));
    }
}

fn fill_categories(statistic: &mut dyn CategoryStatistic, rows: &[u64]) {
    for &row in rows {
        statistic.insert(statistic.locate(row));
    }
}

fn bits(reading: Option<Reading>) -> Option<(u64, Option<u64>, Level)> {
    reading.map(|r| (r.statistic.to_bits(), r.p_value.map(f64::to_bits), r.level))
}

// ---- laws of statistics

#[test]
fn an_empty_window_and_an_empty_reference_say_nothing() {
    for name in statistics() {
        assert_eq!(numbers(name, &[1.0, 2.0]).read(), None, "{name}");
        let mut of_nothing = numbers(name, &[]);
        fill(&mut *of_nothing, &[1.0, f64::NAN, 2.0]);
        assert_eq!(of_nothing.read(), None, "{name}");
        if let Some(categories) = factory(name, "").categories(&[7, 8]) {
            assert_eq!(categories.read(), None, "{name}");
        }
    }
}

#[test]
fn the_reference_itself_is_no_drift() {
    let references: [Vec<f64>; 3] = [
        vec![3.25; 500],
        (0..500).map(|i| f64::from(i % 7)).collect(),
        (0..500).map(|i| if i % 3 == 0 { f64::NAN } else { f64::from(i) }).collect(),
    ];
    for name in statistics() {
        for reference in &references {
            let mut statistic = numbers(name, reference);
            fill(&mut *statistic, reference);
            let reading = statistic.read().expect("a reading");
            assert_eq!((reading.statistic, reading.level), (0.0, Level::Stable), "{name}");
        }
    }
}

#[test]
fn a_step_is_found_up_and_down_and_from_a_constant() {
    let mut draws = Draws::new(1);
    let reference: Vec<f64> = (0..2_000).map(|_| draws.normal()).collect();
    for name in statistics() {
        for step in [1.0, -1.0] {
            let moved: Vec<f64> = (0..500).map(|_| draws.normal() + step).collect();
            let mut statistic = numbers(name, &reference);
            fill(&mut *statistic, &moved);
            assert_eq!(statistic.read().expect("a reading").level, Level::Drift, "{name} {step}");
            let mut constant = numbers(name, &[5.0; 300]);
            fill(&mut *constant, &[5.0 + step; 300]);
            assert_eq!(constant.read().expect("a reading").level, Level::Drift, "{name} {step}");
        }
    }
}

#[test]
fn a_window_too_small_to_tell_is_stable() {
    let mut draws = Draws::new(2);
    let reference: Vec<f64> = (0..2_000).map(|_| draws.normal()).collect();
    for name in statistics() {
        let mut statistic = numbers(name, &reference);
        fill(&mut *statistic, &[0.3, -0.2, 0.9]);
        let reading = statistic.read().expect("a reading");
        assert!(reading.statistic > 0.25, "{name}: chance alone passes the threshold");
        assert_eq!(reading.level, Level::Stable, "{name}");
    }
}

#[test]
fn without_drift_small_p_values_are_as_rare_as_promised() {
    for name in statistics() {
        for (m, n) in [(2_000, 100), (2_000, 1_000)] {
            let mut draws = Draws::new(3);
            let looks = 2_000;
            let mut small = 0;
            for _ in 0..looks / 100 {
                let reference: Vec<f64> = (0..m).map(|_| draws.normal()).collect();
                for _ in 0..100 {
                    let mut statistic = numbers(name, &reference);
                    let window: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
                    fill(&mut *statistic, &window);
                    let p = statistic.read().and_then(|r| r.p_value).expect("a p-value");
                    small += u32::from(p < 0.05);
                }
            }
            // 100 expected; twenty references shared by a hundred windows each widen the scatter.
            assert!((50..170).contains(&small), "{name} {m} {n}: {small} of {looks}");
        }
    }
}

/// Rows to put in, and which of them to take out again.
fn churn() -> impl Strategy<Value = Vec<(f64, bool)>> {
    let value = prop_oneof![
        4 => (-6i32..6).prop_map(|i| f64::from(i) / 2.0),
        2 => -3.0..3.0f64,
        1 => Just(f64::NAN),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300]),
    ];
    prop::collection::vec((value, any::<bool>()), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The state is a function of the rows in the window.
    #[test]
    fn insert_and_evict_equal_a_fresh_window(reference in churn(), rows in churn()) {
        let reference: Vec<f64> = reference.into_iter().map(|(x, _)| x).collect();
        for name in statistics() {
            let mut worn = numbers(name, &reference);
            for (value, _) in &rows {
                worn.insert(worn.locate(*value));
            }
            for (value, _) in rows.iter().rev().filter(|(_, gone)| *gone) {
                worn.evict(worn.locate(*value));
            }
            let mut fresh = numbers(name, &reference);
            let kept: Vec<f64> = rows.iter().filter(|(_, gone)| !gone).map(|(x, _)| *x).collect();
            fill(&mut *fresh, &kept);
            prop_assert_eq!(bits(worn.read()), bits(fresh.read()), "{}", name);
            if let Some(reading) = fresh.read() {
                prop_assert!(reading.statistic.is_finite() && reading.statistic >= 0.0);
                prop_assert!((0.0..=1.0).contains(&reading.p_value.unwrap_or(0.0)));
            }
        }
    }

    #[test]
    fn so_with_categories(reference in prop::collection::vec(0u64..80, 0..400),
                          rows in prop::collection::vec((0u64..90, any::<bool>()), 0..200)) {
        for name in statistics() {
            let make = || factory(name, "").categories(&reference);
            let (Some(mut worn), Some(mut fresh)) = (make(), make()) else { continue };
            let all: Vec<u64> = rows.iter().map(|(x, _)| *x).collect();
            fill_categories(&mut *worn, &all);
            for (value, gone) in &rows {
                if *gone { worn.evict(worn.locate(*value)) } else { fresh.insert(fresh.locate(*value)) }
            }
            prop_assert_eq!(bits(worn.read()), bits(fresh.read()), "{}", name);
        }
    }
}

// ---- Kolmogorov-Smirnov

/// The largest |n R - m W| over all values of either side, by counting at each.
fn naive_distance(reference: &[f64], window: &[f64]) -> Option<f64> {
    let r: Vec<f64> = reference.iter().copied().filter(|x| !x.is_nan()).collect();
    let w: Vec<f64> = window.iter().copied().filter(|x| !x.is_nan()).collect();
    let (m, n) = (r.len() as i64, w.len() as i64);
    let up_to = |rows: &[f64], x: f64| rows.iter().filter(|&&y| y <= x).count() as i64;
    let distance = |&x: &f64| (n * up_to(&r, x) - m * up_to(&w, x)).abs();
    let worst = r.iter().chain(&w).map(distance).max()?;
    (m > 0 && n > 0).then(|| worst as f64 / (n as f64 * m as f64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn ks_equals_counting(reference in churn(), rows in churn()) {
        let reference: Vec<f64> = reference.into_iter().map(|(x, _)| x).collect();
        let rows: Vec<f64> = rows.into_iter().map(|(x, _)| x).collect();
        let mut ks = numbers("ks", &reference);
        fill(&mut *ks, &rows);
        prop_assert_eq!(ks.read().map(|r| r.statistic), naive_distance(&reference, &rows));
    }
}

#[test]
fn ks_equals_counting_over_many_blocks() {
    let mut draws = Draws::new(4);
    for round in 0..60 {
        let coarse = if round % 2 == 0 { 1e9 } else { 40.0 };
        let shift = f64::from(round % 6) * 0.05;
        let mut draw = |shift: f64| libm::round((draws.normal() + shift) * coarse) / coarse;
        let reference: Vec<f64> = (0..700).map(|_| draw(0.0)).collect();
        let rows: Vec<f64> = (0..300).map(|_| draw(shift)).collect();
        let mut ks = numbers("ks", &reference);
        fill(&mut *ks, &rows);
        assert_eq!(ks.read().map(|r| r.statistic), naive_distance(&reference, &rows));
    }
}

/// The golden samples: x_i = (a i + b) mod c for i < n.
fn progression(of: &Json) -> Vec<f64> {
    let part = |i: usize| of[i].as_u64().expect("a whole number");
    (0..part(3)).map(|i| ((part(0) * i + part(1)) % part(2)) as f64).collect()
}

#[test]
fn ks_equals_scipy() {
    let cases = golden("ks_scipy.jsonl");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let mut ks = numbers("ks", &progression(&case["reference"]));
        fill(&mut *ks, &progression(&case["window"]));
        let reading = ks.read().expect("a reading");
        near(reading.statistic, &case["d"], 1e-14);
        near(reading.p_value.expect("a p-value"), &case["p"], 1e-11);
    }
}

fn near(ours: f64, theirs: &Json, tolerance: f64) {
    let theirs = theirs.as_f64().expect("a number");
    assert!((ours - theirs).abs() <= tolerance * theirs.abs().max(1e-6), "{ours} against {theirs}");
}

#[test]
fn tails_equal_scipy() {
    for case in golden("chi_square_scipy.jsonl") {
        let part = |key: &str| case[key].as_f64().expect("a number");
        near(chi_square_tail(part("x"), part("freedom")), &case["p"], 1e-11);
    }
    for case in golden("kolmogorov_scipy.jsonl") {
        near(kolmogorov_tail(case["x"].as_f64().expect("a number")), &case["p"], 1e-11);
    }
}

#[test]
fn ks_has_no_meaning_for_categories() {
    assert!(factory("ks", "").categories(&[1, 2, 3]).is_none());
}

// ---- population stability index

#[test]
fn psi_of_shares_known_by_hand() {
    // Reference: a tenth in each of ten bins. Window: everything in the lowest two, half and half.
    let reference: Vec<f64> = (0..1_000).map(f64::from).collect();
    let mut psi = numbers("psi", &reference);
    fill(&mut *psi, &(0..200).map(f64::from).collect::<Vec<_>>());
    let empty = 0.5 / 200.0;
    let expected = 2.0 * 0.4 * libm::log(5.0) + 8.0 * (empty - 0.1) * libm::log(empty / 0.1);
    let statistic = psi.read().expect("a reading").statistic;
    assert!((statistic - expected).abs() < 1e-12, "{statistic} against {expected}");
}

#[test]
fn psi_sees_nulls_unseen_categories_and_rare_ones() {
    let psi = factory("psi", "");
    let mut nulls = psi.numbers(&(0..500).map(f64::from).collect::<Vec<_>>()).expect("numbers");
    fill(&mut *nulls, &[f64::NAN; 200]);
    assert_eq!(nulls.read().expect("a reading").level, Level::Drift);

    let reference: Vec<u64> = (0..1_000).map(|i| 1 + i % 4).collect();
    let read = |rows: &[u64]| {
        let mut categories = psi.categories(&reference).expect("categories");
        fill_categories(&mut *categories, rows);
        categories.read().expect("a reading")
    };
    assert_eq!(read(&reference).statistic, 0.0);
    assert_eq!(read(&[9; 200]).level, Level::Drift);
    assert_eq!(read(&[0; 200]).level, Level::Drift);
    // Sixty categories: the ten rarest share a bin with the unseen.
    let many: Vec<u64> = (1..=60u64).flat_map(|hash| vec![hash; 100 - hash as usize]).collect();
    let categories = psi.categories(&many).expect("categories");
    assert_eq!(categories.locate(51), categories.locate(999));
    assert_ne!(categories.locate(50), categories.locate(999));
}

// ---- laws of monitors

fn run(monitor: &mut dyn Monitor, values: &[f64]) -> Vec<usize> {
    let alarm = |(i, &x): (usize, &f64)| (monitor.update(x) == Level::Drift).then_some(i);
    values.iter().enumerate().filter_map(alarm).collect()
}

fn bernoulli(p0: f64, p1: f64, seed: u64) -> Vec<f64> {
    let mut draws = Draws::new(seed);
    let p = |i: usize| if i < 5_000 { p0 } else { p1 };
    (0..10_000).map(|i| f64::from(draws.uniform() < p(i))).collect()
}

#[test]
fn monitors_are_silent_on_a_constant_and_hold_its_value() {
    for name in monitors() {
        for constant in [0.0, 1.0, -3.5, 1e6] {
            let mut monitor = monitor(name, "direction = 'both'");
            assert_eq!(run(&mut *monitor, &[constant; 20_000]), [0usize; 0], "{name} {constant}");
            let off = (monitor.estimate() - constant).abs();
            assert!(off <= 1e-9 * constant.abs(), "{name} {constant}: off by {off}");
        }
    }
}

#[test]
fn monitors_pass_over_what_is_no_number() {
    for name in monitors() {
        let clean = bernoulli(0.2, 0.4, 1);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let mixed: Vec<f64> =
            clean.iter().enumerate().flat_map(|(i, &x)| [x, odd[i % 3]]).collect();
        let ours = run(&mut *monitor(name, ""), &mixed);
        let clean = run(&mut *monitor(name, ""), &clean);
        assert_eq!(ours.iter().map(|i| i / 2).collect::<Vec<_>>(), clean, "{name}");
        let mut huge = monitor(name, "");
        run(&mut *huge, &[1e308, -1e308, 1e308, 1e308].repeat(100));
        assert!(huge.estimate().is_finite(), "{name}");
        assert!(huge.restore(&huge.save()).is_ok(), "{name}");
    }
}

#[test]
fn a_step_is_found_in_the_direction_asked_for() {
    for name in monitors() {
        let rise = bernoulli(0.1, 0.5, 7);
        let fall: Vec<f64> = rise.iter().map(|x| 1.0 - x).collect();
        for (direction, up, down) in
            [("up", true, false), ("down", false, true), ("both", true, true)]
        {
            let keys = format!("direction = '{direction}'");
            for (values, wanted) in [(&rise, up), (&fall, down)] {
                let alarms = run(&mut *monitor(name, &keys), values);
                assert_eq!(!alarms.is_empty(), wanted, "{name} {direction} {alarms:?}");
                assert!(
                    alarms.first().is_none_or(|&i| (5_000..5_500).contains(&i)),
                    "{name} {alarms:?}"
                );
            }
        }
    }
}

#[test]
fn a_saved_state_goes_on_where_it_was() {
    for name in monitors() {
        let values = bernoulli(0.2, 0.4, 5);
        for cut in [0, 1, 31, 777, 5_100, 5_260] {
            let mut whole = monitor(name, "");
            run(&mut *whole, &values[..cut]);
            let text = whole.save().to_string();
            let mut other = monitor(name, "");
            run(&mut *other, &[0.5; 99]);
            other.restore(&serde_json::from_str(&text).expect("JSON")).expect("its own state");
            let rest = &values[cut..];
            assert_eq!(run(&mut *whole, rest), run(&mut *other, rest), "{name} at {cut}");
            assert_eq!(whole.save(), other.save(), "{name} at {cut}");
            assert_eq!(whole.estimate().to_bits(), other.estimate().to_bits(), "{name} at {cut}");
            whole.reset();
            assert_eq!(whole.save(), monitor(name, "").save(), "{name}: reset is fresh");
        }
        assert!(monitor(name, "").restore(&serde_json::json!({"width": 3})).is_err(), "{name}");
    }
}

#[test]
fn adwin_alarms_where_moa_does() {
    for case in golden("detectors.jsonl") {
        let part = |key: &str| case[key].as_f64().expect("a number");
        let values = bernoulli(part("p0"), part("p1"), part("seed") as u64);
        let ones = values.iter().sum::<f64>();
        assert_eq!(ones, part("ones"), "the stream is the one that MOA and River saw");
        let theirs: Vec<usize> = case["adwin_moa"]
            .as_array()
            .expect("positions")
            .iter()
            .map(|i| i.as_u64().expect("a position") as usize)
            .collect();
        assert_eq!(run(&mut *monitor("adwin", "direction = 'up'"), &values), theirs);
        let both = run(&mut *monitor("adwin", ""), &values);
        assert_eq!(both.first(), theirs.first());
        assert_eq!(both[0] as f64, part("adwin_river_first"));
    }
}

#[test]
fn page_hinkley_alarms_first_where_river_does() {
    for case in golden("detectors.jsonl") {
        let part = |key: &str| case[key].as_f64().expect("a number");
        let values = bernoulli(part("p0"), part("p1"), part("seed") as u64);
        let alarms = run(&mut *monitor("page_hinkley", ""), &values);
        assert_eq!(alarms[0] as f64, part("page_hinkley_river_first"));
    }
}

// ---- keys

#[test]
fn what_is_no_key_or_out_of_limits_is_refused() {
    let refused = |name: &str, keys: &str| {
        let section = section(name, keys);
        let errors = match entry(name).build {
            Build::Statistic(build) => build(&section).err(),
            Build::Monitor(build) => build(&section).err(),
        };
        errors.map_or(0, |errors| errors.len())
    };
    for detector in DETECTORS {
        assert_eq!(refused(detector.name, ""), 0, "{}", detector.name);
        assert_eq!(refused(detector.name, "no_such_key = 1"), 1, "{}", detector.name);
    }
    assert_eq!(refused("psi", "bins = 1\nthreshold = -1\nnothing = 0"), 3);
    assert_eq!(refused("adwin", "direction = 'sideways'\ndelta = 'x'"), 2);
}

// ---- cost

/// `cargo test --release -p tidemill-operators --test drift -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn costs() {
    let mut draws = Draws::new(11);
    let reference: Vec<f64> = (0..10_000).map(|_| draws.normal()).collect();
    let rows: Vec<f64> = (0..100_000).map(|_| draws.normal()).collect();
    let nanoseconds = |start: std::time::Instant, times: usize| {
        start.elapsed().as_secs_f64() * 1e9 / times as f64
    };
    for name in statistics() {
        let mut statistic = numbers(name, &reference);
        let start = std::time::Instant::now();
        let sum: u64 = rows.iter().map(|&x| u64::from(statistic.locate(x))).sum();
        eprintln!("{name}: locate {:.1} ns ({sum})", nanoseconds(start, rows.len()));
        let places: Vec<u32> = rows.iter().map(|&x| statistic.locate(x)).collect();
        let start = std::time::Instant::now();
        let mut worst = 0.0f64;
        let mut reading = std::time::Duration::ZERO;
        for (i, &at) in places.iter().enumerate() {
            statistic.insert(at);
            if i >= 6_000 {
                statistic.evict(places[i - 6_000]);
            }
            if i % 10 == 9 {
                let start = std::time::Instant::now();
                worst = worst.max(statistic.read().map_or(0.0, |r| r.statistic));
                reading += start.elapsed();
            }
        }
        let read = reading.as_secs_f64() * 1e9 / (rows.len() / 10) as f64;
        let update = nanoseconds(start, rows.len()) - read / 10.0;
        eprintln!(
            "{name}: read {read:.0} ns, insert and evict {update:.1} ns (largest {worst:.3})"
        );
    }
    for name in monitors() {
        let values: Vec<f64> = (0..1_000_000).map(|_| f64::from(draws.uniform() < 0.2)).collect();
        let mut monitor = monitor(name, "");
        let start = std::time::Instant::now();
        let alarms = run(&mut *monitor, &values).len();
        eprintln!("{name}: {:.1} ns a value ({alarms} alarms)", nanoseconds(start, values.len()));
    }
}
