//! The keys of `type = "gradient_boosting"`.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::Section;

/// How to train. The defaults suit some 100,000 rows of a tabular stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// The most trees.
    pub trees: usize,
    /// The most leaves of a tree.
    pub leaves: usize,
    /// The most questions from root to leaf; 0 for no limit.
    pub depth: usize,
    /// What each tree's step is multiplied by.
    pub learning_rate: f64,
    /// The fewest rows of a leaf.
    pub min_rows_per_leaf: usize,
    /// The smallest sum of second derivatives of a leaf.
    pub min_hessian: f64,
    /// What a split must gain in log loss, summed over the leaf's rows and doubled.
    pub min_gain: f64,
    /// Added to a leaf's sum of second derivatives.
    pub l2: f64,
    /// The share of the inputs that a tree may use.
    pub feature_fraction: f64,
    /// The share of the rows that a tree sees.
    pub bagging_fraction: f64,
    /// The most bins of an input, that of NULL included.
    pub max_bins: usize,
    /// Pulls rare categories towards 0 in the order by gradient; rarer ones are not sorted at all.
    pub category_smoothing: f64,
    /// `l2` for splits of more than four categories, in addition.
    pub category_l2: f64,
    /// The most categories on the smaller side of a split.
    pub category_limit: usize,
    /// The fewest rows by which two candidate splits on a category differ.
    pub category_min_rows: usize,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            trees: 150,
            leaves: 31,
            depth: 0,
            learning_rate: 0.05,
            min_rows_per_leaf: 200,
            min_hessian: 0.001,
            min_gain: 0.0,
            l2: 0.0,
            feature_fraction: 1.0,
            bagging_fraction: 1.0,
            max_bins: 255,
            category_smoothing: 10.0,
            category_l2: 10.0,
            category_limit: 32,
            category_min_rows: 100,
        }
    }
}

/// `(key, type and default, meaning)`.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("trees", "integer, 150", "the most trees"),
    ("leaves", "integer, 31", "the most leaves of a tree"),
    ("depth", "integer, 0", "the most questions from root to leaf; 0 for no limit"),
    ("learning_rate", "float, 0.05", "what each tree's step is multiplied by"),
    ("min_rows_per_leaf", "integer, 200", "the fewest rows of a leaf"),
    ("min_hessian", "float, 0.001", "the smallest sum of second derivatives of a leaf"),
    ("min_gain", "float, 0", "what a split must gain at least"),
    ("l2", "float, 0", "added to a leaf's sum of second derivatives"),
    ("feature_fraction", "float, 1", "the share of the inputs that a tree may use"),
    ("bagging_fraction", "float, 1", "the share of the rows that a tree sees"),
    ("max_bins", "integer, 255", "the most bins of an input, that of NULL included"),
    ("category_smoothing", "float, 10", "pulls rare categories towards 0 when they are sorted"),
    ("category_l2", "float, 10", "`l2` for splits of more than four categories, in addition"),
    ("category_limit", "integer, 32", "the most categories on the smaller side of a split"),
    ("category_min_rows", "integer, 100", "the fewest rows between two candidate splits"),
];

/// A number's place and the values that are allowed.
enum Slot<'a> {
    Integer(&'a mut usize, RangeInclusive<usize>),
    Float(&'a mut f64, RangeInclusive<f64>),
}

impl Parameters {
    /// Reads a task's parameters; what is absent has its default.
    pub fn from_json(json: &Json) -> Result<Parameters, String> {
        let mut parameters: Parameters =
            serde_json::from_value(json.clone()).map_err(|e| format!("parameters: {e}"))?;
        for (key, ..) in KEYS {
            let outside = match parameters.slot(key) {
                Some(Slot::Integer(value, range)) if !range.contains(value) => describe(&range),
                Some(Slot::Float(value, range)) if !range.contains(value) => describe(&range),
                _ => continue,
            };
            return Err(format!("parameters: `{key}` must be {outside}"));
        }
        Ok(parameters)
    }

    /// Where a key's value is kept; nothing for a key that does not exist.
    fn slot(&mut self, key: &str) -> Option<Slot<'_>> {
        use Slot::{Float, Integer};
        const MANY: usize = 1_000_000_000;
        Some(match key {
            "trees" => Integer(&mut self.trees, 1..=100_000),
            "leaves" => Integer(&mut self.leaves, 2..=4096),
            "depth" => Integer(&mut self.depth, 0..=4096),
            "learning_rate" => Float(&mut self.learning_rate, 1e-6..=1.0),
            "min_rows_per_leaf" => Integer(&mut self.min_rows_per_leaf, 1..=MANY),
            "min_hessian" => Float(&mut self.min_hessian, 1e-6..=1e9),
            "min_gain" => Float(&mut self.min_gain, 0.0..=1e9),
            "l2" => Float(&mut self.l2, 0.0..=1e9),
            "feature_fraction" => Float(&mut self.feature_fraction, 1e-6..=1.0),
            "bagging_fraction" => Float(&mut self.bagging_fraction, 1e-6..=1.0),
            "max_bins" => Integer(&mut self.max_bins, 3..=255),
            "category_smoothing" => Float(&mut self.category_smoothing, 0.0..=1e9),
            "category_l2" => Float(&mut self.category_l2, 0.0..=1e9),
            "category_limit" => Integer(&mut self.category_limit, 1..=255),
            "category_min_rows" => Integer(&mut self.category_min_rows, 1..=MANY),
            _ => return None,
        })
    }
}

/// Reads the section's keys into the JSON of [`Parameters`], reporting every error.
pub fn read(section: &Section) -> Result<Json, Vec<Diagnostic>> {
    let mut parameters = Parameters::default();
    let mut errors = Vec::new();
    for (key, value) in &section.keys {
        let Some(slot) = parameters.slot(&key.value) else {
            errors.push(unknown(&key.span, &key.value));
            continue;
        };
        if let Err(expected) = put(slot, value.value.as_integer(), value.value.as_float()) {
            let message = format!("`{}` must be {expected}", key.value);
            let help = format!("write {expected}, or leave it out for the default");
            errors.push(Diagnostic::new(
                &value.span,
                message,
                format!("this is {}", value.kind()),
                help,
            ));
        }
    }
    if errors.is_empty() {
        serde_json::to_value(parameters).map_err(|e| {
            vec![Diagnostic::new(&section.span, "parameters cannot be written", e.to_string(), "")]
        })
    } else {
        Err(errors)
    }
}

/// Stores a value, or says what was expected.
fn put(slot: Slot<'_>, integer: Option<i64>, float: Option<f64>) -> Result<(), String> {
    match slot {
        Slot::Integer(place, range) => {
            let integer = integer.and_then(|i| usize::try_from(i).ok());
            *place = integer
                .filter(|i| range.contains(i))
                .ok_or_else(|| format!("an integer {}", describe(&range)))?;
        }
        Slot::Float(place, range) => {
            *place = float
                .or(integer.map(|i| i as f64))
                .filter(|f| range.contains(f))
                .ok_or_else(|| format!("a number {}", describe(&range)))?;
        }
    }
    Ok(())
}

fn describe<T: std::fmt::Display>(range: &RangeInclusive<T>) -> String {
    format!("from {} to {}", range.start(), range.end())
}

fn unknown(span: &std::ops::Range<usize>, key: &str) -> Diagnostic {
    let near = KEYS
        .iter()
        .map(|(known, ..)| (strsim::damerau_levenshtein(known, key), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3);
    let names: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
    let help = match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("its keys are {}", names.join(", ")),
    };
    Diagnostic::new(span, format!("unknown key `{key}`"), "gradient_boosting has no such key", help)
}
