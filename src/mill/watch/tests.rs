//! Drift read ahead is drift read in time.

use tidemill_config::plan::At;
use tidemill_config::section::Section;
use tidemill_types::{DataType, Field, Id};

use super::*;

const HOUR: Micros = 100;

/// A column of numbers, one of categories, and the score.
fn watch() -> Watch {
    let field = |name: &str, data_type| Field::new(name, data_type);
    let plan = DriftPlan {
        name: At::nowhere("inputs".to_string()),
        of: DriftOf::Inputs { features: vec![0, 1], score: true },
        named: Vec::new(),
        detect: vec![Section::bare("psi"), Section::bare("ks")],
        model: Some(0),
        reference_rows: 100,
        window: 5 * HOUR,
        every: HOUR,
    };
    let fields = vec![field("a", DataType::Float64), field("b", DataType::String)];
    Watch::new(&plan, &Schema { fields }).unwrap()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn reference(dice: &mut Dice) -> Reference {
    let mut numbers: Vec<f64> = (0..80).map(|_| dice.below(9) as f64).collect();
    let mut scores: Vec<f64> = (0..80).map(|_| dice.below(100) as f64 / 100.0).collect();
    let mut categories: Vec<u64> = (0..80).map(|_| dice.below(4)).collect();
    numbers.sort_by(f64::total_cmp);
    scores.sort_by(f64::total_cmp);
    categories.sort_unstable();
    Reference {
        numbers: vec![numbers],
        categories: vec![categories],
        scores,
        separation: Vec::new(),
    }
}

fn rows(dice: &mut Dice, from: Micros, hours: i64) -> Matrix {
    let n = dice.below(40) as usize;
    let mut times: Vec<Micros> =
        (0..n).map(|_| from + dice.below((hours * HOUR) as u64) as Micros).collect();
    times.sort_unstable();
    Matrix {
        ids: (0..n as i64).map(Id::Int).collect(),
        width: 1,
        numbers: (0..n).map(|_| dice.below(12) as f64).collect(),
        depth: 1,
        categories: (0..n).map(|_| dice.below(6)).collect(),
        times,
        ..Matrix::empty()
    }
}

#[test]
fn reading_ahead_tells_what_reading_in_time_tells() {
    let mut told = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (mut ahead, mut in_time) = (watch(), watch());
        let mut begin = 0;
        for _ in 0..8 {
            let hours = 1 + dice.below(6) as i64;
            let end = begin + hours * HOUR;
            let bundle = rows(&mut dice, begin, hours);
            ahead.bundle(&bundle);
            in_time.bundle(&bundle);
            let mut next = 0;
            for now in (begin..end).step_by(HOUR as usize) {
                if dice.below(8) == 0 {
                    let reference = reference(&mut dice);
                    ahead.refer_to(&reference, true, true);
                    in_time.refer_to(&reference, true, true);
                }
                let later: Vec<Micros> = (now + HOUR..end).step_by(HOUR as usize).collect();
                let (a, b) = (ahead.read(now, &later), in_time.read(now, &[]));
                assert_eq!(format!("{a:?}"), format!("{b:?}"), "seed {seed} at {now}");
                told += a.len();
                while bundle.times.get(next).is_some_and(|time| *time < now + HOUR) {
                    let refused = dice.below(30) == 0;
                    let score = dice.below(100) as f64 / 100.0;
                    for watch in [&mut ahead, &mut in_time] {
                        if refused { watch.refused() } else { watch.scored(score, true) }
                    }
                    next += 1;
                }
            }
            assert_eq!(
                format!("{:?}", ahead.take_largest()),
                format!("{:?}", in_time.take_largest())
            );
            begin = end;
        }
    }
    assert!(told > 1_000, "only {told} readings said anything");
}
