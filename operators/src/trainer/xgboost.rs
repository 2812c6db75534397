//! XGBoost, by the Python package (Chen and Guestrin, KDD 2016): artifacts are its JSON models.

use serde_json::json;

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "xgboost",
    summary: "XGBoost, by the Python package",
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
