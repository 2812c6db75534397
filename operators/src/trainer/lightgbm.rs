//! LightGBM, by the Python package (Ke and others, NeurIPS 2017): artifacts are its text models.

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "lightgbm",
    summary: "LightGBM, by the Python package",
    keys: package::BOOSTING,
    parameters: package::boosting,
    train: None,
};
