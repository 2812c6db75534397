//! Runs of pipelines whose columns are lists and maps.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The program in a folder.
pub fn tidemill(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).current_dir(folder).output().expect("the program starts")
}

/// The features of a run by id, after all corrections.
pub fn run(folder: &Path, pipeline: &str, out: &str, more: &[&str]) -> BTreeMap<i64, String> {
    let args = [&["run", pipeline, "--quiet", "--folder", out][..], more].concat();
    let output = tidemill(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(folder.join(out).join("features.jsonl")).expect("features");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        let object = row.as_object_mut().expect("an object");
        let diff = object.remove("diff").and_then(|d| d.as_i64()).unwrap_or(1);
        let (id, text) = (object["id"].as_i64().expect("an id"), row.to_string());
        match diff {
            1 => assert!(found.insert(id, text).is_none(), "row {id} is there twice"),
            _ => assert_eq!(found.remove(&id), Some(text), "row {id} was another"),
        }
    }
    found
}

/// Rows as lines of JSON.
pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The same as CSV; lists and maps are JSON in a field.
pub fn csv(names: &[&str], rows: &[Value]) -> String {
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        nested @ (Value::Array(_) | Value::Object(_)) => {
            format!("\"{}\"", nested.to_string().replace('"', "\"\""))
        }
        other => other.to_string(),
    };
    let line = |row: &Value| {
        let cells: Vec<String> = names.iter().map(|name| cell(&row[*name])).collect();
        cells.join(",") + "\n"
    };
    names.join(",") + "\n" + &rows.iter().map(line).collect::<String>()
}
