//! Online logistic regression: AdaGrad on standardised numbers and hashed categories.
//!
//! The margin is  b + sum over numbers of (w z, or v where the number is NULL) + sum over
//! categories of u[hash(column, category)], with z = (x - mean) / deviation, kept within `clip` on
//! either side. A label moves every weight that took part by  -rate g / sqrt(G + 1e-8), g its
//! gradient of the log loss and G the sum of its squared gradients (Duchi, Hazan, Singer 2011):
//! each weight has a rate of its own, which falls as it learns. Mean and deviation are running ones
//! (Welford 1962); they take a row in before its gradient is computed, and never from a row that is
//! only scored.
//!
//! **Margins of other models.** An input whose name ends in `.margin` is not standardised: it starts with
//! weight 1 and is kept within 35 on either side. With all other weights at 0 the model starts as
//! the model it reads, and whatever it learns is a correction; so the learning rate is a tenth by
//! default where there is such an input, and `l2` draws its weight to 1 instead of 0. What corrects a
//! margin is not what stands in for it: rows with a margin and rows without one (until that model has a
//! version) have weights of their own, and share mean and deviation.
//!
//! Never NaN: infinite numbers are NULL, the others are cut at 1e100; errors are within 1 and
//! inputs within their clip, so that no step is longer than the rate; squares are only added.
//!
//! Cost: per number about five multiplications to score, two square roots and four divisions more
//! to learn; one cache line per category. 16 bytes times 2^`bits` if there are categories.

use std::sync::Arc;

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;
use tidemill_types::key;

use super::bytes::{Reader, Writer};
use super::{Entry, Learner};
use crate::predictor::{Inputs, Row, probability};

pub(super) const ENTRY: Entry = Entry {
    name: "logistic_regression",
    summary: "online logistic regression: AdaGrad, running standardisation, hashed categories",
    keys: &[
        (
            "learning_rate",
            "float, 0.05",
            "step of a new weight; 0.005 by default beside another model's margin",
        ),
        ("l2", "float, 0", "draws weights to where they started, at each row they take part in"),
        ("bits", "integer, 18", "categories share a table of 2^bits weights, 1 to 26"),
        ("clip", "float, 8", "standardised numbers are kept within this many deviations"),
    ],
    build,
};

const FORMAT: &[u8; 4] = b"LRG2";

/// Rows without and with the margin of another model.
const SIDES: usize = 2;

/// What keeps the first step finite.
const EPSILON: f64 = 1e-8;

/// Numbers are cut here before they are squared.
const LARGEST: f64 = 1e100;

/// Margins of other models are kept within this: beyond it a probability is 0 or 1 but for
/// rounding.
const MARGIN_LIMIT: f64 = 35.0;

fn build(section: &Section, inputs: &Inputs) -> Result<Box<dyn Learner>, Vec<Diagnostic>> {
    let corrects = inputs.numbers.iter().any(|name| is_margin(name));
    let mut keys = section.params();
    let rate = keys.float("learning_rate", if corrects { 0.005 } else { 0.05 }, 0.0..=10.0);
    let l2 = keys.float("l2", 0.0, 0.0..=1.0);
    let bits = keys.integer("bits", 18, 1..=26) as u32;
    let clip = keys.float("clip", 8.0, 0.5..=1e6);
    keys.finish()?;
    Ok(Box::new(LogisticRegression::new(inputs, rate, l2, bits, clip)))
}

fn is_margin(name: &str) -> bool {
    name.ends_with(".margin")
}

/// A weight and the sum of its squared gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Weight {
    value: f64,
    squares: f64,
}

impl Weight {
    /// Goes down the gradient.
    fn step(&mut self, rate: f64, gradient: f64) {
        self.squares += gradient * gradient;
        self.value -= rate * gradient / libm::sqrt(self.squares + EPSILON);
    }

    fn is_new(self) -> bool {
        self.value.to_bits() == 0 && self.squares.to_bits() == 0
    }
}

/// What is kept about a number.
#[derive(Clone, Debug)]
struct Number {
    weight: [Weight; SIDES],
    /// In place of the weighted number where that is NULL.
    missing: [Weight; SIDES],
    count: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    spread: f64,
    /// 1 / deviation; 0 as long as there is none; follows from count and spread.
    scale: f64,
    limit: f64,
    /// The weight it started with.
    origin: f64,
    /// Another model's margin, which is taken as it is.
    margin: bool,
}

impl Number {
    fn new(name: &str, clip: f64) -> Number {
        let margin = is_margin(name);
        let origin = if margin { 1.0 } else { 0.0 };
        Number {
            weight: [Weight { value: origin, squares: 0.0 }; SIDES],
            missing: [Weight::default(); SIDES],
            count: 0.0,
            mean: 0.0,
            spread: 0.0,
            scale: origin,
            limit: if margin { MARGIN_LIMIT } else { clip },
            origin,
            margin,
        }
    }

    /// The standardised number.
    fn standard(&self, x: f64) -> f64 {
        let x = x.clamp(-LARGEST, LARGEST);
        ((x - self.mean) * self.scale).clamp(-self.limit, self.limit)
    }

    /// Takes a number into mean and deviation.
    fn observe(&mut self, x: f64) {
        if self.margin {
            return;
        }
        let x = x.clamp(-LARGEST, LARGEST);
        self.count += 1.0;
        let off = x - self.mean;
        self.mean += off / self.count;
        self.spread += off * (x - self.mean);
        self.rescale();
    }

    fn rescale(&mut self) {
        if !self.margin {
            let deviation = libm::sqrt(self.spread / self.count.max(1.0));
            self.scale = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
        }
    }
}

#[derive(Clone)]
struct LogisticRegression {
    rate: f64,
    l2: f64,
    bits: u32,
    /// Tells whether a saved state belongs to these inputs.
    fingerprint: u64,
    bias: [Weight; SIDES],
    numbers: Vec<Number>,
    categories: usize,
    /// 2^bits weights for each side that can occur, or none where there are no categories.
    table: [Vec<Weight>; SIDES],
    learnt: u64,
    /// The standardised numbers of the row being learnt; NaN for NULL.
    standard: Vec<f64>,
}

impl LogisticRegression {
    fn new(inputs: &Inputs, rate: f64, l2: f64, bits: u32, clip: f64) -> LogisticRegression {
        let names = format!("{}\n\n{}", inputs.numbers.join("\n"), inputs.categories.join("\n"));
        let numbers: Vec<Number> = inputs.numbers.iter().map(|n| Number::new(n, clip)).collect();
        let corrects = numbers.iter().any(|number| number.margin);
        let cells =
            |wanted: bool| if wanted && !inputs.categories.is_empty() { 1 << bits } else { 0 };
        LogisticRegression {
            rate,
            l2,
            bits,
            fingerprint: key::category(&names),
            bias: [Weight::default(); SIDES],
            numbers,
            categories: inputs.categories.len(),
            table: [true, corrects].map(|wanted| vec![Weight::default(); cells(wanted)]),
            learnt: 0,
            standard: vec![f64::NAN; inputs.numbers.len()],
        }
    }

    /// Where the weight of a column's category stands. NULL has one too.
    fn cell(&self, column: usize, category: u64) -> usize {
        let mut h = category ^ (column as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (h >> (64 - self.bits)) as usize
    }

    /// Which weights a row has to do with.
    fn side(&self, row: &Row<'_>) -> usize {
        let corrects = |(number, x): (&Number, &f64)| number.margin && x.is_finite();
        usize::from(self.numbers.iter().zip(row.numbers).any(corrects))
    }

    fn of_categories(&self, side: usize, categories: &[u64]) -> f64 {
        let weight = |(column, &category)| self.table[side][self.cell(column, category)].value;
        categories.iter().take(self.categories).enumerate().map(weight).sum()
    }
}

impl Learner for LogisticRegression {
    fn margin(&self, row: Row<'_>) -> f64 {
        let side = self.side(&row);
        let mut margin = self.bias[side].value;
        for (number, &x) in self.numbers.iter().zip(row.numbers) {
            margin += if x.is_finite() {
                number.weight[side].value * number.standard(x)
            } else {
                number.missing[side].value
            };
        }
        margin + self.of_categories(side, row.categories)
    }

    fn learn(&mut self, row: Row<'_>, label: f64) {
        if !label.is_finite() {
            return;
        }
        let side = self.side(&row);
        let mut margin = self.bias[side].value;
        for ((number, z), &x) in self.numbers.iter_mut().zip(&mut self.standard).zip(row.numbers) {
            if x.is_finite() {
                number.observe(x);
                *z = number.standard(x);
                margin += number.weight[side].value * *z;
            } else {
                *z = f64::NAN;
                margin += number.missing[side].value;
            }
        }
        margin += self.of_categories(side, row.categories);
        let error = probability(margin) - label.clamp(0.0, 1.0);

        self.bias[side].step(self.rate, error);
        for (number, &z) in self.numbers.iter_mut().zip(&self.standard) {
            if z.is_nan() {
                let missing = &mut number.missing[side];
                missing.step(self.rate, error + self.l2 * missing.value);
            } else {
                let pull = self.l2 * (number.weight[side].value - number.origin);
                number.weight[side].step(self.rate, error * z + pull);
            }
        }
        for (column, &category) in row.categories.iter().take(self.categories).enumerate() {
            let cell = self.cell(column, category);
            let weight = &mut self.table[side][cell];
            weight.step(self.rate, error + self.l2 * weight.value);
        }
        self.learnt += 1;
    }

    fn learnt(&self) -> u64 {
        self.learnt
    }

    fn snapshot(&self) -> Arc<dyn Learner> {
        Arc::new(self.clone())
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::new(FORMAT);
        out.whole(self.fingerprint);
        out.whole(u64::from(self.bits));
        out.whole(self.learnt);
        let put = |out: &mut Writer, weights: &[Weight]| {
            for weight in weights {
                out.float(weight.value);
                out.float(weight.squares);
            }
        };
        put(&mut out, &self.bias);
        for number in &self.numbers {
            put(&mut out, &number.weight);
            put(&mut out, &number.missing);
            out.float(number.count);
            out.float(number.mean);
            out.float(number.spread);
        }
        // Of the table only what was ever touched: most of it never is.
        for table in &self.table {
            let used = || table.iter().enumerate().filter(|(_, weight)| !weight.is_new());
            out.whole(used().count() as u64);
            for (cell, weight) in used() {
                out.whole(cell as u64);
                put(&mut out, &[*weight]);
            }
        }
        out.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let mut state = Reader::new(state, FORMAT)?;
        if state.whole()? != self.fingerprint {
            return Err("the state was learnt on other inputs".into());
        }
        if state.whole()? != u64::from(self.bits) {
            return Err("the state was learnt with other `bits`".into());
        }
        let learnt = state.whole()?;
        let weight = |state: &mut Reader<'_>| -> Result<Weight, String> {
            let (value, squares) = (state.float()?, state.float()?);
            if squares < 0.0 {
                return Err("a sum of squares is negative".into());
            }
            Ok(Weight { value, squares })
        };
        let both = |state: &mut Reader<'_>| Ok::<_, String>([weight(state)?, weight(state)?]);
        let bias = both(&mut state)?;
        let mut numbers = self.numbers.clone();
        for number in &mut numbers {
            (number.weight, number.missing) = (both(&mut state)?, both(&mut state)?);
            (number.count, number.mean) = (state.float()?, state.float()?);
            number.spread = state.float()?;
            if number.count < 0.0 || number.spread < 0.0 {
                return Err("a count or a sum of squares is negative".into());
            }
            number.rescale();
        }
        let mut tables = self.table.each_ref().map(|table| vec![Weight::default(); table.len()]);
        for table in &mut tables {
            for _ in 0..state.whole()? {
                let cell = usize::try_from(state.whole()?).map_err(|e| e.to_string())?;
                let cell = table.get_mut(cell).ok_or("a weight stands outside of the table")?;
                *cell = weight(&mut state)?;
            }
        }
        state.finish()?;
        (self.learnt, self.bias, self.numbers, self.table) = (learnt, bias, numbers, tables);
        Ok(())
    }
}
