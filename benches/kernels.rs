//! What single components cost, walking the lists: `cargo bench --bench kernels`.
//!
//! Each figure is the median of five runs over the same made-up rows, on one thread.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use tidemill_config::section::Section;
use tidemill_operators::drift::{Build, DETECTORS};
use tidemill_operators::learner::LEARNERS;
use tidemill_operators::predictor::{Inputs, PREDICTORS, Row};
use tidemill_operators::trainer::{TRAINERS, TrainingSet};

const ROWS: usize = 50_000;
const NUMBERS: usize = 40;
const CATEGORIES: usize = 3;

/// Numbers that look random and are the same each time (SplitMix64), from 0 to 1.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Nanoseconds an operation takes: median of five.
fn measure(operations: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e9 / operations as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn say(what: &str, nanoseconds: f64) {
    println!("{what:<44}{nanoseconds:>12.1} ns{:>16.0}/s", 1e9 / nanoseconds);
}

fn main() {
    let mut chance = Chance(1);
    let numbers: Vec<f64> = (0..ROWS * NUMBERS).map(|_| chance.next()).collect();
    let categories: Vec<u64> =
        (0..ROWS * CATEGORIES).map(|_| 1 + (chance.next() * 50.0) as u64).collect();
    let labels: Vec<f64> = (0..ROWS)
        .map(|row| f64::from(u8::from(numbers[row * NUMBERS] + 0.5 * chance.next() > 1.0)))
        .collect();
    let names = |n: usize, kind: &str| (0..n).map(|i| format!("{kind}{i}")).collect::<Vec<_>>();
    let inputs = Inputs { numbers: names(NUMBERS, "n"), categories: names(CATEGORIES, "c") };
    let row = |r: usize| Row {
        numbers: &numbers[r * NUMBERS..(r + 1) * NUMBERS],
        categories: &categories[r * CATEGORIES..(r + 1) * CATEGORIES],
    };
    println!("{ROWS} rows of {NUMBERS} numbers and {CATEGORIES} categories\n");
    for entry in LEARNERS {
        let section = Section::bare(entry.name);
        let mut learner = (entry.build)(&section, &inputs).expect("no keys are needed");
        say(
            &format!("{}: score and learn a row", entry.name),
            measure(ROWS, || {
                for (r, label) in labels.iter().enumerate() {
                    std::hint::black_box(learner.margin(row(r)));
                    learner.learn(row(r), *label);
                }
            }),
        );
    }
    for entry in TRAINERS {
        // Those of the Python package are measured by its libraries.
        let Some(train) = entry.train else { continue };
        let column = |i: usize| (0..ROWS).map(|r| numbers[r * NUMBERS + i]).collect();
        let coded = |i: usize| (0..ROWS).map(|r| categories[r * CATEGORIES + i]).collect();
        let set = TrainingSet {
            inputs: inputs.clone(),
            numbers: (0..NUMBERS).map(column).collect(),
            categories: (0..CATEGORIES).map(coded).collect(),
            labels: labels.clone(),
        };
        let keys = (entry.parameters)(&Section::bare(entry.name)).expect("no keys are needed");
        let mut trained = None;
        let time = measure(ROWS, || trained = Some(train(&set, &keys, 1, 1)));
        say(&format!("{}: train, a row", entry.name), time);
        let bytes = trained.and_then(Result::ok).expect("a model").bytes;
        let reader = PREDICTORS.iter().find(|p| p.name == entry.name).expect("its reader");
        let model = (reader.load)(&bytes, &inputs).expect("its own artifact");
        let mut margins = Vec::new();
        let time = measure(ROWS, || {
            margins.clear();
            model.margins(ROWS, &numbers, &categories, &mut margins);
        });
        say(&format!("{}: score a row of many", entry.name), time);
    }
    let reference: Vec<f64> = numbers[..10_000].to_vec();
    for entry in DETECTORS {
        let section = Section::bare(entry.name);
        match entry.build {
            Build::Monitor(build) => {
                let mut monitor = build(&section).expect("no keys are needed");
                let time = measure(ROWS, || {
                    for x in &numbers[..ROWS] {
                        std::hint::black_box(monitor.update(*x));
                    }
                });
                say(&format!("{}: a value", entry.name), time);
            }
            Build::Statistic(build) => {
                let factory = build(&section).expect("no keys are needed");
                let Some(mut statistic) = factory.numbers(&reference) else { continue };
                let time = measure(ROWS, || {
                    for x in &numbers[..ROWS] {
                        let at = statistic.locate(*x);
                        statistic.insert(at);
                    }
                });
                say(&format!("{}: count a value", entry.name), time);
                let time = measure(1_000, || {
                    for _ in 0..1_000 {
                        std::hint::black_box(statistic.read());
                    }
                });
                say(&format!("{}: read", entry.name), time);
            }
        }
    }
}
