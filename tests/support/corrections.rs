//! What a file of features says after all corrections.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Features by id, and how many were taken back. A row that is taken back must have been there.
pub fn net(file: &Path) -> (BTreeMap<i64, String>, usize) {
    let (mut found, mut corrected) = (BTreeMap::new(), 0);
    for line in fs::read_to_string(file).expect("features").lines() {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        let object = row.as_object_mut().expect("an object");
        let diff = object.remove("diff").and_then(|d| d.as_i64()).expect("diff");
        let (id, text) = (object["id"].as_i64().expect("an id"), row.to_string());
        if diff == 1 {
            assert!(found.insert(id, text).is_none(), "row {id} is there twice");
        } else {
            corrected += 1;
            assert_eq!(found.remove(&id), Some(text), "row {id} was another");
        }
    }
    (found, corrected)
}
