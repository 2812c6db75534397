//! The JSON Schema of pipeline files: what is shipped is what the program prints, takes every
//! pipeline that the program takes, and refuses what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[path = "support/python.rs"]
mod python;

const SHIPPED: &str = "config/pipeline.schema.json";
const FLIGHTS: &str = "config/pipelines/flight_delays.toml";

fn tidemill(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the validator of Python's jsonschema finds wrong with each file.
fn errors(files: &[PathBuf]) -> Value {
    let done = python::command("schema", include_str!("schema/requirements.txt"))
        .arg(here().join("tests/schema/check.py"))
        .arg(here().join(SHIPPED))
        .args(files)
        .output()
        .expect("python starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("one JSON object")
}

fn errors_of<'a>(errors: &'a Value, file: &Path) -> &'a [Value] {
    errors[file.to_str().expect("UTF-8")].as_array().expect("a list of errors")
}

/// `TIDEMILL_BLESS=1` rewrites what is shipped.
#[test]
fn the_schema_that_is_shipped_is_the_one_that_is_printed() {
    let printed = tidemill(here(), &["schema"]);
    let path = here().join(SHIPPED);
    if std::env::var_os("TIDEMILL_BLESS").is_some() {
        fs::write(&path, &printed).expect("written");
    }
    let shipped = fs::read(&path).expect(SHIPPED);
    assert!(shipped == printed, "write it anew: tidemill schema > {SHIPPED}");
}

#[test]
fn pipelines_that_are_sound_fit_the_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = vec![here().join(FLIGHTS)];
    for template in ["files", "kafka"] {
        tidemill(folder.path(), &["new", template, "--template", template]);
        files.push(folder.path().join(template).join(format!("{template}.toml")));
    }
    let errors = errors(&files);
    for file in files {
        let found = errors_of(&errors, &file);
        assert!(found.is_empty(), "{}: {found:#?}", file.display());
    }
}

#[test]
fn what_is_wrong_does_not_fit_the_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = fs::read_to_string(here().join(FLIGHTS)).expect("the flights");
    let wrongs = [
        ("spine = \"departures\"\n", "spin = \"departures\"\n"),
        ("tick  = \"5m\"", "tick = 5"),
        ("tick  = \"5m\"", "tick = \"5 minutes\""),
        ("type = \"file\"", "type = \"fail\""),
        ("[source.departures]", "[source.departures]\ntopic = \"t\""),
        ("[windows]", "[windows]\n\"a b\" = { by = [], rows = 1 }"),
        ("[windows]", "[windows]\nw = { by = [], rows = 0 }"),
        ("trees = 150", "trees = \"many\""),
        ("[score]", "[scores]"),
        ("\"ks\"", "\"kss\""),
    ];
    let files: Vec<PathBuf> = wrongs
        .iter()
        .enumerate()
        .map(|(n, (right, wrong))| {
            let text = sound.replacen(right, wrong, 1);
            assert_ne!(text, sound, "{right} is not in {FLIGHTS}");
            let file = folder.path().join(format!("{n}.toml"));
            fs::write(&file, text).expect("written");
            file
        })
        .collect();
    let errors = errors(&files);
    for (file, (_, wrong)) in files.iter().zip(wrongs) {
        assert!(!errors_of(&errors, file).is_empty(), "{wrong} fits");
    }
}

/// Sources, sinks, learners and detectors; a trainer reads its keys from the list itself.
#[test]
fn components_ask_for_the_keys_that_the_schema_gives_them() {
    let schema: Value = serde_json::from_slice(&tidemill(here(), &["schema"])).expect("JSON");
    let tables = &schema["properties"];
    let of = |table: &str| tables[table]["additionalProperties"]["anyOf"].clone();
    let detect = &tables["drift"]["additionalProperties"]["properties"]["detect"];
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("p.toml");
    let mut seen = 0;
    for (table, section, rest) in [
        ("[source.x]", of("source"), "schema = { a = \"int64\" }\nevent_time = \"a\""),
        ("[model.m]", of("model"), "label = \"l\""),
        ("[sink.scores]", of("sink"), ""),
        ("[drift.d]\nof = \"loss\"\n[[drift.d.detect]]", detect["anyOf"][0]["anyOf"].clone(), ""),
    ] {
        for component in section.as_array().expect("components") {
            let Some(properties) = component["properties"].as_object() else { continue };
            if properties.contains_key("retrain") {
                continue;
            }
            let kind = &properties["type"]["const"];
            fs::write(&file, format!("{BASE}{table}\ntype = {kind}\nnonsense = 1\n{rest}\n"))
                .expect("written");
            let mut wanted: Vec<&str> = properties.keys().map(String::as_str).collect();
            if table == "[model.m]" {
                // Read for every model; a learner that has them is refused for having them.
                wanted.extend(["gate", "promote", "retrain", "rollout", "training"]);
            }
            wanted.sort_unstable();
            assert_eq!(
                told(&file),
                format!("the keys are {}", wanted.join(", ")),
                "{table} {kind}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen} components were asked");
}

const BASE: &str = r#"
[pipeline]
name = "p"
spine = "s"
[source.s]
type = "file"
path = "s.csv"
schema = { a = "int64", t = "timestamp" }
event_time = "t"
id = "a"
[label.l]
over = "s"
value = "a > 1"
wait = "1d"
[features]
f = "a + 1"
"#;

/// What the program says of the key that it does not know.
fn told(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["check", "--output", "json"])
        .arg(file)
        .output()
        .expect("the program starts");
    let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let errors = said["errors"].as_array().expect("errors");
    let about = |e: &&Value| e["message"].as_str().is_some_and(|m| m.contains("`nonsense`"));
    let error = errors.iter().find(about).unwrap_or_else(|| panic!("{said:#}"));
    error["reason"].as_str().expect("a reason").to_string()
}
