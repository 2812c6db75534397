//! `tidemill journal`: what a run has decided, and whether anybody has changed it since.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use tidemill_types::Error;

use super::{Failure, Said};
use crate::journal;

/// What to do with a journal.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Prints every record, one line each.
    Show {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// Checks every byte and the chain of hashes.
    #[command(after_help = "Example:
  tidemill journal verify out/flight_delays/journal

The head that it prints, kept elsewhere, proves later that no record was cut off.")]
    Verify {
        /// The journal's folder.
        folder: PathBuf,
    },
}

/// Runs one command.
pub(super) fn run(command: Command) -> Result<Said, Failure> {
    let (Command::Show { folder } | Command::Verify { folder }) = &command;
    is_one(folder)?;
    match command {
        Command::Show { folder } => {
            let mut text = String::new();
            let mut all = Vec::new();
            for entry in journal::records(&folder)? {
                let entry = entry?;
                let record = json!(entry.record);
                text.push_str(&format!("{:>8}  {}  {record}\n", entry.n, &entry.hash[..12]));
                all.push(json!({ "n": entry.n, "hash": entry.hash, "record": record }));
            }
            Ok(Said { text, json: json!({ "records": all }) })
        }
        Command::Verify { folder } => {
            let found = journal::verify(&folder)?;
            let torn = match found.torn_bytes {
                0 => String::new(),
                n => format!("; the last write was cut short: {n} bytes will be dropped"),
            };
            Ok(Said {
                text: format!(
                    "{}: whole: {} records in {} files, {} bytes{torn}\nhead {}\n",
                    folder.display(),
                    found.records,
                    found.files,
                    found.bytes,
                    found.head
                ),
                json: json!({
                    "whole": true,
                    "records": found.records,
                    "files": found.files,
                    "bytes": found.bytes,
                    "torn_bytes": found.torn_bytes,
                    "head": found.head,
                    "header": found.header,
                }),
            })
        }
    }
}

/// Whether there is a journal: of a folder that has none, nothing can be said to be whole.
fn is_one(folder: &Path) -> Result<(), Error> {
    if journal::exists(folder)? {
        return Ok(());
    }
    let inner = folder.join("journal");
    let cure = match journal::exists(&inner) {
        Ok(true) => format!("it is that of a run; its journal is in {}", inner.display()),
        _ => "give the folder `journal` in the folder of a run".to_string(),
    };
    Err(Error::user(format!("there is no journal in {}", folder.display())).help(cure))
}
