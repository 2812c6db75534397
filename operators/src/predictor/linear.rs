//! Our own linear form: what a logistic regression of any library can be written as.
//!
//! ```json
//! {"format":"tidemill.linear","version":1,"intercept":-1.2,
//!  "numbers":[{"name":"x","mean":0.5,"scale":2.0,"weight":0.3,"null":-0.1}],
//!  "categories":[{"name":"city","weights":[["Oslo",0.4],["Rome",-0.2]]}]}
//! ```
//!
//! A number adds (x - mean) / scale x weight, or `null`; a category the weight of its value, or nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidemill_types::key::category;

use super::ensemble::{by_gain, same_inputs};
use super::{Entry, Inputs, Predictor, Row};

/// The entry of the list.
pub const ENTRY: Entry =
    Entry { name: "linear", summary: "Weights of numbers and of values of categories", load };

#[derive(Deserialize)]
struct Form {
    format: String,
    version: u64,
    intercept: f64,
    numbers: Vec<Number>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Number {
    name: String,
    mean: f64,
    scale: f64,
    weight: f64,
    null: f64,
}

#[derive(Deserialize)]
struct Category {
    name: String,
    weights: Vec<(String, f64)>,
}

struct Linear {
    form: Form,
    weights: Vec<BTreeMap<u64, f64>>,
}

fn load(bytes: &[u8], inputs: &Inputs) -> Result<Box<dyn Predictor>, String> {
    let form: Form =
        serde_json::from_slice(bytes).map_err(|e| format!("not of the linear form: {e}"))?;
    if form.format != "tidemill.linear" || form.version != 1 {
        return Err(format!("{} of version {} is not known", form.format, form.version));
    }
    let trained = Inputs {
        numbers: form.numbers.iter().map(|n| n.name.clone()).collect(),
        categories: form.categories.iter().map(|c| c.name.clone()).collect(),
    };
    same_inputs(&trained, inputs)?;
    let scaled = |n: &Number| [n.mean, 1.0 / n.scale, n.weight, n.null];
    let values = form.numbers.iter().flat_map(scaled).chain([form.intercept]);
    let mut values =
        values.chain(form.categories.iter().flat_map(|c| c.weights.iter().map(|w| w.1)));
    if !values.all(f64::is_finite) {
        return Err("a weight is not finite, or a scale is 0".to_string());
    }
    let table = |c: &Category| c.weights.iter().map(|(value, w)| (category(value), *w)).collect();
    let weights = form.categories.iter().map(table).collect();
    Ok(Box::new(Linear { form, weights }))
}

impl Predictor for Linear {
    fn margin(&self, row: Row<'_>) -> f64 {
        assert_eq!(row.numbers.len(), self.form.numbers.len(), "a row of other inputs");
        let numbers = self.form.numbers.iter().zip(row.numbers);
        let numbers = numbers.map(|(n, x)| match x.is_nan() {
            true => n.null,
            false => (x.clamp(-1e100, 1e100) - n.mean) / n.scale * n.weight,
        });
        let categories = self.weights.iter().zip(row.categories);
        let categories = categories.map(|(w, hash)| w.get(hash).copied().unwrap_or(0.0));
        let sum = numbers.chain(categories).fold(self.form.intercept, |sum, part| sum + part);
        // Two infinities of different sign, from weights beyond all reason.
        if sum.is_nan() { 0.0 } else { sum }
    }

    /// By the largest weight of each input, in units of its spread.
    fn importance(&self) -> Vec<(String, f64)> {
        let trained = Inputs {
            numbers: self.form.numbers.iter().map(|n| n.name.clone()).collect(),
            categories: self.form.categories.iter().map(|c| c.name.clone()).collect(),
        };
        let largest =
            |weights: &BTreeMap<u64, f64>| weights.values().fold(0.0_f64, |m, w| m.max(w.abs()));
        let numbers = self.form.numbers.iter().map(|n| n.weight.abs());
        let gains: Vec<f64> = numbers.chain(self.weights.iter().map(largest)).collect();
        by_gain(&trained, &gains)
    }
}
