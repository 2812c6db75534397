//! `tidemill models`: what a registry holds.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tidemill_types::Error;
use tidemill_types::time::to_rfc3339;

use super::{Failure, Said};
use crate::models::registry::Registry;

/// What to do with a registry.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Lists every version of every model.
    List {
        /// The registry's folder.
        folder: PathBuf,
    },
    /// Shows one version with its lineage.
    #[command(after_help = "Example:
  tidemill models show out/flight_delays/models trees 3")]
    Show {
        /// The registry's folder.
        folder: PathBuf,
        /// The model.
        model: String,
        /// The version.
        version: u64,
    },
}

/// Runs one command.
pub(super) fn run(command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { folder } => {
            let registry = open(folder)?;
            let mut text = String::new();
            let mut all = Vec::new();
            for model in registry.models()? {
                for version in registry.list(&model)? {
                    text.push_str(&format!(
                        "{model:<20} {:>5}  {}  {:>9} rows  {}\n",
                        version.version,
                        to_rfc3339(version.since),
                        version.lineage.rows,
                        &version.artifact[..12.min(version.artifact.len())]
                    ));
                    all.push(version);
                }
            }
            Ok(Said { text, json: json!({ "versions": all }) })
        }
        Command::Show { folder, model, version } => {
            let (found, artifact) = open(folder)?.get(&model, version)?;
            let json = json!({ "version": found, "artifact_bytes": artifact.len() });
            let text = serde_json::to_string_pretty(&json)
                .map_err(|e| Error::internal(format!("a version cannot be shown: {e}")))?;
            Ok(Said { text: text + "\n", json })
        }
    }
}

fn open(folder: PathBuf) -> Result<Registry, Error> {
    if !folder.is_dir() {
        return Err(Error::user(format!("there is no registry at {}", folder.display()))
            .help("name the folder `models` of a run's output"));
    }
    Registry::open(folder)
}
