//! `tidemill models`: what a registry holds, how far each version has come, and what to do with it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value as Json, json};
use tidemill_types::model::ModelVersion;
use tidemill_types::time::to_rfc3339;
use tidemill_types::{Error, Micros};

use super::{Failure, Said};
use crate::models::history::{Histories, History, folders};
use crate::models::registry::Registry;
use crate::models::report;

mod mlflow;
mod order;

/// What to do with a registry.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Lists every version of every model, and how far it has come.
    #[command(after_help = "Example:
  tidemill models list out/flight_delays")]
    List {
        /// The run's folder.
        folder: PathBuf,
    },
    /// Shows one version: where it comes from, what the gate found, what happened to it.
    #[command(after_help = "Examples:
  tidemill models show out/flight_delays trees 3
  tidemill models show out/flight_delays trees champion")]
    Show {
        /// The run's folder.
        folder: PathBuf,
        /// The model.
        model: String,
        /// The version, or an alias: champion, challenger, previous.
        version: String,
    },
    /// Shows in what two versions differ.
    #[command(after_help = "Example:
  tidemill models diff out/flight_delays trees previous champion")]
    Diff {
        /// The run's folder.
        folder: PathBuf,
        /// The model.
        model: String,
        /// A version or an alias.
        one: String,
        /// Another.
        other: String,
    },
    /// Puts a version in charge.
    #[command(after_help = "Example:
  tidemill models promote out/flight_delays trees 3 --why 'the promotion of July'

A run that is up does it at its next epoch; otherwise the next run does, once it has come to the end of
what its journal says. It is journaled with who and why.")]
    Promote {
        #[command(flatten)]
        order: order::Options,
        /// The version, or an alias.
        version: String,
    },
    /// Takes the version in charge back.
    #[command(after_help = "Examples:
  tidemill models rollback out/flight_delays trees --why 'it refuses everybody'
  tidemill models rollback out/flight_delays trees 2

Without a version, the one before is in charge again; where there is none, a fallback serves.")]
    Rollback {
        #[command(flatten)]
        order: order::Options,
        /// The version, or an alias; the one before if it is not given.
        version: Option<String>,
    },
    /// Approves a version, for a gate that requires approvals.
    #[command(after_help = "Example:
  TIDEMILL_TOKEN=... tidemill models approve out/flight_delays trees 3 --as ann

Each person counts once.")]
    Approve {
        #[command(flatten)]
        order: order::Options,
        /// The version, or an alias.
        version: String,
    },
    /// Trains a model anew on what is known now.
    #[command(after_help = "Example:
  tidemill models retrain out/flight_delays trees --why 'the new carrier is in the data'

It counts against the budget of the day. While a training is under way it waits, and a newer trigger takes
its place.")]
    Retrain {
        #[command(flatten)]
        order: order::Options,
    },
    /// Lets a person give orders to a run, and prints their token.
    #[command(after_help = "Example:
  tidemill models people out/flight_delays ann --role approver

From the first person on, the run takes orders only with a token: in TIDEMILL_TOKEN, with --as NAME.")]
    People {
        /// The run's folder.
        folder: PathBuf,
        /// Who.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: crate::models::people::Role,
    },
    /// Gives a version a name of your own.
    Alias {
        /// The run's folder.
        folder: PathBuf,
        /// The model.
        model: String,
        /// The name.
        alias: String,
        /// The version; without it the name is taken away.
        version: Option<u64>,
    },
    /// Registers every version on an MLflow server, and sets its aliases there.
    #[command(after_help = "Example:
  tidemill models push out/flight_delays trees --server http://127.0.0.1:5000")]
    Push {
        /// The run's folder.
        folder: PathBuf,
        /// The model.
        model: String,
        #[command(flatten)]
        server: mlflow::Server,
    },
    /// Fetches the version that an alias on an MLflow server stands for.
    #[command(after_help = "Example:
  tidemill models pull out/flight_delays trees --server http://127.0.0.1:5000 --promote

With --promote, who sets the alias `champion` on the server chooses the version that the run serves.")]
    Pull {
        #[command(flatten)]
        order: order::Options,
        /// The alias on the server.
        #[arg(long, default_value = "champion")]
        alias: String,
        /// Puts the version in charge.
        #[arg(long)]
        promote: bool,
        #[command(flatten)]
        server: mlflow::Server,
    },
    /// Removes artifacts that no version refers to.
    Gc {
        /// The run's folder.
        folder: PathBuf,
        /// Only says what it would remove.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs one command.
pub(super) fn run(command: Command) -> Result<Said, Failure> {
    match command {
        Command::List { folder } => list(&folder),
        Command::Show { folder, model, version } => show(&folder, &model, &version),
        Command::Diff { folder, model, one, other } => diff(&folder, &model, &one, &other),
        Command::Promote { order, version } => order::promote(&order, &version),
        Command::Rollback { order, version } => order::roll_back(&order, version.as_deref()),
        Command::Approve { order, version } => order::approve(&order, &version),
        Command::Retrain { order } => order::retrain(&order),
        Command::People { folder, name, role } => order::people(&folder, &name, role),
        Command::Alias { folder, model, alias, version } => {
            let models = Models::open(&folder)?;
            models.registry.alias(&model, &alias, version)?;
            let text = match version {
                Some(version) => format!("{alias} is version {version} of {model}\n"),
                None => format!("{model} has no {alias} any more\n"),
            };
            Ok(Said { text, json: json!({ "model": model, "alias": alias, "version": version }) })
        }
        Command::Push { folder, model, server } => mlflow::push(&folder, &model, &server),
        Command::Pull { order, alias, promote, server } => {
            mlflow::pull(&order, &alias, promote, &server)
        }
        Command::Gc { folder, dry_run } => {
            let (run, _) = folders(&folder)?;
            if crate::journal::in_use(&run.join("journal")) {
                let why = format!("a run writes to {}", run.display());
                return Err(Error::user(why).help("stop it first").into());
            }
            let removed = Models::open(&folder)?.registry.collect(dry_run)?;
            let bytes: u64 = removed.iter().map(|(_, bytes)| bytes).sum();
            let did = if dry_run { "would be removed" } else { "removed" };
            let text = format!("{} artifacts {did}, {bytes} bytes\n", removed.len());
            Ok(Said { text, json: json!({ "artifacts": removed.len(), "bytes": bytes }) })
        }
    }
}

/// A registry and what its run's journal says.
struct Models {
    registry: Registry,
    histories: Histories,
}

impl Models {
    fn open(folder: &Path) -> Result<Models, Error> {
        let (run, models) = folders(folder)?;
        if !models.is_dir() {
            return Err(Error::user(format!("there is no registry at {}", models.display())).help(
                "name the folder of a run that has made a version, or the folder `models` in it",
            ));
        }
        Ok(Models { registry: Registry::open(models)?, histories: Histories::of_run(&run)? })
    }

    /// Refuses a model that has no version.
    fn known(&self, model: &str) -> Result<(), Error> {
        if self.registry.numbers(model)?.is_empty() {
            let all = self.registry.models()?;
            return Err(Error::user(format!("no version of a model `{model}` is in the registry"))
                .help(format!("there are versions of: {}", all.join(", "))));
        }
        Ok(())
    }

    /// Names of a version: the run's and the user's.
    fn aliases(&self, model: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut all = self.registry.aliases(model)?;
        all.extend(self.histories.aliases(model));
        Ok(all.into_iter().collect())
    }

    /// A number, or what an alias stands for.
    fn version(&self, model: &str, text: &str) -> Result<u64, Error> {
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        let aliases = self.aliases(model)?;
        let found = aliases.iter().find(|(name, _)| name == text).map(|(_, number)| *number);
        found.ok_or_else(|| {
            let names: Vec<&str> = aliases.iter().map(|(name, _)| name.as_str()).collect();
            Error::user(format!("model {model} has no version called `{text}`")).help(
                match names.is_empty() {
                    true => "give its number; `tidemill models list` shows them".to_string(),
                    false => format!("give its number, or one of {}", names.join(", ")),
                },
            )
        })
    }
}

/// An event time for people, to the minute.
fn minute(time: Micros) -> String {
    if time == Micros::MIN {
        return "the beginning".to_string();
    }
    let text = to_rfc3339(time);
    text.get(..16).map_or(text.clone(), |text| text.replace('T', " "))
}

/// A number for people: whole ones without a point.
fn plain(value: f64) -> String {
    if value == value.trunc() { format!("{value:.0}") } else { format!("{value:.6}") }
}

/// The beginning of a hash, which tells it from others; `--output json` has all of it.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Rows of equal columns; numbers to the right where `right` says so.
fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |c: usize| {
        let cells = rows.iter().map(|row| row[c].chars().count());
        cells.chain([head[c].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let all = cells.iter().enumerate().map(|(c, cell)| match right.contains(&c) {
            true => format!("{cell:>width$}", width = widths[c]),
            false => format!("{cell:<width$}", width = widths[c]),
        });
        format!("{}\n", all.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head: Vec<String> = head.iter().map(|h| h.to_uppercase()).collect();
    line(&head) + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn stage(history: &History) -> String {
    match history.stage {
        crate::models::history::Stage::Canary => {
            format!("canary {:.0} %", history.share * 100.0)
        }
        stage => stage.name().to_string(),
    }
}

fn list(folder: &Path) -> Result<Said, Failure> {
    let models = Models::open(folder)?;
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for model in models.registry.models()? {
        let aliases = models.aliases(&model)?;
        for version in models.registry.list(&model)? {
            let history = models.histories.get(&model, version.version);
            let names: Vec<&str> = aliases
                .iter()
                .filter(|(_, number)| *number == version.version)
                .map(|(name, _)| name.as_str())
                .collect();
            rows.push(vec![
                model.clone(),
                version.version.to_string(),
                stage(&history),
                names.join(", "),
                minute(version.since),
                version.lineage.rows.to_string(),
                version.lineage.trigger.clone(),
                short(&version.artifact).to_string(),
            ]);
            let mut json = json!(version);
            json["stage"] = json!(history.stage);
            json["share"] = json!(history.share);
            json["aliases"] = json!(names);
            json["approvals"] = json!(history.approvals);
            all.push(json);
        }
    }
    let head = ["model", "version", "stage", "aliases", "since", "rows", "trigger", "artifact"];
    let text = match rows.is_empty() {
        true => "no model has a version yet\n".to_string(),
        false => table(&head, &[1, 5], &rows),
    };
    Ok(Said { text, json: json!({ "versions": all }) })
}

/// What is known of a version, name by name.
fn facts(version: &ModelVersion, history: &History, bytes: usize) -> Vec<(String, String)> {
    let lineage = &version.lineage;
    let span = |(from, to): (Micros, Micros)| format!("{} to {}", minute(from), minute(to));
    let charge = history.charge.iter().map(|(from, to)| match to {
        Some(to) => span((*from, *to)),
        None => format!("{} on", minute(*from)),
    });
    let mut facts = vec![
        ("kind", version.kind.clone()),
        ("since", minute(version.since)),
        ("in charge", charge.collect::<Vec<_>>().join(", ")),
        ("approved by", history.approvals.join(", ")),
        ("trigger", lineage.trigger.clone()),
        ("rows", lineage.rows.to_string()),
        ("labels", span(lineage.labels)),
        ("schema", short(&lineage.schema).to_string()),
        ("task", short(&lineage.task).to_string()),
        ("seed", lineage.seed.to_string()),
        ("artifact", format!("{} ({bytes} bytes)", short(&version.artifact))),
        ("tidemill", lineage.tidemill.clone()),
    ];
    facts.retain(|(_, fact)| !fact.is_empty());
    let own = |(name, fact): (&str, String)| (name.to_string(), fact);
    let mut facts: Vec<(String, String)> = facts.into_iter().map(own).collect();
    if let Json::Object(parameters) = &history.parameters {
        facts.extend(parameters.iter().map(|(k, v)| (format!("parameter {k}"), v.to_string())));
    }
    facts.extend(version.metrics.iter().map(|(k, v)| (format!("metric {k}"), plain(*v))));
    let offset = |(name, offset): &(String, u64)| (format!("offset {name}"), offset.to_string());
    facts.extend(lineage.offsets.iter().map(offset));
    facts
}

fn show(folder: &Path, model: &str, version: &str) -> Result<Said, Failure> {
    let models = Models::open(folder)?;
    let number = models.version(model, version)?;
    let (found, artifact) = models.registry.get(model, number)?;
    let history = models.histories.get(model, number);
    let kept = models.registry.report(model, number)?;
    let report = kept.map(|bytes| report::open(&bytes, report::key().as_deref())).transpose()?;
    let mut text = format!("{model} version {number}: {}\n\n", stage(&history));
    for (name, fact) in facts(&found, &history, artifact.len()) {
        text += &format!("{name:<28}  {fact}\n");
    }
    if let Some((report, seal)) = &report {
        text += &format!("\nGATE ({})\n", seal.name());
        let row = |check: &crate::journal::record::Check| {
            vec![
                check.name.clone(),
                if check.passed { "passed" } else { "FAILED" }.to_string(),
                plain(check.value),
                plain(check.limit),
                check.detail.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = report.checks.iter().map(row).collect();
        text += &table(&["check", "", "found", "limit", "where"], &[2, 3], &rows);
    }
    if !history.events.is_empty() {
        text += "\nHISTORY\n";
        for event in &history.events {
            text += &format!("{}  {}\n", minute(event.at), event.what);
        }
    }
    let json = json!({
        "version": found,
        "history": history,
        "report": report.as_ref().map(|(report, _)| report),
        "seal": report.as_ref().map(|(_, seal)| seal.name()),
        "artifact_bytes": artifact.len(),
    });
    Ok(Said { text, json })
}

fn diff(folder: &Path, model: &str, one: &str, other: &str) -> Result<Said, Failure> {
    let models = Models::open(folder)?;
    let of = |version: &str| -> Result<_, Error> {
        let number = models.version(model, version)?;
        let (found, artifact) = models.registry.get(model, number)?;
        Ok((number, facts(&found, &models.histories.get(model, number), artifact.len())))
    };
    let ((a, ours), (b, theirs)) = (of(one)?, of(other)?);
    let mut names: Vec<&String> = ours.iter().map(|(name, _)| name).collect();
    names.extend(theirs.iter().map(|(name, _)| name).filter(|n| !ours.iter().any(|o| o.0 == **n)));
    let fact = |facts: &[(String, String)], name: &str| {
        facts.iter().find(|(n, _)| n == name).map_or("-".to_string(), |(_, fact)| fact.clone())
    };
    let rows: Vec<Vec<String>> = names
        .into_iter()
        .map(|name| vec![name.clone(), fact(&ours, name), fact(&theirs, name)])
        .filter(|row| row[1] != row[2])
        .collect();
    let differences: Vec<Json> =
        rows.iter().map(|row| json!({ "name": row[0], "one": row[1], "other": row[2] })).collect();
    let heads = [format!("version {a}"), format!("version {b}")];
    let text = match rows.is_empty() {
        true => format!("versions {a} and {b} of {model} are the same\n"),
        false => table(&[model, heads[0].as_str(), heads[1].as_str()], &[], &rows),
    };
    Ok(Said { text, json: json!({ "one": a, "other": b, "differences": differences }) })
}
