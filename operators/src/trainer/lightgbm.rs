//! LightGBM, by the Python package (Ke and others, NeurIPS 2017): artifacts are its text models.

use serde_json::json;

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "lightgbm",
    summary: "LightGBM, by the Python package",
    keys: KEYS,
    parameters: |section| {
        package::read(section, |p, out| {
            let rounds = p.integer("rounds", 150, 1..=100_000);
            out.insert("rounds".to_string(), json!(rounds));
        })
    },
    train: None,
};

const KEYS: &[(&str, &str, &str)] = &[("rounds", "1 to 100000, 150", "trees"), package::PARAMS];
