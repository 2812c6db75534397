//! Pipelines whose columns are lists and maps, and what is tried with each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::corrections::net;
use crate::shop::Server;

/// A pipeline over one file of rows with an `id`, which writes `features.jsonl` and `dead.jsonl`.
pub struct Pipeline {
    pub text: &'static str,
    /// Its source, which reads a file of that name.
    pub source: &'static str,
    /// The columns of the file, `id` first.
    pub names: &'static [&'static str],
}

/// The file of a pipeline.
const FILE: &str = "nested.toml";

impl Pipeline {
    fn lay(&self, folder: &Path, text: &str, rows: &str) {
        fs::write(folder.join(FILE), text).expect("written");
        fs::write(folder.join(format!("{}.jsonl", self.source)), rows).expect("written");
    }

    /// The features by id: the same from every format, with two workers and in `at_once`.
    pub fn everywhere(&self, rows: &[Value]) -> BTreeMap<i64, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, source) = (folder.path(), self.source);
        self.lay(folder, self.text, &lines(rows));
        fs::write(folder.join(format!("{source}.csv")), csv(self.names, rows)).expect("written");
        let wanted = run(folder, "json", &[]);
        assert_eq!(wanted.len(), rows.len());
        // The same rows by way of the columns of a feature table.
        let features = self.names[1..].iter().map(|name| format!("{name} = \"{name}\"\n"));
        let sink = |name: &str, format: &str| {
            format!(
                "[sink.{name}]\nof = \"features\"\ntype = \"file\"\npath = \"{source}.{format}\"\n"
            )
        };
        let copy = self.text.split("[windows]").next().expect("a beginning").to_string()
            + "[features]\n"
            + &features.collect::<String>()
            + &sink("features", "parquet")
            + &sink("again", "arrow");
        fs::write(folder.join("copy.toml"), copy).expect("written");
        let copied = tidemill(folder, &["run", "copy.toml", "--quiet", "--folder", "."]);
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let from = |format: &str| format!("source.{source}.path={source}.{format}");
        for (out, more) in [
            ("csv", &["--set", &from("csv")][..]),
            ("parquet", &["--set", &from("parquet")]),
            ("arrow", &["--set", &from("arrow"), "--workers", "2"]),
            ("two", &["--workers", "2", "--set", "pipeline.bundle=1"]),
            ("at_once", &["--set", "pipeline.mode=at_once", "--workers", "2"]),
        ] {
            let found = run(folder, out, more);
            assert!(found == wanted, "{out}: other features");
            let dead = fs::read_to_string(folder.join(out).join("dead.jsonl")).unwrap_or_default();
            assert_eq!(dead, "", "{out}");
        }
        wanted
    }

    /// Killed and started again, it writes the same bytes.
    pub fn outlives_kills(&self, rows: &[Value]) {
        let folder = tempfile::tempdir().expect("a folder");
        self.lay(folder.path(), self.text, &lines(rows));
        let done = tidemill(folder.path(), &["crash-test", FILE, "--kills", "3"]);
        assert!(done.status.success(), "{}", told(&done));
    }

    /// Among these rows there are more, which go to the dead letters and change no feature: their lines, and what
    /// is said of them.
    pub fn dead_letters(&self, rows: &[Value], more: &str) -> Vec<(u64, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        self.lay(folder, self.text, &lines(rows));
        let wanted = run(folder, "good", &[]);
        self.lay(folder, self.text, more);
        assert!(run(folder, "bad", &[]) == wanted);
        let dead = fs::read_to_string(folder.join("bad/dead.jsonl")).expect("dead letters");
        let dead: Vec<Value> =
            dead.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(dead.iter().all(|d| d["reason"] == "type" && d["source"] == self.source));
        let detail = |d: &Value| d["detail"].as_str().expect("a detail").to_string();
        let mut told: Vec<(u64, String)> =
            dead.iter().map(|d| (d["offset"].as_u64().expect("a line"), detail(d))).collect();
        told.sort_unstable();
        told
    }

    /// It serves the features of such entities. `text` is its own, or that with changes.
    pub fn serve(&self, folder: &Path, text: &str, entity: &str, rows: &[Value]) -> Server {
        let online = format!("[online]\nentity = \"{entity}\"\n\n[windows]");
        self.lay(folder, &text.replace("[windows]", &online), &lines(rows));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(["run", FILE, "--linger", "--serve", "127.0.0.1:0"]).current_dir(folder);
        Server::start(command)
    }

    /// Each text, put in the place of another, is an error that says what is wanted.
    pub fn refuses(&self, cases: &[(&str, &str, &str)]) {
        let folder = tempfile::tempdir().expect("a folder");
        for (from, to, wanted) in cases {
            assert!(self.text.contains(from), "{from}");
            self.lay(folder.path(), &self.text.replacen(from, to, 1), "");
            let output = tidemill(folder.path(), &["check", FILE]);
            let told = told(&output);
            assert!(!output.status.success() && told.contains(wanted), "{to}: {told}");
        }
    }
}

/// The status, the wanted features of an entity where a request gives a column, and the whole answer.
pub fn ask<const N: usize>(
    server: &Server,
    [key, entity]: [&str; 2],
    wanted: [&str; N],
    [column, value]: [Value; 2],
) -> (u16, [Value; N], String) {
    let column = column.as_str().expect("a name");
    let body = json!({
        "entities": {key: [entity]},
        "features": &wanted[..],
        "request_context": {column: [value]},
    });
    let (status, answer) = server.post("/get-online-features", &body);
    let names = answer["metadata"]["feature_names"].as_array().cloned().unwrap_or_default();
    let value = |name: &str| {
        let at = names.iter().position(|known| known == name)?;
        Some(answer["results"][at]["values"][0].clone())
    };
    (status, wanted.map(|name| value(name).unwrap_or_default()), answer.to_string())
}

/// The program in a folder.
fn tidemill(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).current_dir(folder).output().expect("the program starts")
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The features of a run by id, after all corrections.
fn run(folder: &Path, out: &str, more: &[&str]) -> BTreeMap<i64, String> {
    let args = [&["run", FILE, "--quiet", "--folder", out][..], more].concat();
    let output = tidemill(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    net(&folder.join(out).join("features.jsonl")).0
}

/// Rows as lines of JSON.
pub fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The same as CSV; lists and maps are JSON in a field.
fn csv(names: &[&str], rows: &[Value]) -> String {
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
