//! A trainer of the user's own, in Python: a module with a function `train`.

use serde_json::json;

use super::{Entry, package};

/// The entry of the list.
pub const ENTRY: Entry = Entry {
    name: "python",
    summary: "a Python module of your own, called by the Python package",
    keys: KEYS,
    parameters: |section| {
        package::read(section, |p, out| {
            let module = p.text("module");
            out.insert("module".to_string(), json!(module.value));
        })
    },
    train: None,
};

const KEYS: &[(&str, &str, &str)] = &[
    ("module", "text", "its name on the path of the runner, \"my_team.fraud\" for example"),
    package::PARAMS,
];
