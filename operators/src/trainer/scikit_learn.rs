//! scikit-learn, by the Python package: artifacts of a logistic regression are of our linear form, those of
//! trees are ONNX.

use serde_json::json;

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "scikit_learn",
    summary: "scikit-learn's logistic regression and trees, by the Python package",
    keys: KEYS,
    parameters: |section| {
        package::read(section, |p, out| {
            let estimator = p.choice("estimator", ESTIMATORS[0], ESTIMATORS);
            out.insert("estimator".to_string(), json!(estimator));
        })
    },
    train: None,
};

const ESTIMATORS: &[&str] = &[
    "logistic_regression",
    "hist_gradient_boosting",
    "gradient_boosting",
    "random_forest",
    "extra_trees",
];

const KEYS: &[(&str, &str, &str)] = &[
    (
        "estimator",
        "\"logistic_regression\" or \"hist_gradient_boosting\" or \"gradient_boosting\" or \"random_forest\" or \
         \"extra_trees\", logistic_regression",
        "what is trained; trees read the codes of categories as numbers",
    ),
    package::PARAMS,
];
