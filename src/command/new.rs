//! `tidemill new`: a starter pipeline with data of its own, to be changed step by step.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;
use tidemill_types::Error;

use super::{Failure, Said, word};

const PIPELINE: &str = include_str!("new/pipeline.toml");
const LOAD: &str = include_str!("new/load.toml");
const ORDERS: &str = include_str!("new/orders.csv");
const PAYMENTS: &str = include_str!("new/payments.csv");

/// What to start from.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// The pipeline's name: letters, digits, `_` and `-`.
    name: String,
    /// Where to put it; a folder of its name if it is not given.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where its events come from.
    #[arg(long, value_enum, default_value_t = Template::Files)]
    template: Template,
}

/// Where a starter's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// CSV files beside the pipeline.
    Files,
    /// Kafka topics, and the files to fill them with.
    Kafka,
}

impl Template {
    /// The keys that say where a source's events come from.
    fn source(self, source: &str) -> String {
        match self {
            Template::Files => format!("type = \"file\"\npath = \"{source}.csv\""),
            Template::Kafka => format!(
                "type = \"kafka\"\nbrokers = \"${{BROKERS:-localhost:9092}}\"\n\
                 topic = \"NAME-{source}\"\n\
                 until = \"end\"               # without it: until the run is stopped"
            ),
        }
    }

    fn read_me(self) -> &'static str {
        match self {
            Template::Files => include_str!("new/files.md"),
            Template::Kafka => include_str!("new/kafka.md"),
        }
    }
}

/// Writes a starter.
pub(super) fn run(options: &Options) -> Result<Said, Failure> {
    let Options { name, template, .. } = options;
    check_name(name)?;
    let folder = options.folder.clone().unwrap_or_else(|| PathBuf::from(name));
    let files = files(name, *template);
    // All are looked for before the first is written, so that nothing is left half done.
    for (file, _) in &files {
        if fs::symlink_metadata(folder.join(file)).is_ok() {
            return Err(there_already(&folder.join(file)).into());
        }
    }
    fs::create_dir_all(&folder).map_err(|e| failed(&folder, &e))?;
    for (file, text) in &files {
        write_new(&folder.join(file), text)?;
    }
    Ok(said(&folder, &files[0].0, &files, options))
}

/// The files of a starter, the pipeline first.
fn files(name: &str, template: Template) -> Vec<(String, String)> {
    let named = |text: &str| text.replace("NAME", name);
    let pipeline = PIPELINE
        .replace("ORDERS", &template.source("orders"))
        .replace("PAYMENTS", &template.source("payments"));
    let mut files = vec![
        (format!("{name}.toml"), named(&pipeline)),
        ("orders.csv".to_string(), ORDERS.to_string()),
        ("payments.csv".to_string(), PAYMENTS.to_string()),
        ("README.md".to_string(), named(template.read_me())),
    ];
    if template == Template::Kafka {
        files.push(("load.toml".to_string(), LOAD.to_string()));
    }
    files
}

/// The rule for names in a pipeline file, asked before anything is written.
fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let refuse = |reason: &str, help: &str| {
        Err(Error::user(format!("`{name}` cannot be a pipeline's name: {reason}")).help(help))
    };
    if !begins || !name.chars().all(allowed) || name.len() > 63 {
        return refuse(
            "a name is 1 to 63 letters, digits, `_` or `-`, and begins with a letter or `_`",
            "choose such a name; --folder says where to put it",
        );
    }
    if name == "load" {
        return refuse("load.toml loads a starter's data into Kafka", "choose another name");
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<(), Error> {
    let made = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    made.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => there_already(path),
        _ => failed(path, &e),
    })
}

fn there_already(path: &Path) -> Error {
    Error::user(format!("{} is there already, and nothing is overwritten", path.display()))
        .help("choose another name, or another folder with --folder")
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::external(format!("cannot write {}: {error}", path.display()))
        .help("choose a folder that can be written to with --folder")
}

fn said(folder: &Path, pipeline: &str, files: &[(String, String)], options: &Options) -> Said {
    let path = |file: &str| folder.join(file);
    let mut text = String::new();
    for (file, _) in files {
        text += &format!("made {}\n", path(file).display());
    }
    let pipeline = path(pipeline);
    let mut next = vec![format!("tidemill check {}", word(&pipeline.display().to_string()))];
    if options.template == Template::Kafka {
        next.push(format!(
            "tidemill produce {} --brokers localhost:9092 --topic-prefix {}-",
            word(&path("load.toml").display().to_string()),
            options.name
        ));
    }
    next.push(format!("tidemill run {}", word(&pipeline.display().to_string())));
    text += "\nNext:\n";
    for command in &next {
        text += &format!("  {command}\n");
    }
    let made: Vec<PathBuf> = files.iter().map(|(file, _)| path(file)).collect();
    Said { text, json: json!({ "pipeline": pipeline, "files": made, "next": next }) }
}
