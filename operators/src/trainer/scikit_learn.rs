//! scikit-learn, by the Python package: a logistic regression, whose artifacts are of our linear form.

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "scikit_learn",
    summary: "scikit-learn's logistic regression, by the Python package",
    keys: &[package::PARAMS],
    parameters: |section| package::read(section, |_, _| {}),
    train: None,
};
