//! XGBoost, by the Python package (Chen and Guestrin, KDD 2016): artifacts are its JSON models.

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "xgboost",
    summary: "XGBoost, by the Python package",
    keys: package::BOOSTING,
    parameters: package::boosting,
    train: None,
};
